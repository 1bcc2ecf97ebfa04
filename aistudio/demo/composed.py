"""Composed questions on a written catalogue, as a query table: a picture, what is asked of it, the right answers."""

import csv
from collections.abc import Mapping
from pathlib import Path

from aistudio.demo.changes import Asked, questions
from aistudio.demo.draw import Attributes

COLUMNS = ("query_id", "row_id", "text", "relevant", "change")
PER_KIND = 24  # questions of each kind of change


def read_truth(catalogue: Path) -> dict[str, tuple[str, Attributes]]:
    """Read what every picture of a written catalogue shows: address -> sight and attributes."""
    with (catalogue / "truth.csv").open(newline="", encoding="utf-8") as f:
        return {row["image_url"]: (row["item_id"], _attributes(row)) for row in csv.DictReader(f)}


def _attributes(row: Mapping[str, str]) -> Attributes:
    return Attributes(
        light=row["light"], weather=row["weather"], brightness=float(row["brightness"]),
        saturation=float(row["saturation"]), subject_size=float(row["subject_size"]),
        off_centre=float(row["off_centre"]), num_people=int(row["num_people"]), badge=row["badge"] == "True",
    )  # fmt: skip


def write_questions(path: Path, catalogue: Path, row_ids: Mapping[str, str]) -> int:
    """Write a query table and return its number of questions: PER_KIND of each kind, spread over the sights.

    Args:
        row_ids: address -> row of the run, of the pictures that it could score.
    """
    known = {url: shown for url, shown in read_truth(catalogue).items() if url in row_ids}
    rows = [row_ids[url] for url in known]
    of_kind: dict[str, list[Asked]] = {}
    for one in questions(known.values()):
        of_kind.setdefault(one.change.kind, []).append(one)
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(COLUMNS)
        num = 0
        for kind, asked in of_kind.items():
            for number, one in enumerate(asked[:: max(1, len(asked) // PER_KIND)][:PER_KIND], 1):
                text, right = one.change.texts[number % len(one.change.texts)], "|".join(rows[i] for i in one.right)
                writer.writerow((f"{kind}-{number:02d}", rows[one.reference], text, right, kind))
                num += 1
    return num
