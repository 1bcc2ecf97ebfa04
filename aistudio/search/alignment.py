"""Puts somebody else's scores or vectors beside the rows of a run, by key, and accounts for what does not fit.

Every line is used or has a reason: `bad_line`, `no_key`, `not_a_number`, `no_vector`, `wrong_width`, `unknown_row`,
`failed_row`, `unknown_text`, `duplicate` (the first line of a row counts); ok rows without a usable line are `no_line`.

Held are 33 bytes for each row of the run (two hashes of 64 bits of its key, its place) and what is given (given.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.schema import Status
from aistudio.search.gallery import ID_STEP, File
from aistudio.search.given_table import GivenTable
from aistudio.search.keyed import SEPARATOR
from aistudio.search.searched import texts_of
from aistudio.store import Store
from aistudio.values import column_values

TOLD = 10_000  # lines kept of each reason; all are counted
UNMATCHED_SCHEMA = pa.schema([("line", pa.int64()), ("key", pa.string()), ("reason", pa.string())])
BAD_LINE, NO_KEY, NOT_A_NUMBER, NO_VECTOR, WRONG_WIDTH = (
    "bad_line", "no_key", "not_a_number", "no_vector", "wrong_width",
)  # fmt: skip
UNKNOWN_ROW, FAILED_ROW, UNKNOWN_TEXT, DUPLICATE, NO_LINE = (
    "unknown_row", "failed_row", "unknown_text", "duplicate", "no_line",
)  # fmt: skip

Ints = NDArray[np.int64]
Hashes = tuple[NDArray[np.uint64], NDArray[np.uint64]]


@dataclass
class Account:
    """What became of the lines of a table, and which ok rows have none."""

    lines: int = 0
    used: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of lines that are not used
    rows_without: int = 0
    told: list[tuple[int | None, str | None, str]] = field(default_factory=list)

    def add(self, reason: str, lines: Sequence[tuple[int, str | None]]) -> None:
        """Count lines, number and key of each, that are not used."""
        if not lines:
            return
        room = max(0, TOLD - self.reasons[reason])
        self.told += [(number, shown(key), reason) for number, key in lines[:room]]
        self.reasons[reason] += len(lines)

    def table(self) -> pa.Table:
        """Return the lines and rows that were recorded, by reason and line: line, key, reason."""
        rows = sorted(self.told, key=lambda t: (t[2], t[0] if t[0] is not None else -1))
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, UNMATCHED_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=UNMATCHED_SCHEMA)


class RowIndex:
    """The rows of a run by key: N rows in the order of the manifest, each with its place 0 .. N - 1."""

    def __init__(self, store: Store, files: Sequence[File], key: Sequence[str], *, with_texts: bool) -> None:
        """Read the key columns of all score files. Raises StoreError for a damaged one."""
        hashes, ids, ok, texts = [_no_hashes()], [np.empty(0, np.int64)], [np.empty(0, bool)], [_no_hashes()]
        columns = [*key, *(["text"] if with_texts else [])]
        for number, file in files:
            table = store.read_table(file, list(dict.fromkeys([*columns, "status"])), verify=True)
            hashes.append(hash_texts(_keys(table, key)))
            ids.append(number * ID_STEP + np.arange(table.num_rows))
            ok.append(pc.equal(table["status"], Status.OK.value).to_numpy(zero_copy_only=False))
            if with_texts:
                texts.append(hash_texts(pc.unique(table["text"]).to_pylist()))
        self.id_N, self.ok_N = np.concatenate(ids), np.concatenate(ok)
        first, second = (np.concatenate(part) for part in zip(*hashes, strict=True))
        self._order = np.lexsort((np.arange(len(first)), second, first))
        self._first, self._second = first[self._order], second[self._order]
        known = np.stack([np.concatenate(part) for part in zip(*texts, strict=True)], axis=1)
        self._texts = {(a, b) for a, b in np.unique(known, axis=0).tolist()}

    def __len__(self) -> int:
        return len(self.id_N)

    def find(self, keys: Sequence[str | None]) -> tuple[Ints, Ints]:
        """Return the pairs of a key's place and a row's place that belong together: (M,) each, by key."""
        first, second = hash_texts(keys)
        start, end = (np.searchsorted(self._first, first, side) for side in ("left", "right"))
        num = np.where(np.array([key is None for key in keys], bool), 0, end - start)
        line = np.repeat(np.arange(len(num)), num)
        at = np.repeat(start - np.cumsum(num) + num, num) + np.arange(len(line))
        same = self._second[at] == second[line]
        return line[same], self._order[at[same]]

    def has_text(self, text: str) -> bool:
        """Whether a row has this text."""
        first, second = hash_texts([text])
        return (int(first[0]), int(second[0])) in self._texts


@dataclass(frozen=True)
class Given:
    """What a table gives for N rows: scores, vectors, or triples of a query, a row and a score."""

    table: GivenTable
    index: RowIndex
    account: Account
    has_N: NDArray[np.bool_]  # rows with a usable line
    scores_N: NDArray[np.float64] | None = None  # NaN where there is none
    vectors_ND: NDArray[np.float32] | None = None  # unit rows, zeros where there is none; a mapped file
    text_vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # unit rows
    queries: tuple[str, ...] = ()  # names as the table has them
    # place in `queries`, place of the row, score, line; T each
    triples: tuple[Ints, Ints, NDArray[np.float64], Ints] | None = None


def hash_texts(texts: Sequence[str | None]) -> Hashes:
    """Return two independent 64-bit hashes of each text, (N,) uint64; of None those of the empty text."""
    values = np.array([text or "" for text in texts], dtype=object)
    if not len(values):
        return _no_hashes()
    first, second = (pd.util.hash_array(values, hash_key=key, categorize=False) for key in ("a" * 16, "b" * 16))
    return first, second


def _no_hashes() -> Hashes:
    return np.empty(0, np.uint64), np.empty(0, np.uint64)


def _keys(table: pa.Table, columns: Sequence[str]) -> list[str | None]:
    """Keys of stored rows; None where a part is null."""
    parts = [column_values(texts_of(whole(table[c]))) for c in columns]
    return [None if None in key else SEPARATOR.join(key) for key in zip(*parts, strict=True)]


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    joined = column.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def row_ids_where(store: Store, files: Sequence[File], chosen_N: NDArray[np.bool_]) -> pa.Array:
    """Return the row ids of the chosen ones of a run's N rows."""
    parts, start = [pa.array([], pa.string())], 0
    for _, key in files:
        column = store.read_table(key, ["row_id"])["row_id"]
        parts.append(whole(column.filter(pa.array(chosen_N[start : start + len(column)]))))
        start += len(column)
    return pa.concat_arrays(parts)


def shown(key: str | None) -> str | None:
    """Return a key as people read it."""
    return None if key is None else key.replace(SEPARATOR, " ")


def lines_of(numbers: Ints, keys: Sequence[str | None], places: Ints) -> Iterator[tuple[int, str | None]]:
    """Yield number and key of some lines."""
    for i in places.tolist():
        yield int(numbers[i]), keys[i]
