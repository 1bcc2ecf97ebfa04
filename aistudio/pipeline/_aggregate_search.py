"""The search of `aggregate`: score files in parallel, exact top-K and ranks merged, here or under Ray.

The same functions run in this process for a small run (Ray's start would take longer than the work) and as Ray tasks
for a large one. What comes back to the driver are ids and scores of the best rows and one rank per relevant pair,
never vectors. Leaves out: what the ranks mean (metrics/), reading (_aggregate_rows.py, _aggregate_gallery.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.exceptions
from numpy.typing import NDArray

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError, StoreError
from aistudio.index import RankCounter, Sieve, TopK, exact_scores
from aistudio.pipeline import engine
from aistudio.pipeline._aggregate_gallery import File, vector_blocks
from aistudio.pipeline._aggregate_rows import Relevance
from aistudio.store import Store

PARALLEL_BYTES = 400 * 2**20  # of score files: below, starting Ray costs more than it saves
TASKS_PER_CPU = 4  # so that an unlucky task does not hold up the rest
QUERY_CHUNK = 50_000  # queries searched at once: bounds a task's memory to some hundred megabytes
HISTOGRAM_QUERIES = 64
HISTOGRAM_EDGES = np.linspace(-1, 1, 201)


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


class Workers:
    """Maps a function over groups of files: in this process, or as Ray tasks with a bounded number in flight."""

    def __init__(self, num: int, gpu: bool) -> None:
        """`num`: CPUs (or GPUs) of the cluster; 0: in this process."""
        self.num, self.device = num, "cuda" if gpu else None

    def groups(self, files: Sequence[File]) -> list[list[File]]:
        """Consecutive files together, so that the order within a group is the manifest's."""
        parts = min(len(files), max(1, self.num * TASKS_PER_CPU))
        return [[files[i] for i in part] for part in np.array_split(np.arange(len(files)), parts)]

    def map(self, work: Callable[..., Any], groups: Sequence[Any], *shared: Any, gpu: bool = False) -> Iterator[Any]:
        """`work(group, *shared)` for each group, in the order of the groups."""
        if not self.num:
            yield from (work(group, *shared) for group in groups)
            return
        on_gpu = gpu and self.device is not None
        task = ray.remote(work).options(num_cpus=1, num_gpus=1 if on_gpu else 0, max_retries=2)
        held = [ray.put(value) for value in shared]
        running: list[Any] = []
        todo = iter(groups)
        try:
            while True:
                while len(running) < 2 * self.num and (group := next(todo, None)) is not None:
                    running.append(task.remote(group, *held))
                if not running:
                    return
                yield ray.get(running.pop(0))
        except ray.exceptions.RayError as e:
            raise engine.our_error(e) or AIStudioError(f"aggregation failed under Ray: {e}") from None


@contextmanager
def workers(total_bytes: int, settings: EngineSettings) -> Iterator[Workers]:
    """Ray for a large run, this process for a small one (and where a Ray address is set: there)."""
    if total_bytes < PARALLEL_BYTES:
        yield Workers(0, gpu=False)
        return
    with engine.engine(settings) as resources:
        yield Workers(max(1, int(resources.gpus or resources.cpus)), gpu=resources.gpus >= 1)


def search(
    store: Store, files: Sequence[File], queries_QD: NDArray[np.float32], relevance: Relevance, k: int,
    block_rows: int, pool: Workers,
) -> Found:  # fmt: skip
    """Top K of each query and the rank of each relevant row, over all ok rows of the score files.

    Two passes over the vectors: the relevant pairs' scores, then the product with all queries.
    """
    groups, num = pool.groups(files), len(queries_QD)
    parts = list(pool.map(relevant_pairs, groups, store, queries_QD, relevance, block_rows))
    query_P, id_P, score_P, gain_P = (np.concatenate(column) for column in zip(*parts, strict=True))
    rank_P = np.zeros(len(query_P), dtype=np.int64)
    scores, ids, gallery_rows = np.empty((num, k)), np.empty((num, k), dtype=np.int64), 0
    sampled = np.unique(np.linspace(0, num - 1, min(num, HISTOGRAM_QUERIES)).astype(np.int64))
    histogram = np.zeros(len(HISTOGRAM_EDGES) - 1, dtype=np.int64)
    for start in range(0, max(num, 1), QUERY_CHUNK):
        chunk = slice(start, start + QUERY_CHUNK)
        inside = np.flatnonzero((query_P >= start) & (query_P < start + QUERY_CHUNK))
        pairs = (query_P[inside] - start, id_P[inside], score_P[inside])
        own = sampled[(sampled >= start) & (sampled < start + QUERY_CHUNK)] - start
        top, counter, gallery_rows = TopK(k, queries_QD[chunk]), RankCounter(len(queries_QD[chunk]), *pairs), 0
        shared = (store, queries_QD[chunk], pairs, own, k, block_rows, pool.device)
        for part_top, part_counts, part_histogram, rows in pool.map(search_files, groups, *shared, gpu=True):
            top.merge(part_top)
            counter.add(part_counts)
            histogram += part_histogram
            gallery_rows += rows
        scores[chunk], ids[chunk] = top.result()
        rank_P[inside] = counter.ranks()
    return Found(query_P, id_P, score_P, gain_P, rank_P, scores, ids, sampled, histogram, gallery_rows)


def relevant_pairs(
    files: Sequence[File], store: Store, queries_QD: NDArray[np.float32], relevance: Relevance, block_rows: int
) -> tuple[NDArray[Any], ...]:
    """First pass over some files: query, id, true score and gain of every relevant pair."""
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    found: list[tuple[NDArray[Any], ...]] = [empty]
    for block in vector_blocks(store, files, block_rows, relevance.column):
        if block.rows_ND.shape[1] != queries_QD.shape[1]:
            raise StoreError(
                f"{store.root}: images have {block.rows_ND.shape[1]} dimensions, texts {queries_QD.shape[1]}: "
                "scores/ and texts/ are of different models"
            )
        row, query, gain = relevance.pairs(block.values_N)
        found.append((query, block.ids_N[row], exact_scores(queries_QD, block.rows_ND, query, row), gain))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def search_files(
    files: Sequence[File], store: Store, queries_QD: NDArray[np.float32], pairs: tuple[NDArray[Any], ...],
    sampled: NDArray[np.int64], k: int, block_rows: int, device: str | None,
) -> tuple[TopK, NDArray[np.int64], NDArray[np.int64], int]:  # fmt: skip
    """Second pass over some files. The histogram counts float32 scores, those outside -1..1 in the outer bins."""
    sieve = Sieve(queries_QD, device)
    top, counter, rows = TopK(k, queries_QD), RankCounter(len(queries_QD), *pairs), 0
    histogram = np.zeros(len(HISTOGRAM_EDGES) - 1, dtype=np.int64)
    for block in vector_blocks(store, files, block_rows):
        sieve.scan(block.rows_ND, block.ids_N, [top, counter])
        histogram += count_scores(sieve.queries_QD[sampled] @ block.rows_ND.T)
        rows += len(block.ids_N)
    return top, counter.counts, histogram, rows


def count_scores(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Counts in the bins of HISTOGRAM_EDGES."""
    return np.histogram(np.clip(scores, -1, 1), HISTOGRAM_EDGES)[0]
