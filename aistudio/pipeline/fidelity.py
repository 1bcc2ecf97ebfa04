"""Measures what fast settings cost in exactness: some of the user's own rows, scored with them and without.

`images.decode: fast`, a precision below float32 and `engine.compile` are faster and give other numbers. How much other
depends on the model and the pictures, so it is measured, not promised.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa

from aistudio.config import JobConfig
from aistudio.errors import ConfigError
from aistudio.evaluation.fidelity import SCORES, Fidelity, compare_scores
from aistudio.runs import layout
from aistudio.schema import EMBEDDING, RANK_EMBEDDING
from aistudio.store import Store

ROWS = 200  # that a run with engine.max_drift measures before it begins
_EXACT: dict[str, dict[str, Any]] = {
    "images": {"decode": "exact"},
    "engine": {"precision": "float32", "compile": False},
}


def fast_settings(config: JobConfig) -> dict[str, Any]:
    """Return the settings, by their full names, that change numbers for speed."""
    return {
        f"{section}.{name}": value
        for section, exact in _EXACT.items()
        for name in exact
        if (value := getattr(getattr(config, section), name)) != exact[name]
    }


def exactly(config: JobConfig) -> JobConfig:
    """Return the job with exact settings in their place."""
    sections = {name: getattr(config, name).model_copy(update=exact) for name, exact in _EXACT.items()}
    return config.model_copy(update=sections)


def compare_runs(fast: Store, exact: Store) -> Fidelity:
    """Compare the stored rows of two small runs over the same rows."""
    return compare_scores(_rows(fast), _rows(exact))


def _rows(store: Store) -> pd.DataFrame:
    tables = []
    for key in layout.score_keys(store):
        schema, _, _ = store.read_metadata(key)
        vectors = [n for n in schema.names if n in (EMBEDDING, RANK_EMBEDDING) or n.startswith(f"{EMBEDDING}_")]
        scores = [n for n in SCORES if n in schema.names]
        tables.append(store.read_table(key, ["row_id", "item_id", "status", *scores, *vectors]))
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return rows


def fidelity_lines(found: Fidelity, settings: dict[str, Any]) -> Iterator[str]:
    """Say in words what the settings change."""
    chosen = ", ".join(f"{k}: {v}" for k, v in settings.items())
    yield f"  {chosen} beside exact float32: {found.num_rows:,} rows scored both ways"
    for c in found.changes:
        if c.column not in SCORES:
            yield f"  {c.column:<12} distance, as a part of the length: mean {c.mean:.2g}, 99 % below {c.p99:.2g}"
            continue
        yield (
            f"  {c.column:<12} changes by {c.mean:.2g} on average, 99 % by less than {c.p99:.2g} ({c.drift:.2g} "
            f"standard deviations), the most {c.largest:.2g}"
        )
        if c.pairs:
            share = c.flipped / c.pairs
            yield f"  {'':<12} order of two rows: {c.flipped:,} of {c.pairs:,} pairs flipped ({share:.2%})"
        if c.items:
            yield f"  {'':<12} best image of an item: {c.best_changed:,} of {c.items:,} changed"
    if found.only_exact or found.only_fast:
        yield f"  ok with exact settings alone: {found.only_exact:,} rows; with the chosen alone: {found.only_fast:,}"
    yield f"  drift        {found.drift:.3g} (the largest of the above; engine.max_drift is compared with it)"


def refuse_drift(found: Fidelity, config: JobConfig) -> None:
    """Raises ConfigError when the drift is above engine.max_drift."""
    limit = config.engine.max_drift
    if limit is not None and not found.drift <= limit:
        lines = "\n".join(fidelity_lines(found, fast_settings(config)))
        raise ConfigError(
            f"the settings change scores more than engine.max_drift ({limit:g}) allows, on {found.num_rows:,} rows of "
            f"this manifest:\n{lines}\nChoose exact settings, or say that it may be so: raise engine.max_drift, or null"
        )
