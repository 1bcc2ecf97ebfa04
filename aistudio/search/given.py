"""Reads somebody else's table and puts what it gives beside the rows of a run.

The table is streamed; what is given is held: 8 bytes for a score, 32 for the score of a query and a row. Vectors lie in
a temporary file that is mapped.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.errors import ConfigError
from aistudio.search.alignment import BAD_LINE, NO_KEY, NO_LINE, TOLD, Account, Given, RowIndex, shown
from aistudio.search.collecting import collector_for
from aistudio.search.gallery import ID_STEP, File
from aistudio.search.given_table import SETTING, GivenTable, Lines
from aistudio.store import Store


def align(table: GivenTable, store: Store, files: Sequence[File], folder: Path) -> Given:
    """Read the whole table and put it beside the rows.

    Args:
        folder: for the mapped file of vectors; the caller removes it.

    Raises:
        ConfigError: the file cannot be read, or no line of it can be used; says why.
        StoreError: a score file is damaged.
    """
    index, account = RowIndex(store, files, table.key, with_texts=table.has_text), Account()
    collector = collector_for(table, index, account, folder)
    for lines in table:
        account.lines += len(lines.keys)
        good = _readable(lines, account)
        collector.add(lines, good)
    given = collector.result()
    if not account.used:
        some = ", ".join(key or "" for _, key, _ in account.told[:3])
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in account.reasons.most_common()) or "it has no lines"
        raise ConfigError(
            f"{SETTING} {table.place}: none of its {account.lines:,} lines can be used, by {' and '.join(table.key)}: "
            f"{reasons}" + (f"; e.g. {some}" if some else "")
        )
    _account_for_rows(given, store, files)
    return given


def _readable(lines: Lines, account: Account) -> NDArray[np.bool_]:
    """Which lines could be read and name something, (N,) bool; the others are counted."""
    good = np.ones(len(lines.keys), bool)
    good[list(lines.problems)] = False
    numbers = lines.number_N.tolist()
    account.add(BAD_LINE, [(numbers[i], reason) for i, reason in lines.problems.items()])
    texts = lines.texts or [None] * len(numbers)
    nameless = [i for i, key in enumerate(lines.keys) if key is None and texts[i] is None and good[i]]
    good[nameless] = False
    account.add(NO_KEY, [(numbers[i], None) for i in nameless])
    return good


def _account_for_rows(given: Given, store: Store, files: Sequence[File]) -> None:
    """Count the ok rows without a line, and record some of them."""
    index, account = given.index, given.account
    without = index.ok_N & ~given.has_N
    account.rows_without = int(without.sum())
    start, room = 0, TOLD
    for number, key in files:
        num = int(np.searchsorted(index.id_N, (number + 1) * ID_STEP)) - start
        rows = np.flatnonzero(without[start : start + num])[:room]
        start, room = start + num, room - len(rows)
        if len(rows):
            names = store.read_table(key, ["row_id"])["row_id"].take(pa.array(rows)).to_pylist()
            account.told += [(None, shown(name), NO_LINE) for name in names]
