"""Two-stage selection: the best images of each item, from stored scores.

The two stages of *What Image do You Need?*: a recall gate (is this a picture of the thing?), then the ranking
order (which of these will be clicked?), with near-duplicates taken out. Pure functions on tables that hold whole
items; bringing an item's rows together across shards is the caller's business.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import ConfigError
from aistudio.schema import Status, vector_matrix

SELECTION_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("image_url", pa.string(), nullable=False),
        pa.field("recall_score", pa.float32()),
        pa.field("rank_score", pa.float32()),
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("position", pa.int32()),  # 1 is the best; null when not selected
        pa.field("reason", pa.string(), nullable=False),
    ]
)
NEEDED_COLUMNS = ("item_id", "row_id", "image_url", "status", "recall_score", "rank_score", "content_hash")

Array = np.ndarray[Any, Any]


def select_images(
    table: pa.Table,
    num_images: int,
    recall_threshold: float | None = None,
    recall_top_m: int | None = None,
    duplicate_cosine: float | None = None,
) -> pa.Table:
    """Select the best `num_images` images of every item in the table, with a reason for every row.

    1. Rows whose status is not `ok` are out: `failed:<status>`.
    2. Recall gate: `recall_score` below the threshold: `below_recall`, missing (a row without a text):
       `no_recall_score`; of the rest, not among the
       item's top M by recall_score: `not_in_top_m`. A gate that is None is open; both may be set.
    3. Order: rank_score, best first; rows without one come after all that have one, by recall_score. Ties by
       row_id as text. A NaN score counts as missing.
    4. Down that order, an image is `duplicate_of:<row_id>` when a better kept image of the item has the same
       content_hash, or a cosine of embeddings above `duplicate_cosine` (then the best such image is named);
       otherwise it is `kept` until there are `num_images`, then `beyond_n`.

    Args:
        table: scores of complete items, at least NEEDED_COLUMNS; `embedding` (schema.vector_field, or of older
            runs a fixed-size list) too when `duplicate_cosine` is set. Rows of an item need not be adjacent.
        num_images: most images per item, 1 or more.
        recall_threshold: smallest recall_score that passes, compared in float32.
        recall_top_m: candidates per item that reach the ranking, 1 or more.
        duplicate_cosine: images more alike than this are duplicates; null or zero embeddings are like nothing.

    Returns:
        SELECTION_SCHEMA, one row per row of the table: items in the order of their first row, in an item the
        selected images by position, then the others that passed the gate in ranking order, those that did
        not, and the failed ones. An empty table gives an empty table.

    Raises:
        ConfigError: a setting is out of range, or the table lacks a column.
    """
    _check(table, num_images, recall_top_m, duplicate_cosine)
    if not table.num_rows:
        return SELECTION_SCHEMA.empty_table()
    items = _codes(table["item_id"])
    row_rank = _ranks(table["row_id"])
    recall, rank = _scores(table["recall_score"]), _scores(table["rank_score"])
    status = table["status"].to_numpy()

    ok = np.asarray(status == Status.OK.value, dtype=bool)
    above = ok if recall_threshold is None else ok & (recall >= np.float32(recall_threshold))  # NaN is not above
    passed = above if recall_top_m is None else above & _in_top(items, recall, row_rank, above, recall_top_m)

    unranked = np.isnan(rank)
    order_keys = (row_rank, _descending(np.where(unranked, recall, rank)), unranked)
    survivors = np.flatnonzero(passed)
    survivors = survivors[np.lexsort([key[survivors] for key in (*order_keys, items)])]
    position, duplicate_of = _greedy(table, items, survivors, num_images, duplicate_cosine)

    reason = np.full(len(items), "beyond_n", dtype=object)
    reason[position > 0] = "kept"
    reason[above & ~passed] = "not_in_top_m"
    reason[ok & ~above] = "below_recall"
    reason[ok & ~above & np.isnan(recall)] = "no_recall_score"
    row_ids = table["row_id"].to_numpy()
    for i in np.flatnonzero(duplicate_of >= 0):
        reason[i] = f"duplicate_of:{row_ids[duplicate_of[i]]}"
    for i in np.flatnonzero(~ok):
        reason[i] = f"failed:{status[i]}"

    group = np.select([position > 0, passed, ok], [0, 1, 2], 3)
    order = np.lexsort((*order_keys, position, group, items))
    taken = table.select(list(SELECTION_SCHEMA.names[:5])).take(pa.array(order))
    position, reason = position[order], reason[order]
    return pa.Table.from_arrays(
        [
            *taken.columns,
            pa.array(position > 0),
            pa.array(position, pa.int32(), mask=position == 0),
            pa.array(reason, pa.string()),
        ],
        schema=SELECTION_SCHEMA,
    )


def _greedy(
    table: pa.Table, items: Array, order: Array, num_images: int, duplicate_cosine: float | None
) -> tuple[Array, Array]:
    """Walk each item's rows in order: position of the kept (else 0), row of the image it repeats (else -1)."""
    position = np.zeros(len(items), dtype=np.int32)
    duplicate_of = np.full(len(items), -1, dtype=np.int64)
    hashes = _codes(table["content_hash"])
    vectors = None if duplicate_cosine is None else _Vectors(table["embedding"])
    for rows in np.split(order, np.flatnonzero(np.diff(items[order])) + 1):
        units = None if vectors is None else vectors.units(rows)
        kept: list[int] = []  # places within `rows`
        seen: dict[int, int] = {}  # content hash -> row that was kept
        kept_units = None if units is None else np.empty((min(num_images, len(rows)), units.shape[1]), np.float32)
        for place, (row, content) in enumerate(zip(rows.tolist(), hashes[rows].tolist(), strict=True)):
            twin = seen.get(content, -1)
            if twin < 0 and kept and units is not None and kept_units is not None and duplicate_cosine is not None:
                alike = kept_units[: len(kept)] @ units[place] > duplicate_cosine  # NaN (no vector) is not above
                twin = int(rows[kept[int(alike.argmax())]]) if alike.any() else -1
            if twin >= 0:
                duplicate_of[row] = twin
            elif len(kept) < num_images:
                if units is not None and kept_units is not None:
                    kept_units[len(kept)] = units[place]
                kept.append(place)
                position[row] = len(kept)
                if content >= 0:
                    seen[content] = row
    return position, duplicate_of


class _Vectors:
    """Embeddings of rows as unit vectors, gathered per item so that the column is not copied to float32 whole."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._values_MD = vector_matrix(column)  # of the M rows that have one
        self._valid = column.is_valid().to_numpy()
        self._place = np.cumsum(self._valid) - 1  # of a row's vector among those

    def units(self, rows: Array) -> Array:
        """(len(rows), D) float32; NaN where there is no vector, or one without direction."""
        width = max(1, self._values_MD.shape[1])  # at least one NaN says that there is none
        units_ND = np.full((len(rows), width), np.nan, np.float32)
        has = self._valid[rows]
        vectors_MD = self._values_MD[self._place[rows[has]]].astype(np.float32)
        norms = np.linalg.norm(vectors_MD, axis=1, keepdims=True)
        if len(vectors_MD):
            units_ND[has] = np.divide(vectors_MD, norms, out=np.full_like(vectors_MD, np.nan), where=norms > 0)
        return units_ND


def _in_top(items: Array, recall: Array, row_rank: Array, among: Array, m: int) -> Array:
    """Mask of the M best by recall_score of each item, counted among the rows of the mask `among`."""
    rows = np.flatnonzero(among)
    rows = rows[np.lexsort((row_rank[rows], _descending(recall[rows]), items[rows]))]
    starts = np.flatnonzero(np.diff(items[rows], prepend=-1))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
    top = np.zeros(len(items), dtype=bool)
    top[rows[place < m]] = True
    return top


def _codes(column: pa.ChunkedArray) -> Array:
    """Number of each value by first appearance; -1 for null."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return np.asarray(pc.fill_null(array.dictionary_encode().indices.cast(pa.int64()), -1))


def _ranks(column: pa.ChunkedArray) -> Array:
    order = pc.sort_indices(column).to_numpy()
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _scores(column: pa.ChunkedArray) -> Array:
    """float32, NaN for null."""
    return np.asarray(column.cast(pa.float32()).to_numpy(), dtype=np.float32)


def _descending(scores: Array) -> Array:
    """Sort key: best first, missing last (numpy sorts NaN to the end)."""
    return -scores


def _check(table: pa.Table, num_images: int, recall_top_m: int | None, duplicate_cosine: float | None) -> None:
    if num_images < 1:
        raise ConfigError(f"the number of images per item must be 1 or more (found {num_images})")
    if recall_top_m is not None and recall_top_m < 1:
        raise ConfigError(f"recall top M must be 1 or more (found {recall_top_m})")
    if duplicate_cosine is not None and not -1 <= duplicate_cosine <= 1:
        raise ConfigError(f"the duplicate cosine must lie between -1 and 1 (found {duplicate_cosine})")
    needed = NEEDED_COLUMNS if duplicate_cosine is None else (*NEEDED_COLUMNS, "embedding")
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise ConfigError(
            f"selection needs the stored column {missing[0]!r}; columns found: {', '.join(table.column_names)}"
        )
