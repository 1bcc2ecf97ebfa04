"""Reads settings: YAML files and `--set section.key=value`, and nothing else reads YAML.

Every mistake is a ConfigError that names the file, the key and what would be right. Settings that name places are in
their plain form afterwards (places.py). A relative path in a file means the working directory; where nothing is there
but something beside the file, that is taken and said; output then goes there too. A bare name means a conf that comes
with AI Studio (builtin/), as does the path of one where nothing else is found.
"""

import copy
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from aistudio import builtin
from aistudio.config.base import Settings
from aistudio.config.job import JobConfig
from aistudio.config.model_text import is_model_text, model_of_text
from aistudio.config.models import ModelConfig
from aistudio.config.train import TASKS, TrainSettings
from aistudio.config.train_grid import GRID, GridCell, GridRun, grid_cells
from aistudio.errors import ConfigError
from aistudio.places import BUCKETS, BadPlaceError, beside, is_relative, resolve_place

_LOCAL: tuple[str, ...] = ()
# Setting -> which addresses it may be beside a local path.
_JOB_PLACES: dict[str, tuple[str, ...]] = {
    "manifest.path": (*BUCKETS, "hf", "https", "http", "postgresql", "postgres"),
    "output": BUCKETS,
    "base": BUCKETS,
    "models.recall": _LOCAL,
    "models.ranking": _LOCAL,
    "models.encoders.*": _LOCAL,
    "models.poi_table": (*BUCKETS, "https", "http"),
    "metrics.qrels": BUCKETS,
    "metrics.pairs": BUCKETS,
}
_MODEL_PLACES: dict[str, tuple[str, ...]] = {
    "weights.path": _LOCAL,
    "extra_files.*.path": _LOCAL,
    "tokenizer": _LOCAL,
    "arch.model": _LOCAL,
    "arch.text_model": _LOCAL,
    "arch.text_weights": _LOCAL,
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> JobConfig:
    """The job's settings from a YAML file, or a built-in one by its name, and `section.key=value` overrides.

    Raises:
        ConfigError: file missing or not YAML, unknown or invalid setting; names file and key.
    """
    file = builtin.conf_path(path, builtin.JOBS)
    data = _read_yaml(file)
    overridden = {item.partition("=")[0] for item in overrides}
    _find_beside(data, [name for name in _JOB_PLACES if not {name, name.partition(".")[0]} & overridden], file)
    return parse_config(data, str(path), overrides)


def parse_config(data: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> JobConfig:
    """Validate a mapping (such as the config that a run recorded), overridden; `source` is the name in messages."""
    data = copy.deepcopy(data)
    for item in overrides:
        _apply_override(data, item)
    _resolve_places(data, _JOB_PLACES, source)
    return _validate(JobConfig, data, source, overrides)


def load_model_config(path: str | Path) -> ModelConfig:
    """Settings of one model: by its conf's path, built-in name or in one string (model_text.py).

    `towers` may name others. Raises as `load_config`.
    """
    data = model_of_text(str(path)) if is_model_text(path) else _model_data(builtin.conf_path(path))
    towers = data.get("towers")
    if isinstance(towers, dict):
        data["towers"] = {key: _tower(value, f"{path}: towers.{key}") for key, value in towers.items()}
    return _validate(ModelConfig, data, str(path))


def _model_data(path: Path) -> dict[str, Any]:
    data = _read_yaml(path)
    _find_beside(data, _MODEL_PLACES, path)
    _resolve_places(data, _MODEL_PLACES, str(path))
    return data


def _tower(value: Any, source: str) -> Any:
    """The settings of a tower. Raises ConfigError where it has towers of its own, which could name each other."""
    if is_model_text(value):
        return model_of_text(value)
    data = _model_data(builtin.conf_path(value)) if isinstance(value, str) else value
    if isinstance(data, dict) and data.get("towers"):
        raise ConfigError(f"{source}: {value} has towers of its own; a tower must be a model that stands alone")
    return data


def load_train_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read a training's settings, of the class that its `task` names.

    Raises:
        ConfigError: as `load_config`, and for a task that is not known.
    """
    [only, *more] = load_trainings(path, overrides)
    if more:
        raise ConfigError(f"{path}: grid: makes {len(more) + 1} trainings of it, where one is expected")
    return only.settings


def load_trainings(path: str | Path, overrides: Sequence[str] = ()) -> list[GridRun]:
    """Read a training's settings; with a section `grid` those of each training of the grid, else one without a name.

    Raises:
        ConfigError: as `load_train_config`, of any of them, and for a grid that is none.
    """
    data = _read_yaml(builtin.conf_path(path, builtin.TRAININGS))
    for item in overrides:
        _apply_override(data, item)
    cells = grid_cells(data, str(path))
    return [GridRun(c.name, c.values, parse_train_config(_cell_data(data, c), f"{path}{c.where}")) for c in cells]


def _cell_data(data: dict[str, Any], cell: GridCell) -> dict[str, Any]:
    own = copy.deepcopy({key: value for key, value in data.items() if key != GRID})
    for key, value in cell.values.items():
        _put(own, key, value, f"grid: {key}")
    if cell.name and isinstance(own.get("output"), str):
        own["output"] = f"{own['output'].rstrip('/')}/{cell.name}"
    return own


def parse_train_config(data: dict[str, Any], source: str) -> TrainSettings:
    """Validate a mapping as a training's settings; `source` is the name in messages. Raises ConfigError."""
    task = data.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise ConfigError(f"{source}: task: expected one of {', '.join(TASKS)} (found {task!r})")
    return _validate(TASKS[task], data, source)


T = TypeVar("T", bound=Settings)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = _load_once(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{path}: no such conf file{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from None
    except yaml.YAMLError as e:
        raise ConfigError(f"{path}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected settings as 'key: value', found {type(data).__name__}")
    return data


def _load_once(text: str, source: str) -> Any:
    """The data of a YAML text. Raises ConfigError where a key stands twice, of which YAML itself drops the first."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        _refuse_repeated_keys(root, source)
        return None if root is None else loader.construct_document(root)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


def _refuse_repeated_keys(root: yaml.Node | None, source: str) -> None:
    waiting: list[tuple[yaml.Node | None, str]] = [(root, "")]
    seen: set[int] = set()  # an alias is the same node again, perhaps within itself
    while waiting:
        node, path = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(child, f"{path}[{i}]") for i, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                name, line = f"{path}.{key.value}" if path else key.value, key.start_mark.line + 1
                if (first := lines.get((key.tag, key.value))) is not None:
                    raise ConfigError(f"{source}: {name} stands there twice (lines {first} and {line}); keep one")
                lines[key.tag, key.value] = line
                waiting.append((value, name))


def _say_where(conf: Path) -> Callable[..., None]:
    """Say on standard error where a relative path was found; nothing for built-in files of a built-in conf."""

    def say(name: str, text: str, found: str, verb: str = "is the one") -> None:
        if Path(found) == builtin.root() / text:
            near = "built into AI Studio"
        else:
            near = "beside this file" if Path(found) == conf.parent / text else "in the folder that holds conf"
        print(f"{conf}: {name}: {text} {verb} {near}: {found}", file=sys.stderr)

    return (lambda *_: None) if builtin.is_inside(conf) else say


def _find_beside(data: dict[str, Any], places: Iterable[str], conf: Path) -> None:
    """Replace relative paths that lead to nothing here by what lies beside the file, and say so.

    `output` goes where the manifest was found: a conf and its data are one folder, wherever the job is started.
    """
    manifests: list[str] = []  # folders, with a slash, that relative manifests were found below; "" is this one
    say = _say_where(conf)

    def find(text: str, name: str) -> str:
        if _names_model(name, text):
            return text
        found = builtin.instead(beside(text, conf.parent))
        if name == "manifest.path":
            manifests.append(found.removesuffix(text))
        if found != text:
            say(name, text, found)
        return found

    def follow(text: str, folder: str) -> str:
        if not is_relative(text):
            return text
        say("output", text, folder + text, "lies")
        return folder + text

    names = list(places)
    for name in names:
        if name != "output":
            _change(data, name.split("."), lambda text, name=name: find(text, name))  # type: ignore[misc]
    if "output" in names and len(set(manifests)) == 1 and manifests[0]:
        _change(data, ["output"], lambda text: follow(text, manifests[0]))


def _resolve_places(data: dict[str, Any], places: Mapping[str, tuple[str, ...]], source: str) -> None:
    for name, remote in places.items():
        try:
            _change(data, name.split("."), lambda text, name=name, remote=remote: _place(name, text, remote))  # type: ignore[misc]
        except BadPlaceError as e:
            raise ConfigError(f"{source}: {name}: {e}") from None


def _place(name: str, text: str, remote: tuple[str, ...]) -> str:
    return text.strip() if _names_model(name, text) else resolve_place(text, remote)


def _names_model(name: str, text: str) -> bool:
    return name.startswith("models.") and name != "models.poi_table" and is_model_text(text)


def _change(node: Any, keys: Sequence[str], change: Callable[[str], str]) -> None:
    """Replace the text, or each text of a list, at a dotted name; `*` is any key. What is not there is left alone."""
    if not isinstance(node, dict):
        return
    for key in list(node) if keys[0] == "*" else [keys[0]]:
        value = node.get(key)
        if len(keys) > 1:
            _change(value, keys[1:], change)
        elif isinstance(value, str):
            node[key] = change(value)
        elif isinstance(value, list):
            node[key] = [change(v) if isinstance(v, str) else v for v in value]


def _apply_override(data: dict[str, Any], item: str) -> None:
    key, eq, value = item.partition("=")
    if not eq or not key:
        raise ConfigError(f"--set {item}: expected section.key=value")
    try:
        parsed = _load_once(value, f"--set {item}")
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {item}: the value is not valid YAML: {e}") from None
    if parsed == "" and value.strip() in ("|", ">"):  # to YAML the head of a text block, to a user a separator
        parsed = value.strip()
    _put(data, key, parsed, f"--set {item}")


def _put(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set `section.key` to a value. Raises ConfigError where the section is none."""
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"{source}: {'.'.join(parents)} is a value, not a section")
    node[last] = value


def _validate(model: type[T], data: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> T:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise ConfigError(
            "\n".join(_explain(model, err, _source(err, source, overrides)) for err in e.errors())
        ) from None


def _source(err: Any, source: str, overrides: Sequence[str]) -> str:
    """Where the setting that is wrong was given: a `--set` before the file."""
    loc = [str(x) for x in err["loc"]]
    for item in reversed(overrides):
        parts = item.partition("=")[0].split(".")
        if parts == loc[: len(parts)] or loc == parts[: len(loc)]:
            return f"--set {item}"
    return source


def _explain(model: type[Settings], err: Any, source: str) -> str:
    loc = [str(x) for x in err["loc"]]
    key = ".".join(loc)
    if err["type"] == "extra_forbidden":
        fields = _fields_at(model, loc[:-1])
        near = difflib.get_close_matches(loc[-1], fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"
        return f"{source}: {key} is not a setting; {hint}"
    if err["type"] == "missing":
        return f"{source}: {key} is missing"
    return f"{source}: {key}: {err['msg'].removeprefix('Value error, ')} (found {err.get('input')!r})"


def _fields_at(model: type[Settings], loc: list[str]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Settings)):
            return []
        model = field.annotation
    return list(model.model_fields)
