"""Pictures of a validation by labels: queries with what is nearest to them, worst cases, TensorBoard's projector."""

import numpy as np
from numpy.typing import NDArray

from aistudio.training.board import Projection
from aistudio.training.dataset import Dataset
from aistudio.training.labelled import LabelledRows
from aistudio.training.similar_check import Judged
from aistudio.training.task import Case

NEAREST = 4  # shown of a worst case
PROJECTED = 2_000  # points of the projector, at most


def neighbour_rows(judged: Judged, rows: LabelledRows, shown: list[int]) -> list[list[int]]:
    """Return numbers of images: for each shown query its own, then the nearest."""
    return [[int(rows.image[judged.query[place]]), *rows.image[judged.nearest[place]].tolist()] for place in shown]


def worst_queries(judged: Judged, rows: LabelledRows, data: Dataset, num: int) -> list[Case]:
    """Return the queries with the lowest average precision, with their nearest images."""
    cases = []
    for place in np.argsort(judged.ap, kind="stable")[:num].tolist():
        at = [int(judged.query[place]), *judged.nearest[place][:NEAREST].tolist()]
        names = data.readable(rows.row[at], "row_id")
        captions = [f"row {name}, {rows.label[i]}" for name, i in zip(names, at, strict=True)]
        pictures = list(zip(captions, data.thumbnails(rows.image[at]), strict=True))
        note = f"average precision {judged.ap[place]:.3f}; the query, then its nearest"
        cases.append(Case(f"{rows.label[at[0]]} {names[0]}", note, pictures))
    return cases


def projection(vectors: NDArray[np.float32], rows: LabelledRows, data: Dataset) -> Projection:
    """Return at most PROJECTED points, evenly spaced over the rows."""
    at = np.linspace(0, len(rows) - 1, min(len(rows), PROJECTED)).round().astype(np.int64)
    return Projection(vectors[at], [str(v) for v in rows.label[at]], data.thumbnails(rows.image[at]))
