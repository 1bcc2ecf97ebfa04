"""Recommendations to ask people about, from a CSV file: question, system, rank, image, and perhaps group.

The row whose system is `query` holds the question's own picture. Images are files; a relative path is looked for beside
the CSV file.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from aistudio.errors import ManifestError

QUERY = "query"
NEEDED = ("question", "system", "rank", "image")


@dataclass
class AskedLists:
    """One question: its group, its picture, and each system's pictures, best first."""

    group: str = "all"
    query: Path | None = None
    lists: dict[str, list[Path]] = field(default_factory=dict)


def read_lists(path: str | Path) -> tuple[dict[str, AskedLists], list[str]]:
    """Read the questions of a survey, in the order of the file, and the reasons for rows that were set aside.

    Questions that lack their query or one of the systems are left out, with a reason.

    Raises:
        ManifestError: no such file, not a table of lists, or no usable question.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace").replace("\0", "")
    except OSError as e:
        raise ManifestError(f"{path}: cannot be read: {e.strerror or e}") from None
    reader = csv.DictReader(text.splitlines(keepends=True))
    if not set(NEEDED) <= set(reader.fieldnames or []):
        raise ManifestError(f"{path}: expected a header with {','.join(NEEDED)}, found {reader.fieldnames}")
    found: dict[str, AskedLists] = {}
    ranked: dict[tuple[str, str], list[tuple[float, int, Path]]] = {}
    reasons: list[str] = []
    for row in reader:
        number, problem = reader.line_num, _problem(row)
        if problem:
            reasons.append(f"line {number}: {problem}")
            continue
        asked = found.setdefault(row["question"], AskedLists(row.get("group") or "all"))
        image = path.parent / row["image"]
        if row["system"] == QUERY:
            asked.query = image
        else:
            ranked.setdefault((row["question"], row["system"]), []).append((float(row["rank"]), number, image))
    systems = sorted({system for _, system in ranked})
    for (question, system), rows in ranked.items():
        found[question].lists[system] = [image for _, _, image in sorted(rows)]
    return _complete(found, systems, reasons, path), reasons


def _complete(
    found: dict[str, AskedLists], systems: list[str], reasons: list[str], path: Path
) -> dict[str, AskedLists]:
    kept = {}
    for question, asked in found.items():
        missing = [s for s in systems if s not in asked.lists] + ([QUERY] if asked.query is None else [])
        if missing:
            reasons.append(f"question {question[:60]}: no rows of {', '.join(missing)}")
        else:
            asked.lists = {s: asked.lists[s] for s in systems}
            kept[question] = asked
    if not kept:
        raise ManifestError(f"{path}: no question has a query and every system; {'; '.join(reasons[:3])}")
    return kept


def _problem(row: dict[str, str]) -> str:
    missing = [name for name in NEEDED if not (row.get(name) or "").strip() and name != "rank"]
    if missing:
        return f"{', '.join(missing)} is empty"
    if row["system"] == QUERY:
        return ""
    try:
        return "" if float(row["rank"] or "") >= 1 else f"rank {row['rank'][:40]!r} is below 1"
    except ValueError:
        return f"rank {str(row['rank'])[:40]!r} is not a number"
