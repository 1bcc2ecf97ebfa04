"""Compares what was read back of an export with the run, row by row: ids, vectors bit for bit, and how many."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.exports.format import Format, Read
from aistudio.exports.overlap import Overlap
from aistudio.exports.source import Batch, Source


def check(form: Format, source: Source, folder: Path, overlap: Overlap | None = None) -> int:
    """Read an export back and return how many rows it has, all of them equal to the run's.

    Args:
        overlap: is given the rows, to measure what the exported vectors lose.

    Raises:
        StoreError: it is not what was to be exported; names the first row that differs.
    """
    back = _Rows(form.read(source, folder))
    stored = form.as_stored(source, folder) if form.as_stored is not None else None
    num_rows = 0
    for batch in source.batches(with_columns=False):
        found = back.take(len(batch.valid_N))
        expected = batch.vectors_ND if stored is None else stored(batch.vectors_ND)
        _compare(batch, expected, found, folder)
        num_rows += len(found.row_ids)
        if overlap is not None and batch.valid_N.any():
            vectors_ND = found.vectors_ND.astype(np.float32)
            if batch.step_N is not None:
                vectors_ND *= batch.step_N[:, None]
            rows_N = batch.first + np.flatnonzero(batch.valid_N)
            overlap.add(rows_N, batch.stored_ND[batch.valid_N], vectors_ND[batch.valid_N])
    if more := len(back.take(1).row_ids):
        raise StoreError(f"{folder}: reading back gave more than the {num_rows:,} rows of the run ({more} at least)")
    return num_rows


def _compare(batch: Batch, expected_ND: NDArray[Any], found: Read, folder: Path) -> None:
    wanted, got = batch.row_ids, found.row_ids
    for i, (one, other) in enumerate(zip(wanted, got, strict=False)):
        if one != other:
            raise StoreError(f"{folder}: row {batch.first + i:,} was read back as {other!r}, and is {one!r} in the run")
    if len(got) != len(wanted):
        raise StoreError(
            f"{folder}: reading back ended after {batch.first + len(got):,} rows; row {wanted[len(got)]!r} is missing"
        )
    same_N = found.valid_N == batch.valid_N
    if found.vectors_ND.shape != expected_ND.shape or found.vectors_ND.dtype != expected_ND.dtype:
        raise StoreError(
            f"{folder}: vectors were read back as {found.vectors_ND.dtype} {found.vectors_ND.shape[1:]}, "
            f"expected {expected_ND.dtype} {expected_ND.shape[1:]}"
        )
    same_N &= ~batch.valid_N | (found.vectors_ND == expected_ND).all(axis=1)
    if not same_N.all():
        raise StoreError(f"{folder}: the vector of row {wanted[int(np.argmin(same_N))]!r} was read back as another one")


class _Rows:
    """What was read back, in pieces of the size that is asked for."""

    def __init__(self, reads: Iterator[Read]) -> None:
        self._reads = reads
        self._held: Read | None = None

    def take(self, num: int) -> Read:
        """Return the next `num` rows, fewer at the end."""
        parts: list[Read] = []
        have = 0
        while have < num:
            held = self._held or next(self._reads, None)
            if held is None:
                break
            wanted = num - have
            parts.append(Read(held.row_ids[:wanted], held.vectors_ND[:wanted], held.valid_N[:wanted]))
            rest = Read(held.row_ids[wanted:], held.vectors_ND[wanted:], held.valid_N[wanted:])
            self._held = rest if rest.row_ids else None
            have += len(parts[-1].row_ids)
        if not parts:
            return Read([], np.zeros((0, 0), np.float32), np.zeros(0, bool))
        ids = [row_id for part in parts for row_id in part.row_ids]
        return Read(ids, np.concatenate([p.vectors_ND for p in parts]), np.concatenate([p.valid_N for p in parts]))
