"""What makes the passes of a search: `Reader` is the contract, `FromFiles` reads score files.

search/searcher.py has a second one, over vectors held in memory.
"""

from collections.abc import Sequence
from typing import Protocol

from aistudio.runs.mapper import Mapper
from aistudio.search.lookup import rows_at
from aistudio.search.naming import whole
from aistudio.search.pairs import Ints
from aistudio.search.scanning import Part, Pass, scan_files
from aistudio.search.searched import Searchable, texts_of


class Reader(Protocol):
    """One gallery, searched pass by pass."""

    def scan(self, part: Part) -> Pass:
        """Give each query vector its K best eligible rows. Raises StoreError for a damaged file."""

    def texts(self, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """Return the values of some columns as texts, in the order of `ids`, which ascend."""


class FromFiles:
    """Passes over score files, here or as tasks."""

    def __init__(self, gallery: Searchable, mapper: Mapper, block_rows: int) -> None:
        self.gallery, self.mapper, self.block_rows = gallery, mapper, block_rows

    def scan(self, part: Part) -> Pass:
        """As `Reader.scan`."""
        gallery, mapper = self.gallery, self.mapper
        found: Pass | None = None
        groups = mapper.groups(gallery.files)
        for one in mapper.map(scan_files, groups, gallery, part, self.block_rows, mapper.device, gpu=True):
            found = one if found is None else found.merge(one, part)
        if found is None:  # no files
            return scan_files([], gallery, part, self.block_rows)
        return found

    def texts(self, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """As `Reader.texts`."""
        table = rows_at(self.gallery.store, self.gallery.files, ids, columns, self.mapper)
        return {c: texts_of(whole(table[c])).to_pylist() for c in columns}
