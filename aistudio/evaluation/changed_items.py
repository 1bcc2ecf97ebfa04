"""Which items may have other chosen images in one selection than in another: a pass that keeps numbers alone.

In memory are 36 bytes for each chosen image and 8 for each item. What differs, and why, is found afterwards for these
items alone (selection_changes.py).
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.evaluation.text_hashes import Hashes, text_hashes
from aistudio.runs import layout
from aistudio.runs.next_command import next_command
from aistudio.store import Store

_COLUMNS = ("item_id", "row_id", "image_url", "selected", "position")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without a pattern: 2^64 over the golden ratio


class Choices(NamedTuple):
    """The chosen images of a run as numbers."""

    items: Hashes  # all items, sorted, each once
    chosen_of: Hashes  # item of each chosen image
    positions: NDArray[np.int64]
    urls: Hashes
    contents: Hashes  # 0: not known


class Candidates(NamedTuple):
    """What the pass found."""

    items: Hashes  # to look at, sorted
    num_before: int
    num_now: int
    num_new: int
    num_gone: int


def selection_keys(store: Store) -> list[str]:
    """List the files of a run's selection. Raises StoreError: there is none, with the command that makes it."""
    keys = [e.key for e in store.list(layout.SELECTION) if e.key.endswith(".parquet")]
    if not keys:
        first = next_command("select", store.root, store.settings)
        raise StoreError(f"{store.root}: no selection there; first: {first}")
    return keys


def read_selection(store: Store, key: str, columns: tuple[str, ...]) -> pa.Table:
    """Read columns of a file of a selection. Raises StoreError: it is damaged, or lacks one."""
    table = store.read_table(key, columns, verify=True)
    if missing := [c for c in columns if c not in table.column_names]:
        raise StoreError(f"{store.path(key)}: not a selection: it has no column {missing[0]!r}")
    return table


def choices(store: Store) -> Choices:
    """Read a run's selection, and what bytes its chosen images have. Raises StoreError."""
    parts: dict[str, list[Any]] = {n: [] for n in ("items", "of", "rows", "positions", "urls")}
    for key in selection_keys(store):
        table = read_selection(store, key, _COLUMNS)
        parts["items"].append(np.unique(text_hashes(table["item_id"])))
        chosen = table.filter(table["selected"])
        parts["of"].append(text_hashes(chosen["item_id"]))
        parts["rows"].append(text_hashes(chosen["row_id"]))
        parts["urls"].append(text_hashes(chosen["image_url"]))
        parts["positions"].append(chosen["position"].fill_null(0).to_numpy().astype(np.int64))
    whole: dict[str, Any] = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    contents = _contents(store, whole["rows"])
    return Choices(np.unique(whole["items"]), whole["of"], whole["positions"], whole["urls"], contents)


def _contents(store: Store, rows: Hashes) -> Hashes:
    """The content hash of each of these rows, 0 where the score row is gone or has none."""
    order = np.argsort(rows, kind="stable")
    ranked = rows[order]
    found = np.zeros(len(rows), np.uint64)
    for key in layout.score_keys(store) if len(rows) else ():
        table = store.read_table(key, ("row_id", "content_hash"))
        if "content_hash" not in table.column_names:
            continue
        here = text_hashes(table["row_id"])
        place = np.minimum(np.searchsorted(ranked, here), len(ranked) - 1)
        hit = ranked[place] == here
        found[order[place[hit]]] = text_hashes(table["content_hash"])[hit]
    return found


def candidates(before: Choices, now: Choices) -> Candidates:
    """Items whose chosen images differ in number, order, address or bytes, or that have any in one run alone."""
    known = bool(before.contents.any() and now.contents.any())  # a run without them is compared by address
    (items_a, said_a), (items_b, said_b) = (_signatures(c, known) for c in (before, now))
    both, a, b = np.intersect1d(items_a, items_b, assume_unique=True, return_indices=True)
    differ = [both[said_a[a] != said_b[b]], np.setxor1d(items_a, items_b, assume_unique=True)]
    num_new = len(np.setdiff1d(now.items, before.items, assume_unique=True))
    num_gone = len(np.setdiff1d(before.items, now.items, assume_unique=True))
    return Candidates(np.unique(np.concatenate(differ)), len(before.items), len(now.items), num_new, num_gone)


def _signatures(found: Choices, contents: bool) -> tuple[Hashes, Hashes]:
    """Items with a chosen image, sorted, and 64 bits that stand for each one's images in their order."""
    if not len(found.chosen_of):
        return found.chosen_of, found.chosen_of
    order = np.argsort(found.chosen_of, kind="stable")
    items = found.chosen_of[order]
    image = found.urls[order] * _MIX
    if contents:
        image ^= found.contents[order] * (_MIX + np.uint64(2))
    image ^= image >> np.uint64(29)
    image *= found.positions[order].astype(np.uint64) * np.uint64(2) + np.uint64(1)
    image ^= image >> np.uint64(32)
    starts = np.flatnonzero(np.concatenate([[True], items[1:] != items[:-1]]))
    return items[starts], np.add.reduceat(image, starts)
