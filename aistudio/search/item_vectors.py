"""Items as mean vectors: the mean of an item's unit vectors, of length one again, and the gallery that they make.

Sums are float64 in the order of the gallery, in this process, so that the result does not depend on blocks or files.
Memory: 12 bytes for each number of the items' vectors while they are made, 4 afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.search.gallery import File, Vectors, unit_rows
from aistudio.search.pairs import Ints
from aistudio.search.searched import Searchable, Searched
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store


@dataclass(frozen=True)
class Items:
    """I items in the order of their first rows: that row's id and column values, and the mean vector."""

    names: pa.Array
    ids_I: Ints
    vectors_ID: NDArray[np.float32]
    values: dict[str, pa.Array]


def mean_items(gallery: Searchable, columns: Sequence[str], block_rows: int) -> Items:
    """Read the gallery once and return the mean vector of each item, and values of its first row."""
    place: dict[str, int] = {}
    sums, ids, kept = np.zeros((0, 0)), [np.empty(0, np.int64)], []
    for block in gallery.blocks(gallery.files, block_rows, list(dict.fromkeys(["item_id", *columns]))):
        names, before = block.values["item_id"].to_pylist(), len(place)
        item = np.array([place.setdefault(name, len(place)) for name in names], np.int64)
        if len(place) > len(sums):
            grown = np.zeros((max(2 * len(sums), len(place)), block.rows_ND.shape[1]))
            grown[: len(sums)] = sums if len(sums) else grown[:0]
            sums = grown
        np.add.at(sums, item, block.rows_ND.astype(np.float64))
        fresh, first = np.unique(item, return_index=True)
        first = first[fresh >= before]
        ids.append(block.ids_N[first])
        kept.append({c: v.take(pa.array(first)) for c, v in block.values.items()})
    values = {c: pa.concat_arrays([k[c] for k in kept]) for c in (kept[0] if kept else ())}
    vectors = unit_rows(sums[: len(place)]) if len(place) else np.zeros((0, 0), np.float32)
    return Items(pa.array(list(place), pa.string()), np.concatenate(ids), vectors, values)


@dataclass(frozen=True)
class ItemGallery:
    """A gallery whose rows are items; ids are those of the items' first rows, which ascend."""

    store: Store
    files: Sequence[File]  # of the run, for looking up rows; a pass reads none of them
    vectors: VectorColumn
    items: Items

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield the items whose first row is in one of the files."""
        for number, _ in files:
            low, high = np.searchsorted(self.items.ids_I, [number << 32, (number + 1) << 32])
            for start in range(int(low), int(high), block_rows):
                stop = min(start + block_rows, int(high))
                values = {c: self.items.values[c].slice(start, stop - start) for c in columns}
                yield Vectors(self.items.vectors_ID[start:stop], self.items.ids_I[start:stop], values)


def item_gallery(gallery: Searched, columns: Sequence[str], block_rows: int) -> ItemGallery:
    """Make the gallery of mean vectors; `columns` are those that a search will ask for."""
    return ItemGallery(gallery.store, gallery.files, gallery.vectors, mean_items(gallery, columns, block_rows))
