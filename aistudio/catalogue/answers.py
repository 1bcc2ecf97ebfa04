"""Survey answers from CSV files: one row per judgement, wrong rows set aside with a reason.

Two kinds, told apart by the header. `pairs`: respondent, question, left, right, choice. `ranks`: respondent, question,
system, rank. `group` may be there in both; columns beyond these are kept. UTF-8, with or without a byte order mark.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from aistudio.errors import ManifestError

Kind = Literal["pairs", "ranks"]
NEEDED: dict[Kind, tuple[str, ...]] = {
    "pairs": ("respondent", "question", "left", "right", "choice"),
    "ranks": ("respondent", "question", "system", "rank"),
}
TIE = "tie"


class RejectedAnswer(NamedTuple):
    """A row that cannot be used: file, line (from 1) and why."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class AnswerTable:
    """Answers as columns of text, all of one length, where each came from, and the rows that were set aside."""

    kind: Kind
    columns: dict[str, list[str]]
    origin: list[tuple[str, int]]  # file and line
    rejected: list[RejectedAnswer] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns["respondent"])

    def where(self, kept: Sequence[bool]) -> "AnswerTable":
        """The same, of some rows."""
        columns = {k: [x for x, keep in zip(v, kept, strict=True) if keep] for k, v in self.columns.items()}
        origin = [x for x, keep in zip(self.origin, kept, strict=True) if keep]
        return AnswerTable(self.kind, columns, origin, self.rejected)


def read_answers(*paths: str | Path) -> AnswerTable:
    """Read answer files of one kind and put them together; a folder stands for its *.csv files.

    The same answer in two files (downloaded twice) counts once; a second, different answer to the same question is
    set aside. A group that is missing is "all".

    Raises:
        ManifestError: no such file, no answers, not a table of answers, or files of both kinds.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise ManifestError(f"{', '.join(map(str, paths))}: no answers (*.csv) here")
    tables = [_read(file) for file in files]
    kinds = sorted({table.kind for table in tables})
    if len(kinds) > 1:
        raise ManifestError(f"{files[0].parent}: answers of both kinds ({', '.join(kinds)}); analyse each kind alone")
    return _together(tables)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.csv"))
    if not path.is_file():
        raise ManifestError(f"{path}: no such file or folder of answers")
    return [path]


def _read(path: Path) -> AnswerTable:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as e:
        raise ManifestError(f"{path}: cannot be read: {e.strerror or e}") from None
    reader = csv.reader(io.StringIO(text.replace("\0", ""), newline=""))
    header = _next(reader) or []
    kind = next((k for k, names in NEEDED.items() if isinstance(header, list) and set(names) <= set(header)), None)
    if kind is None or isinstance(header, str) or len(set(header)) != len(header):
        wanted = " or ".join(",".join(names) for names in NEEDED.values())
        raise ManifestError(
            f"{path}: not a table of answers: expected a header with {wanted}, found {str(header)[:200]}"
        )
    table = AnswerTable(kind, {name: [] for name in dict.fromkeys([*header, "group"])}, [])
    while (fields := _next(reader)) is not None:
        if fields == []:
            continue
        reason = fields if isinstance(fields, str) else _problem(kind, header, fields)
        if reason or isinstance(fields, str):
            table.rejected.append(RejectedAnswer(path.name, reader.line_num, reason))
            continue
        row = dict(zip(header, fields, strict=True))
        row["group"] = row.get("group") or "all"
        table.origin.append((path.name, reader.line_num))
        for name, value in row.items():
            table.columns[name].append(value)
    return table


def _next(reader: Iterator[list[str]]) -> list[str] | str | None:
    """The next record, what is wrong with it, or None at the end."""
    try:
        return next(reader, None)
    except csv.Error as e:
        return str(e)


def _problem(kind: Kind, header: list[str], fields: list[str]) -> str:
    """Why a row cannot be used; empty if it can."""
    if len(fields) != len(header):
        return f"{len(fields)} fields, expected {len(header)}"
    row = dict(zip(header, fields, strict=True))
    missing = [name for name in NEEDED[kind] if not row[name].strip()]
    if missing:
        return f"{', '.join(missing)} is empty"
    if kind == "ranks":
        return "" if _is_rank(row["rank"]) else f"rank {row['rank'][:40]!r} is not a number from 1 on"
    if row["left"] == row["right"]:
        return f"left and right are both {row['left'][:40]!r}"
    if row["choice"] not in (row["left"], row["right"], TIE):
        return f"choice {row['choice'][:40]!r} is neither the left nor the right system nor {TIE!r}"
    return ""


def _is_rank(text: str) -> bool:
    try:
        rank = float(text)
    except ValueError:
        return False
    return math.isfinite(rank) and rank >= 1


def _together(tables: list[AnswerTable]) -> AnswerTable:
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    out = AnswerTable(tables[0].kind, {name: [] for name in names}, [], [r for t in tables for r in t.rejected])
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    for table in tables:
        for i in range(len(table)):
            row = {name: table.columns[name][i] if name in table.columns else "" for name in names}
            key, answer = _key(out.kind, row), tuple(row[name] for name in NEEDED[out.kind])
            if key not in seen:
                seen[key] = answer
                out.origin.append(table.origin[i])
                for name in names:
                    out.columns[name].append(row[name])
            elif seen[key] != answer:
                reason = (
                    f"a second answer of respondent {row['respondent'][:40]!r} to question {row['question'][:40]!r}"
                )
                out.rejected.append(RejectedAnswer(*table.origin[i], reason))
    return out


def _key(kind: Kind, row: dict[str, str]) -> tuple[str, ...]:
    """Return what a respondent may answer only once (repeats are marked): a system's rank, or a choice."""
    if kind == "ranks":
        return row["respondent"], row["question"], row["system"], row.get("check", "")
    return row["respondent"], row["question"], *sorted((row["left"], row["right"])), row.get("check", "")
