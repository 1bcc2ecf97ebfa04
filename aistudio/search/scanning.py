"""One pass over score files for many query vectors: the K best eligible rows of each.

What is not eligible is skipped inside the pass, before the K best are chosen, so that exclusions never shorten a list:
rows named by a column's value (the query's item, its copies), rows named by id, rows of another filter value. Rows that
are nearly equal to the query are collected beside; the caller leaves them out. Scores and order are those of index/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.index import Sieve, TopK, exact_scores
from aistudio.search.gallery import File, Vectors
from aistudio.search.keyed import SEPARATOR
from aistudio.search.pairs import NONE, Floats, Ints, Near, best_of, first_of_each, joined, runs, together
from aistudio.search.qrels import Relevance
from aistudio.search.searched import Searchable, texts_of

MAX_PAIRS = 2_000_000  # pairs of a query and a row held at once: 32 MB
SCAN_PAIRS = 65_536  # a filter value with fewer pairs in a block is compared pair by pair: a scan costs a millisecond


@dataclass(frozen=True)
class Filter:
    """The columns in which a row must equal the query, and the values that queries ask for."""

    columns: tuple[str, ...]
    values: pa.Array  # distinct texts; position: the code of a group of queries
    separator: str | None = None  # a row's text holds several values

    def rows(self, block: Vectors) -> tuple[Ints, Ints]:
        """Rows of the block and the codes that they have, sorted by code and row; rows of no code are left out."""
        texts = [texts_of(block.values[c]) for c in self.columns]
        joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, SEPARATOR)
        row = np.arange(len(joined))
        if self.separator is not None:
            parts = pc.split_pattern(joined, self.separator)
            row = np.asarray(pc.list_parent_indices(parts), dtype=np.int64)
            joined = pc.utf8_trim_whitespace(pc.list_flatten(parts))
        code = pc.fill_null(pc.index_in(joined, value_set=self.values), -1).to_numpy(zero_copy_only=False)
        pairs = np.unique(np.stack([code[code >= 0], row[code >= 0]], axis=1).astype(np.int64), axis=0)
        return pairs[:, 1], pairs[:, 0]


@dataclass(frozen=True)
class Part:
    """S query vectors of a pass, ordered by their filter's code, as a task needs them."""

    vectors_SD: NDArray[np.float32]
    k: int
    skips: tuple[Relevance, ...] = ()  # rows that a query's gallery lacks, by a column
    skip_ids_J: Ints = field(default_factory=lambda: NONE)  # and by id, ascending
    skip_subs_J: Ints = field(default_factory=lambda: NONE)
    filter: Filter | None = None
    code_S: Ints = field(default_factory=lambda: NONE)  # where there is a filter; ascending
    ceiling: float | None = None  # a row with a higher score is nearly equal to the query
    wanted: tuple[Relevance, ...] = ()  # relevant rows, to be found among the eligible ones
    explain: int = 0  # rows listed for each vector and reason
    most_near: int | None = None  # nearly equal pairs that are held; None: however many there are


@dataclass
class Pass:
    """What a pass, or a part of it, found. `merge` joins parts in the order of the gallery."""

    scores_SK: Floats  # best first; -inf and id -1 beyond the eligible rows
    ids_SK: Ints
    near: tuple[Ints, Ints] | None  # vector and id of rows above the ceiling; None: too many
    skipped: list[tuple[Ints, Ints]]  # per skip: vector and id, the first `explain` of each vector
    wanted: list[tuple[Ints, Ints]]  # per `Part.wanted`: vector and id of the eligible relevant rows
    rows: int

    def merge(self, other: "Pass", part: Part) -> "Pass":
        """Join with a part that comes later in the gallery."""
        k, explain = part.k, part.explain
        scores = np.concatenate([self.scores_SK, other.scores_SK], axis=1)
        ids = np.concatenate([self.ids_SK, other.ids_SK], axis=1)
        near = None if self.near is None or other.near is None else together(self.near, other.near)
        if near is not None and part.most_near is not None and len(near[0]) > part.most_near:
            near = None
        skipped = [first_of_each(together(a, b), explain) for a, b in zip(self.skipped, other.skipped, strict=True)]
        wanted = [together(a, b) for a, b in zip(self.wanted, other.wanted, strict=True)]
        return Pass(*best_of(scores, ids, k), near, skipped, wanted, self.rows + other.rows)


def scan_files(
    files: Sequence[File], gallery: Searchable, part: Part, block_rows: int, device: str | None = None
) -> Pass:
    """Search some files. Raises StoreError for a damaged file or vectors of another width."""
    scan = _Scan(part, device)
    columns = [c for relation in (*part.skips, *part.wanted) for c in relation.columns]
    columns += part.filter.columns if part.filter is not None else ()
    for block in gallery.blocks(files, block_rows, list(dict.fromkeys(columns))):
        for piece in _pieces(block, part):
            scan.add(piece)
    return scan.result()


class _Group:
    """The queries of one filter value, from `start` on, while rows stream by."""

    def __init__(self, part: Part, start: int, stop: int, device: str | None) -> None:
        self.start, self.stop = start, stop
        vectors = part.vectors_SD[start:stop]
        self.sieve, self.top = Sieve(vectors, device), TopK(part.k, vectors)
        self.near = None if part.ceiling is None else Near(part.ceiling, stop - start, part.most_near)

    def scan(self, rows_ND: NDArray[np.float32], ids_N: Ints, skip: tuple[Ints, Ints]) -> None:
        self.sieve.scan(rows_ND, ids_N, [self.top] if self.near is None else [self.top, self.near], skip)


class _Scan:
    """A pass over some files in the making."""

    def __init__(self, part: Part, device: str | None) -> None:
        self.part, self._device = part, device
        num = len(part.vectors_SD)
        self._scores_SK, self._ids_SK = np.full((num, part.k), -np.inf), np.full((num, part.k), -1, np.int64)
        self._groups: dict[int, _Group] = {}
        self._near: list[tuple[Ints, Ints]] = []
        self._rows = 0
        self._skipped: list[tuple[Ints, Ints]] = [(NONE, NONE) for _ in part.skips]
        self._wanted: list[list[tuple[Ints, Ints]]] = [[] for _ in part.wanted]

    def add(self, block: Vectors) -> None:
        """Search a block. Nothing more is done once there are too many nearly equal pairs."""
        if self._too_many():
            return
        part, num = self.part, len(block.ids_N)
        if num and block.rows_ND.shape[1] != part.vectors_SD.shape[1]:
            have, asked = block.rows_ND.shape[1], part.vectors_SD.shape[1]
            raise StoreError(f"stored vectors have {have} dimensions, queries {asked}: vectors of different models")
        row, code = (np.arange(num), np.zeros(num, np.int64)) if part.filter is None else part.filter.rows(block)
        skip_sub, skip_row = self._skips(block)
        self._find_wanted(block, (row, code), skip_sub * num + skip_row)
        self._rows += num
        small: list[tuple[Ints, int, int]] = []
        for start, stop in runs(code):
            first, last = self._queries(int(code[start]))
            if part.filter is not None and (last - first) * (stop - start) < SCAN_PAIRS:
                small.append((row[start:stop], first, last))
            elif last > first:
                self._scan_group(block, row[start:stop], (first, last), skip_sub, skip_row)
        self._compare(block, small, skip_sub * num + skip_row)

    def _queries(self, code: int) -> tuple[int, int]:
        if self.part.filter is None:
            return 0, len(self.part.vectors_SD)
        first, last = np.searchsorted(self.part.code_S, [code, code + 1])
        return int(first), int(last)

    def _skips(self, block: Vectors) -> tuple[Ints, Ints]:
        """Vectors and rows of the pairs that are not eligible, each once."""
        part, num, found = self.part, max(len(block.ids_N), 1), []
        for number, relation in enumerate(part.skips):
            row, sub, _ = relation.pairs(block.values)
            found.append(sub * num + row)
            if part.explain:
                told = together(self._skipped[number], (sub, block.ids_N[row]))
                self._skipped[number] = first_of_each(told, part.explain)
        low, high = np.searchsorted(part.skip_ids_J, [block.ids_N[0], block.ids_N[-1] + 1]) if num else (0, 0)
        named = part.skip_ids_J[low:high]
        place = np.minimum(np.searchsorted(block.ids_N, named), num - 1)
        here = block.ids_N[place] == named
        found.append(part.skip_subs_J[low:high][here] * num + place[here])
        codes = np.unique(np.concatenate(found))
        return codes // num, codes % num

    def _find_wanted(self, block: Vectors, rows: tuple[Ints, Ints], skipped: Ints) -> None:
        part, num = self.part, len(block.ids_N)
        for number, relation in enumerate(part.wanted):
            row, sub, _ = relation.pairs(block.values)
            kept = ~np.isin(sub * num + row, skipped)
            if part.filter is not None and len(row):
                eligible = rows[1] * num + rows[0]
                kept &= np.isin(part.code_S[sub] * num + row, eligible)
            self._wanted[number].append((sub[kept], block.ids_N[row[kept]]))

    def _scan_group(self, block: Vectors, row: Ints, queries: tuple[int, int], skip_sub: Ints, skip_row: Ints) -> None:
        first, last = queries
        if first not in self._groups:
            self._groups[first] = _Group(self.part, first, last, self._device)
        if self.part.filter is None:
            self._groups[first].scan(block.rows_ND, block.ids_N, (skip_sub, skip_row))
            return
        own = (skip_sub >= first) & (skip_sub < last)
        place = np.minimum(np.searchsorted(row, skip_row[own]), len(row) - 1)
        here = row[place] == skip_row[own]
        skip = (skip_sub[own][here] - first, place[here])
        self._groups[first].scan(block.rows_ND[row], block.ids_N[row], skip)

    def _compare(self, block: Vectors, small: list[tuple[Ints, int, int]], skipped: Ints) -> None:
        """Compare pair by pair where filter values have few."""
        held: list[tuple[Ints, Ints]] = []
        for position, (rows, first, last) in enumerate(small):
            subs = np.repeat(np.arange(first, last), len(rows))
            held.append((subs, np.tile(rows, last - first)))
            if position == len(small) - 1 or sum(len(h[0]) for h in held) >= MAX_PAIRS:
                sub, row = (np.concatenate(column) for column in zip(*held, strict=True))
                held = []
                kept = ~np.isin(sub * len(block.ids_N) + row, skipped)
                self._take_pairs(block, sub[kept], row[kept])

    def _take_pairs(self, block: Vectors, sub: Ints, row: Ints) -> None:
        part = self.part
        score = exact_scores(part.vectors_SD, block.rows_ND, sub, row)
        if part.ceiling is not None:
            near = score > part.ceiling
            self._near.append((sub[near], block.ids_N[row[near]]))
        order = np.lexsort((block.ids_N[row], -score, sub))
        sub, row, score = sub[order], row[order], score[order]
        place = np.arange(len(sub)) - np.searchsorted(sub, sub)
        kept = place < part.k
        asked = np.unique(sub)
        at = np.searchsorted(asked, sub[kept])
        scores, ids = np.full((len(asked), part.k), -np.inf), np.full((len(asked), part.k), -1, np.int64)
        scores[at, place[kept]], ids[at, place[kept]] = score[kept], block.ids_N[row[kept]]
        self._merge(asked, scores, ids)

    def _merge(self, subs: Ints, scores: Floats, ids: Ints) -> None:
        both_scores = np.concatenate([self._scores_SK[subs], scores], axis=1)
        both_ids = np.concatenate([self._ids_SK[subs], ids], axis=1)
        self._scores_SK[subs], self._ids_SK[subs] = best_of(both_scores, both_ids, self.part.k)

    def _too_many(self) -> bool:
        """Whether more nearly equal pairs were found than can be held."""
        found = sum(group.near.count for group in self._groups.values() if group.near is not None)
        found += sum(len(sub) for sub, _ in self._near)
        return self.part.most_near is not None and found > self.part.most_near

    def result(self) -> Pass:
        """Return what was found."""
        near = list(self._near)
        for group in self._groups.values():
            self._merge(np.arange(group.start, group.stop), *group.top.result())
            if group.near is not None:
                near += [(sub + group.start, row_id) for sub, row_id in group.near.found]
        wanted = [joined(found) for found in self._wanted]
        together = None if self._too_many() else joined(near)
        return Pass(self._scores_SK, self._ids_SK, together, self._skipped, wanted, self._rows)


def _pieces(block: Vectors, part: Part) -> Iterator[Vectors]:
    """Cut a block so that no piece has much more than MAX_PAIRS pairs with the skips or the relevant rows."""
    num = len(block.ids_N)
    count = np.zeros(num, np.int64)
    for relation in (*part.skips, *part.wanted):
        count += _pair_counts(relation, block)
    if count.sum() <= MAX_PAIRS:
        yield block
        return
    step = np.cumsum(count) // MAX_PAIRS
    for start, stop in runs(step):
        values = {c: v.slice(start, stop - start) for c, v in block.values.items()}
        yield Vectors(block.rows_ND[start:stop], block.ids_N[start:stop], values)


def _pair_counts(relation: Relevance, block: Vectors) -> Ints:
    """How many queries each row of the block belongs to: (N,)."""
    own = relation.values_of(block.values)
    known = pc.fill_null(pc.index_in(own, value_set=relation.names), -1).to_numpy(zero_copy_only=False)
    per_name = np.append(np.diff(relation.start_I1), 0)  # -1 finds the 0 at the end
    return np.asarray(per_name[known])
