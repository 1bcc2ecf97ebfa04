"""The POI table that ranking needs, built from a stored run of the user's own catalogue.

Each POI gets the mean of its best-scored image vectors, its name's vector and its counts (models/poi_table.py
has the mathematics). Files are read one at a time and only each POI's best images are kept.
"""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import JobConfig
from aistudio.errors import ConfigError, StoreError
from aistudio.models import load_ranking
from aistudio.poi_table import BEST_IMAGES, Counts, build_table
from aistudio.runs import layout
from aistudio.schema import EMBEDDING, RANK_EMBEDDING, vector_matrix
from aistudio.scoring.pinned_models import PinnedModel, load_pinned, pin_model
from aistudio.store import Store
from aistudio.values import column_values


def poi_table_of_run(
    store: Store, config: JobConfig, *, name_column: str = "text", counts: dict[str, Counts] | None = None
) -> pa.Table:
    """POI table (schema.poi_table_schema) of every POI among a run's ok rows.

    Args:
        name_column: the column that names what an image shows: text, item_id or a passthrough column.
        counts: picture counts by name; default (number of ok images, 0, 0).

    Raises:
        ConfigError: the run has no ranking model, or stored vectors of another image tower.
        StoreError: nothing is scored there.
    """
    ranking = _ranking(config)
    vectors_column = _vector_column(config, ranking)
    names: list[str] = []
    scores, vectors = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
    numbers: dict[str, int] = {}
    for shard in sorted(layout.done_shards(store)):
        table = store.read_table(
            layout.scores_key(shard), [name_column, "status", "recall_score", vectors_column], verify=True
        )
        if name_column not in table.column_names:
            known = ", ".join(store.read_metadata(layout.scores_key(shard))[0].names)
            raise ConfigError(f"--name-column {name_column}: the run's rows have {known}")
        table = table.filter(pc.equal(table["status"], "ok")).drop_null()
        if table.num_rows == 0:
            continue
        new_names = [str(name) for name in column_values(table[name_column])]
        for name in new_names:
            numbers[name] = numbers.get(name, 0) + 1
        new_scores, new_vectors = table["recall_score"].to_numpy(), _vectors(table[vectors_column])
        if len(names):
            new_scores, new_vectors = np.concatenate([scores, new_scores]), np.concatenate([vectors, new_vectors])
        names += new_names
        keep = _best(names, new_scores)
        names, scores, vectors = [names[i] for i in keep], new_scores[keep], new_vectors[keep]
    if not names:
        raise StoreError(f"{store.root}: no ok image there; run `aistudio score` first")
    known_counts: dict[str, Counts] = {name: (n, 0, 0) for name, n in numbers.items()}
    return build_table(
        names, scores, vectors, _name_vectors(config, ranking, sorted(set(names))), known_counts | (counts or {})
    )


def read_counts(path: str | Path) -> dict[str, Counts]:
    """Picture counts from a CSV with the columns name, n0, n1, n2. Raises ConfigError."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as f:
            return {r["name"]: (int(r["n0"]), int(r["n1"]), int(r["n2"])) for r in csv.DictReader(f)}
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise ConfigError(f"--counts {path}: expected a CSV with the columns name, n0, n1, n2: {e!r}") from None


def _ranking(config: JobConfig) -> PinnedModel:
    if not config.models.ranking:
        raise ConfigError("the run has no ranking model (models.ranking), so there is nothing to build a POI table for")
    return pin_model(config.models.ranking, config, "models.ranking")


def _vector_column(config: JobConfig, ranking: PinnedModel) -> str:
    """Where the run keeps vectors of the ranking model's image tower."""
    if not config.models.recall:
        return RANK_EMBEDDING
    recall = pin_model(config.models.recall, config, "models.recall")
    return EMBEDDING if ranking.image_tower_fingerprint == recall.image_tower_fingerprint else RANK_EMBEDDING


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    return vector_matrix(column).astype(np.float32)


def _best(names: list[str], scores: np.ndarray) -> np.ndarray:
    """Positions of each name's BEST_IMAGES best scores (ties: first come), ascending."""
    order = np.argsort(-scores, kind="stable")
    taken: dict[str, int] = {}
    keep = []
    for i in order:
        taken[names[i]] = taken.get(names[i], 0) + 1
        if taken[names[i]] <= BEST_IMAGES:
            keep.append(i)
    return np.sort(np.array(keep, np.int64))


def _name_vectors(config: JobConfig, ranking: PinnedModel, names: list[str]) -> dict[str, np.ndarray]:
    model = load_pinned(ranking, config, load_ranking)
    return dict(zip(names, model.encode_texts(names), strict=True))
