"""The section `grid` of a training's conf: settings with several values each, whose product is as many trainings."""

import hashlib
import itertools
import json
import re
from typing import Any, NamedTuple

from aistudio.config.train import TrainSettings
from aistudio.errors import ConfigError

GRID = "grid"
SEED = "seed"  # trainings that differ in it alone are repetitions of each other
MOST_RUNS = 1_000
MAX_NAME = 100  # characters of a training's folder
_NOT_VARIED = ("output", "name", "task", "data.cache", GRID)


class GridCell(NamedTuple):
    """One combination of values. `name`: of its folder, "" where there is no grid."""

    name: str
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """Return what messages add to the conf's name."""
        return f" (grid: {self.name})" if self.name else ""


class GridRun(NamedTuple):
    """One training of a grid."""

    name: str
    values: dict[str, Any]
    settings: TrainSettings


def grid_cells(data: dict[str, Any], source: str) -> list[GridCell]:
    """Return the product of the grid's values, the last setting changing fastest; without a grid one empty cell.

    A cell's name says its values, so a grid that is extended later keeps the trainings that it has.

    Raises:
        ConfigError: no mapping of settings to lists, a setting that cannot vary, or too many trainings.
    """
    grid = data.get(GRID)
    if grid is None:
        return [GridCell("", {})]
    if not isinstance(grid, dict) or not grid:
        raise ConfigError(f"{source}: grid: expected settings with lists of values, such as seed: [0, 1, 2]")
    for key, values in grid.items():
        if not isinstance(key, str) or key in _NOT_VARIED:
            raise ConfigError(f"{source}: grid: {key} cannot be varied")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{source}: grid.{key}: expected a list of values (found {values!r})")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(combinations) > MOST_RUNS:
        raise ConfigError(f"{source}: grid: {len(combinations):,} trainings; at most {MOST_RUNS:,}")
    cells = [GridCell(_name(values), values) for values in combinations]
    if len({cell.name for cell in cells}) < len(cells):
        raise ConfigError(f"{source}: grid: a list has a value twice; each combination is one training")
    return cells


def _name(values: dict[str, Any]) -> str:
    plain = "__".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()
    )
    safe = re.sub(r"[^A-Za-z0-9._=+-]+", "-", plain)
    if safe == plain and len(plain) <= MAX_NAME:
        return plain
    return f"{safe[:MAX_NAME]}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
