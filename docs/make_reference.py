"""Writes the reference pages that are made from the code: settings, commands, run folder and statuses.

python docs/make_reference.py            # into docs/; `make docs` does it first
"""

import ast
import importlib
import inspect
import io
import re
import sys
import textwrap
import tokenize
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from aistudio import schema
from aistudio.config import DetectorSettings, HostSettings, JobConfig, ModelConfig, Settings, TrainSettings
from aistudio.config.train import TASKS
from aistudio.config.train_data import DrawnData, RolesSettings
from aistudio.jobs.cli import VERBS
from aistudio.runs import layout
from aistudio.runs.second_thoughts import next_for_failures

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Made by docs/make_reference.py from the code; do not edit. -->\n\n"
# Sections that may be there or not; a manifest's settings stand at the job's.
PARTS = (DetectorSettings, DrawnData, HostSettings, RolesSettings)
UNITS = {
    "_per_s": "1/s",
    "_s": "s",
    "_mib": "MiB",
    "_degrees": "°",
    "_chars": "letters",
    "_bytes": "bytes",
    "_px": "px",
    "_gb": "GB",
    "_share": "share",
    "_rows": "rows",
}


def main() -> None:
    """Write every page."""
    (DOCS / "commands").mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "settings.md": MADE + settings_page(),
        "commands.md": MADE + commands_page(),
        "run_folder.md": MADE + run_folder_page(),
        "statuses.md": MADE + statuses_page(),
    } | {f"commands/{verb}.md": MADE + command_page(verb) for verb in VERBS}


def settings_page() -> str:
    """All settings: default with its unit, meaning, example, by section."""
    parts = ["# Settings", "The settings of a job's conf file (`aistudio score --conf FILE`), of a training's and of a model's. Any of a job's or a "
             "training's can be given on the command line: `--set download.timeout_s=5`. The default is in the table; a setting "
             "without one must be given.\n"]  # fmt: skip
    parts += _section("A job's conf", JobConfig, "")
    parts += _section("A training's conf, whatever its task", TrainSettings, "")
    for task, model in TASKS.items():
        parts += _section(f"A training's conf, `task: {task}`", model, "", without=TrainSettings)
    parts += _section("A model's conf", ModelConfig, "")
    return "\n".join(parts)


def _section(title: str, model: type[Settings], prefix: str, without: type[Settings] | None = None) -> list[str]:
    """A table of a class's settings, then those of the classes within it; what `without` has just so is left out."""
    rows: list[str] = []
    nested: list[tuple[str, type[Settings], type[Settings] | None]] = []
    meanings = comments(model)
    for name, field in model.model_fields.items():
        known = without.model_fields.get(name) if without else None
        if known and (known.annotation, known.default) == (field.annotation, field.default):
            continue
        inner = field.annotation
        if is_settings(inner):
            nested.append((f"{prefix}{name}", inner, known.annotation if known else None))
            continue
        unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
        meaning, example = meaning_of(field, meanings.get(name, ""))
        default = f"{_default(field)} {unit}".rstrip()
        cells = (
            f"`{prefix}{name}`",
            default,
            _cell(meaning) + (f"<br>For example {_cell(example)}" if example else ""),
        )
        rows.append(f"| {' | '.join(cells)} |")
        by_name = ".NAME" if get_origin(inner) is dict else ""
        nested += [(f"{prefix}{name}{by_name}", part, None) for part in get_args(inner) if part in PARTS]
    head = ["", f"## {title}", ""] if not prefix else ["", f"### {title}", ""]
    about = [] if prefix == "" or not model.__doc__ else [inspect.cleandoc(model.__doc__).split("\n\n")[0], ""]
    table = ["| setting | default | meaning |", "|---|---|---|", *rows] if rows else []
    lines = [*head, *about, *table]
    for name, part, same in nested:
        lines += _section(f"`{name}`", part, f"{name}.", same)
    return lines


def is_settings(kind: Any) -> bool:
    """Whether a setting's type is a class of settings."""
    return isinstance(kind, type) and issubclass(kind, Settings)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value: Any = field.get_default(call_default_factory=True)
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else '`""`'


def meaning_of(field: FieldInfo, text: str) -> tuple[str, str]:
    """Return what a setting means, its possible values included, and an example; each may be empty."""
    meaning, _, example = text.partition("Example: ")
    meaning = meaning.strip().rstrip(".")
    if re.match(r"[a-z]+ ", meaning):  # names and lists of them stay as they are written
        meaning = meaning[0].upper() + meaning[1:]
    choices = list(dict.fromkeys(_choices(field.annotation)))
    if missing := [c for c in choices if f"`{c}`" not in meaning]:
        meaning = f"{meaning}; " if meaning else ""
        meaning += ("one of " if missing == choices else "also ") + ", ".join(f"`{c}`" for c in missing)
    return (f"{meaning}." if meaning else ""), example.strip().rstrip(".")


def _choices(kind: Any) -> list[str]:
    """The texts that a setting may be, where they are listed."""
    if get_origin(kind) is Literal:
        found: list[str] = []
        for value in get_args(kind):
            found += _choices(value) if get_origin(value) is Literal else [str(value)]
        return found
    if get_origin(kind) in (Union, UnionType, Annotated, list):
        return [choice for part in get_args(kind) for choice in _choices(part)]
    return []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def comments(model: type[Settings]) -> dict[str, str]:
    """Return what a settings class says of each field: below it, else in a comment on its line or right above."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner is not Settings and isinstance(owner, type) and issubclass(owner, Settings):
            source = textwrap.dedent(inspect.getsource(owner))
            found |= _comments_of(source) | _texts_below(source)
    return found


def _texts_below(source: str) -> dict[str, str]:
    """Texts that stand below a field, as docstrings do."""
    (owner,) = ast.parse(source).body
    assert isinstance(owner, ast.ClassDef)
    found = {}
    for field, below in zip(owner.body, owner.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _comments_of(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    field, above, depth = "", [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        depth += (
            {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token.string, 0) if token.type == tokenize.OP else 0
        )
        match = re.match(r" {4}(\w+):", token.line)
        if token.type == tokenize.NAME and match and match[1] == token.string and depth == 0:
            field = token.string
            found[field], above = " ".join(above), []
        elif token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if not token.line.lstrip().startswith("#") and field:
                found[field] = text
            else:
                above.append(text)
        elif token.type == tokenize.NEWLINE:
            field = ""
    return found


def commands_page() -> str:
    """A table of all verbs; each has a page of its own."""
    return "\n".join([
        "# Commands", "",
        "`aistudio VERB`, the same as `python -m aistudio VERB`. Exit codes: 0 done; 2 settings, manifest, weights or",
        "output are wrong; 1 failed part-way; 3 everything is stored, but more rows failed than `engine.max_failed_share`.", "",
        "| command | what it does |", "|---|---|",
        *(f"| [{verb}](commands/{verb}.md) | {_cell(text)} |" for verb, text in VERBS.items()), "",
        "```{toctree}", ":hidden:", "", *(f"commands/{verb}" for verb in VERBS), "```", "",
    ])  # fmt: skip


def command_page(verb: str) -> str:
    """A verb's help, and the other pages that use it."""
    parser = importlib.import_module(f"aistudio.jobs.{verb}").build_parser()
    parser.formatter_class = _narrow(parser.formatter_class)
    what = VERBS[verb]
    lines = [f"# {verb}", "", f"{what[0].upper()}{what[1:]}.", "", "```text", parser.format_help().rstrip(), "```", ""]
    written = [page for page in sorted(DOCS.glob("*.md")) if not page.read_text("utf-8").startswith(MADE)]
    users = {page: text for page in written if verb in _verbs(text := page.read_text("utf-8"))}
    if users:
        titles = {
            page: text[: text.index("\n")] if text.startswith("# ") else page.stem for page, text in users.items()
        }
        lines += ["Used in: " + ", ".join(f"[{t.lstrip('# ')}](../{p.name})" for p, t in titles.items()) + ".", ""]
    return "\n".join(lines)


def _verbs(text: str) -> set[str]:
    """The verbs that a page's commands name."""
    return set(re.findall(r"\baistudio ([a-z][a-z0-9_]+)", text))


def _narrow(kind: Any) -> Any:
    return lambda prog: kind(prog, width=100)  # whatever terminal this runs in


def run_folder_page() -> str:
    """The names in a run folder, and the columns of its tables."""
    names = (layout.__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["# The run folder", "", "```text", names, "```", ""]
    tables = {
        "`scores/*.parquet`, with a recall model; your own columns follow": schema.score_schema(
            [], {"embedding": 512}, delta=True
        ),
        "`texts/*.parquet`": schema.text_schema(512),
        "`rejected/*.parquet`": schema.REJECTED_SCHEMA,
    }
    for title, table in tables.items():
        lines += [
            f"## {title}",
            "",
            "| column | type |",
            "|---|---|",
            *(f"| `{f.name}` | `{f.type}` |" for f in table),
            "",
        ]
    lines += ["## Columns that are ours", "", ", ".join(f"`{name}`" for name in sorted(schema.RESERVED_COLUMNS)), "",
              "A manifest column of such a name is kept as `manifest_<name>`. How to read them: [read_results.md](read_results.md).", ""]  # fmt: skip
    return "\n".join(lines)


def statuses_page() -> str:
    """Each status: when, and what to do."""
    source = inspect.getsource(schema.Status)
    when = {m[1]: m[2] for m in re.finditer(r'^    \w+ = "(\w+)"(?:  # (.*))?$', source, re.MULTILINE)}
    lines = ["# Statuses", "", "Each row has one in the column `status`; every row that is not `ok` has an `error` beside it.", "",
             "| status | when | what to do |", "|---|---|---|"]  # fmt: skip
    for status in schema.Status:
        advice = next_for_failures({"ok": 1, status.value: 1}, "RUN") or "nothing"
        advice = advice.removeprefix(f"1 row failed with {status.value}; ").removeprefix(
            f"1 rows failed with {status.value}; "
        )
        lines.append(
            f"| `{status.value}` | {_cell(when.get(status.value) or ('scored and stored' if status is schema.Status.OK else 'as its name says; see `error`'))} | {_cell(advice)} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
