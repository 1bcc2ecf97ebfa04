"""What an aggregation has found, on its way into metrics/: values, slices, curves, notes.

Leaves out: the large tables (tables.py).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.evaluation import tables
from aistudio.evaluation.place import Place
from aistudio.metrics import significance
from aistudio.metrics.significance import Interval
from aistudio.metrics.slices import groups as slice_groups


@dataclass
class Results:
    """What is written, beside the tables."""

    metrics: dict[str, Interval] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    beside: dict[str, dict[str, float | None]] = field(default_factory=dict)  # of some metrics: macro, chance, ...

    def write(self, place: Place) -> dict[str, Any]:
        """metrics.json last: its presence means that the other files are of the same aggregation."""
        metrics = {
            name: {"value": i.value, **_bounds(i), **self.beside.get(name, {})} for name, i in self.metrics.items()
        }
        about = self.about | {"notes": self.notes}
        slices = pa.Table.from_pylist(self.slices, schema=tables.SLICE_SCHEMA)
        place.write_table("slices.parquet", slices)
        place.write_json("curves.json", self.curves)
        place.write_json("about.json", about)
        place.write_json("metrics.json", metrics)
        return {"metrics": metrics, "about": about}


def slice_rows(
    column: str, values: list[Any], metrics: dict[str, Any], settings: MetricsSettings
) -> list[dict[str, Any]]:
    """Rows of slices.parquet for one column; `metrics` are values per unit, NaN where a unit has none."""
    out = []
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    whole = {name: v for name, v in metrics.items() if not name.startswith("cmc@")}
    for value, members in slice_groups(values, settings.min_slice_size).items():
        table = np.column_stack([v[members] for v in whole.values()])
        if np.isnan(table).any():
            found = [significance.bootstrap_means(c[~np.isnan(c)][:, None], *how)[0] for c in table.T]
        else:
            found = significance.bootstrap_means(table, *how)
        for name, i in zip(whole, found, strict=True):
            out.append({"column": column, "value": value, "metric": name, "estimate": i.value, **_bounds(i)})
    return out


def _bounds(interval: Interval) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "n": interval.n}
