"""Figures as data: what a chart shows, the script file that draws it and the CSV file behind it.

How a chart looks is decided in assets/charts.js, once, for light and dark.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from aistudio.reports.safe import csv_bytes, script_data


@dataclass(frozen=True)
class Series:
    """One line or one set of bars; `points` are [x, y] with numbers, or a name for x in bars of categories."""

    name: str
    points: list[list[Any]]
    area: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart; `kind` is "line" or "bar"."""

    id: str  # also the name of its files
    title: str
    note: str
    kind: str
    x_name: str
    y_name: str
    series: list[Series] = field(default_factory=list)
    x_min: float | None = None
    x_max: float | None = None
    y_max: float | None = None

    @property
    def csv_path(self) -> str:
        return f"data/{self.id}.csv"


def figure_files(page: str, figures: list[Figure]) -> dict[str, bytes]:
    """The script with a page's figures and one CSV file for each: path inside the report -> bytes."""
    out = {f"data/figures-{page}.js": script_data(f"figures-{page}", [asdict(f) for f in figures])}
    for figure in figures:
        rows = ([s.name, *p] for s in figure.series for p in s.points)
        out[figure.csv_path] = csv_bytes(["series", figure.x_name, figure.y_name], rows)
    return out
