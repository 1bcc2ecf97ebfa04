"""The search of `aggregate`: exact top-K and ranks over score files in parallel, merged.

What comes back to the driver are ids and scores of the best rows and one rank per relevant pair, never vectors of
the gallery. Leaves out: what the ranks mean (metrics/), the queries (queries.py), reading
(search/gallery.py), where it runs (runs/mapper.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.index import RankCounter, Sieve, TopK, exact_scores
from aistudio.runs import layout
from aistudio.runs.mapper import Mapper
from aistudio.search.gallery import File, Vectors, matrix, vector_blocks
from aistudio.search.lookup import rows_at
from aistudio.search.pace import Pace
from aistudio.search.qrels import Relevance
from aistudio.search.queries import Queries
from aistudio.search.vectors import RECALL_VECTORS, VectorColumn
from aistudio.store import Store

QUERY_CHUNK = 50_000  # queries searched at once: bounds a task's memory to some hundred megabytes
HISTOGRAM_QUERIES = 64
HISTOGRAM_BINS = 200
HISTOGRAM_EDGES = np.linspace(-1, 1, HISTOGRAM_BINS + 1)


@dataclass(frozen=True)
class Gallery:
    """The rows that are searched: the ok ones of these files but those of `left_out`."""

    store: Store
    files: Sequence[File]
    left_out: pa.Array | None = None  # row ids
    vectors: VectorColumn = RECALL_VECTORS

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors of some of the files."""
        if self.left_out is None:
            yield from vector_blocks(self.store, files, block_rows, columns, self.vectors)
            return
        for block in vector_blocks(self.store, files, block_rows, ["row_id", *columns], self.vectors):
            kept = ~pc.is_in(block.values["row_id"], value_set=self.left_out).to_numpy(zero_copy_only=False)
            if kept.any():
                values = {c: v.filter(pa.array(kept)) for c, v in block.values.items()}
                yield Vectors(block.rows_ND[kept], block.ids_N[kept], values)

    def vectors_at(self, ids: NDArray[np.int64], mapper: Mapper) -> NDArray[np.float32]:
        """Return the vectors of some ok rows, ids ascending: (n, D). Raises StoreError where one is missing."""
        name, store = self.vectors.name, self.store
        column = rows_at(store, self.files, ids, [name], mapper)[name]
        if column.null_count:
            raise StoreError(f"{store.root}: {column.null_count} rows of scores/ are ok and have no {name}")
        if not len(ids):
            return np.empty((0, 1), dtype=np.float32)
        return matrix(column, store.path(layout.SCORES), self.vectors)


@dataclass(frozen=True)
class Found:
    """Result of the search over all queries."""

    query_P: NDArray[np.int64]  # relevant pairs: query, row id, true score, gain, rank from 1
    id_P: NDArray[np.int64]
    score_P: NDArray[np.float64]
    gain_P: NDArray[np.float64]
    rank_P: NDArray[np.int64]
    top_scores_QK: NDArray[np.float64]  # best first; -inf and id -1 beyond the gallery's end
    top_ids_QK: NDArray[np.int64]
    sampled_queries: NDArray[np.int64]  # whose scores with the whole gallery make `histogram`
    histogram: NDArray[np.int64]
    gallery_rows: int


@dataclass(frozen=True)
class Chunk:
    """Some queries, numbered from 0, as a task needs them."""

    vectors_QD: NDArray[np.float32]
    relevance: Relevance
    left_out: tuple[Relevance, ...]
    sampled: NDArray[np.int64]  # for the histogram


def search(gallery: Gallery, queries: Queries, k: int, block_rows: int, mapper: Mapper, pace: Pace) -> Found:
    """Top K of each query and the rank of each relevant row, over the gallery.

    Queries are taken chunk by chunk, each with two passes over the vectors: the relevant pairs' scores, then the
    product with all queries of the chunk.
    """
    groups, num = mapper.groups(gallery.files), len(queries)
    sampled = np.unique(np.linspace(0, num - 1, min(num, HISTOGRAM_QUERIES)).astype(np.int64))
    scores, ids, gallery_rows = np.empty((num, k)), np.empty((num, k), dtype=np.int64), 0
    histogram = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    pairs: list[tuple[NDArray[Any], ...]] = [_no_pairs(5)]
    for start in range(0, num, QUERY_CHUNK):
        stop = min(start + QUERY_CHUNK, num)
        chunk = Chunk(
            queries.vectors(slice(start, stop)), queries.relevance.within(start, stop),
            tuple(part.within(start, stop) for part in queries.left_out),
            sampled[(sampled >= start) & (sampled < stop)] - start,
        )  # fmt: skip
        parts = list(mapper.map(relevant_pairs, groups, gallery, chunk, block_rows))
        query_P, id_P, score_P, gain_P = (np.concatenate(column) for column in zip(*parts, strict=True))
        counter = RankCounter(stop - start, query_P, id_P, score_P)
        top, gallery_rows = TopK(k, chunk.vectors_QD), 0
        # a Ray task cannot tell how far it is: there a group of files is a step
        tell = pace.add if mapper.tells_steps else None
        shared = (gallery, chunk, (query_P, id_P, score_P), k, block_rows, mapper.device, tell)
        for part_top, part_counts, part_histogram, rows in mapper.map(search_files, groups, *shared, gpu=True):
            top.merge(part_top)
            counter.add(part_counts)
            histogram += part_histogram
            gallery_rows += rows
            if tell is None:
                pace.add(rows, stop - start)
        scores[start:stop], ids[start:stop] = top.result()
        pairs.append((query_P + start, id_P, score_P, gain_P, counter.ranks()))
    query_P, id_P, score_P, gain_P, rank_P = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return Found(query_P, id_P, score_P, gain_P, rank_P, scores, ids, sampled, histogram, gallery_rows)


def relevant_pairs(files: Sequence[File], gallery: Gallery, chunk: Chunk, block_rows: int) -> tuple[NDArray[Any], ...]:
    """First pass over some files: query, id, true score and gain of every relevant pair."""
    found = [_no_pairs(4)]
    columns = [*chunk.relevance.columns, *_columns(chunk.left_out)]
    for block in gallery.blocks(files, block_rows, columns):
        if block.rows_ND.shape[1] != chunk.vectors_QD.shape[1]:
            raise StoreError(
                f"{gallery.store.root}: images have {block.rows_ND.shape[1]} dimensions, "
                f"queries {chunk.vectors_QD.shape[1]}: vectors of different models"
            )
        row, query, gain = chunk.relevance.pairs(block.values)
        if chunk.left_out:
            num = len(block.ids_N)
            out_row, out_query = _left_out(chunk.left_out, block)
            kept = ~np.isin(query * num + row, out_query * num + out_row)
            row, query, gain = row[kept], query[kept], gain[kept]
        found.append((query, block.ids_N[row], exact_scores(chunk.vectors_QD, block.rows_ND, query, row), gain))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def search_files(
    files: Sequence[File], gallery: Gallery, chunk: Chunk, pairs: tuple[NDArray[Any], ...], k: int, block_rows: int,
    device: str | None, tell: Callable[[int, int], None] | None = None,
) -> tuple[TopK, NDArray[np.int64], NDArray[np.int64], int]:  # fmt: skip
    """Make the second pass over some files; `tell` is called for each block.

    The histogram counts float32 scores, those outside -1..1 in the outer bins.
    """
    sieve, num = Sieve(chunk.vectors_QD, device), len(chunk.vectors_QD)
    top, counter, rows = TopK(k, chunk.vectors_QD), RankCounter(num, *pairs), 0
    histogram = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    sampled_SD = sieve.queries_QD[chunk.sampled]
    for block in gallery.blocks(files, block_rows, _columns(chunk.left_out)):
        scores_SB = sampled_SD @ block.rows_ND.T
        histogram += count_scores(scores_SB)
        if not chunk.left_out:
            sieve.scan(block.rows_ND, block.ids_N, [top, counter])
        else:
            row, query = _left_out(chunk.left_out, block)
            sieve.scan(block.rows_ND, block.ids_N, [top, counter], (query, row))
            counted = np.isin(query, chunk.sampled)
            histogram -= count_scores(scores_SB[np.searchsorted(chunk.sampled, query[counted]), row[counted]])
        rows += len(block.ids_N)
        if tell is not None:
            tell(len(block.ids_N), num)
    return top, counter.counts, histogram, rows


def _columns(parts: Sequence[Relevance]) -> list[str]:
    return list(dict.fromkeys(c for part in parts for c in part.columns))


def _left_out(parts: Sequence[Relevance], block: Vectors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the block and the queries whose gallery lacks them, each pair once."""
    num = max(len(block.ids_N), 1)
    found = [part.pairs(block.values) for part in parts]
    codes = np.unique(np.concatenate([query * num + row for row, query, _ in found]))
    return codes % num, codes // num


def count_scores(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Counts in equal bins from -1 to 1, what lies outside in the outer ones: several times quicker than
    np.histogram with edges."""
    place = (np.clip(scores, -1, 1).ravel() + 1) * (HISTOGRAM_BINS / 2)
    return np.bincount(np.minimum(place.astype(np.int64), HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS)


def _no_pairs(num_columns: int) -> tuple[NDArray[Any], ...]:
    """query, id, score, gain, rank."""
    whole = np.empty(0, np.int64)
    return (whole, whole, np.empty(0), np.empty(0), whole)[:num_columns]
