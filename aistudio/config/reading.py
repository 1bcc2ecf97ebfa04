"""Reads settings: YAML files and `--set section.key=value`, and nothing else reads YAML.

Every mistake is a ConfigError that names the file, the key and what would be right.
"""

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from aistudio.config.base import Settings
from aistudio.config.job import JobConfig
from aistudio.config.models import ModelConfig
from aistudio.config.train import TASKS, TrainSettings
from aistudio.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> JobConfig:
    """The job's settings from a YAML file and `section.key=value` overrides.

    Raises:
        ConfigError: file missing or not YAML, unknown or invalid setting; names file and key.
    """
    data = _read_yaml(Path(path))
    return parse_config(data, str(path), overrides)


def parse_config(data: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> JobConfig:
    """Validate a mapping (such as the config that a run recorded), overridden; `source` is the name in messages."""
    data = copy.deepcopy(data)
    for item in overrides:
        _apply_override(data, item)
    return _validate(JobConfig, data, source, overrides)


def load_model_config(path: str | Path) -> ModelConfig:
    """Settings of one model; `towers` may name other conf files. Raises ConfigError as `load_config` does."""
    data = _read_yaml(Path(path))
    towers = data.get("towers")
    if isinstance(towers, dict):
        data["towers"] = {key: _tower(value, f"{path}: towers.{key}") for key, value in towers.items()}
    return _validate(ModelConfig, data, str(path))


def _tower(value: Any, source: str) -> Any:
    """The settings of a tower. Raises ConfigError where it has towers of its own, which could name each other."""
    data = _read_yaml(Path(value)) if isinstance(value, str) else value
    if isinstance(data, dict) and data.get("towers"):
        raise ConfigError(f"{source}: {value} has towers of its own; a tower must be a model that stands alone")
    return data


def load_train_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read a training's settings, of the class that its `task` names.

    Raises:
        ConfigError: as `load_config`, and for a task that is not known.
    """
    data = _read_yaml(Path(path))
    for item in overrides:
        _apply_override(data, item)
    return parse_train_config(data, str(path))


def parse_train_config(data: dict[str, Any], source: str) -> TrainSettings:
    """Validate a mapping as a training's settings; `source` is the name in messages. Raises ConfigError."""
    task = data.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise ConfigError(f"{source}: task: expected one of {', '.join(TASKS)} (found {task!r})")
    return _validate(TASKS[task], data, source)


T = TypeVar("T", bound=Settings)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def _apply_override(data: dict[str, Any], item: str) -> None:
    key, eq, value = item.partition("=")
    if not eq or not key:
        raise ConfigError(f"--set {item}: expected section.key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {item}: the value is not valid YAML: {e}") from None
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"--set {item}: {'.'.join(parents)} is a value, not a section")
    node[last] = parsed


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
