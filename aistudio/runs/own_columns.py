"""The user's own columns in results: which they are, under which name, and which of them are numbers.

A CSV has no types, so its columns are stored as text. In results a column of text is a number if every value of the run
is one (blank ones are null), written as a number is written: `0012` and `+49` are names, not numbers.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from aistudio.runs import layout
from aistudio.schema import RESERVED_COLUMNS
from aistudio.selection import SELECTION_SCHEMA
from aistudio.store import Store
from aistudio.values import NUMBER_TEXT

_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"  # fits int64
_READERS = 8
_NOT_CARRIED = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True)
class OwnColumns:
    """Columns of the score files that are the user's."""

    stored: list[str]
    types: dict[str, pa.DataType] = field(default_factory=dict)  # of text columns that are numbers

    @property
    def numbers(self) -> list[str]:
        """Text columns that are numbers."""
        return list(self.types)

    def typed(self, table: pa.Table) -> Iterator[tuple[pa.Field, pa.ChunkedArray]]:
        """Yield the columns as results have them: numbers as numbers, and no name that results use themselves."""
        for name in self.stored:
            column = table[name]
            if name in self.types:
                blank = pc.equal(pc.utf8_trim_whitespace(column), "")
                text = pc.if_else(blank, pa.scalar(None, pa.string()), pc.utf8_trim_whitespace(column))
                column = text.cast(self.types[name])
            shown = f"manifest_{name}" if name in SELECTION_SCHEMA.names else name
            yield pa.field(shown, column.type), column


def own_columns(store: Store) -> OwnColumns:
    """Find the user's columns of a run and their types; reads the columns of text once, a file at a time."""
    keys = layout.score_keys(store)
    if not keys:
        return OwnColumns([])
    schema = store.read_metadata(keys[0])[0]
    kept = [f for f in schema if f.name not in RESERVED_COLUMNS and not any(test(f.type) for test in _NOT_CARRIED)]
    texts = [f.name for f in kept if pa.types.is_string(f.type)]
    names = [f.name for f in kept]
    if not texts:
        return OwnColumns(names)
    whole, number, filled = dict.fromkeys(texts, True), dict.fromkeys(texts, True), dict.fromkeys(texts, False)
    with ThreadPoolExecutor(_READERS) as pool:
        for table in pool.map(lambda key: store.read_table(key, texts), keys):
            for name in (n for n in texts if number[n] or whole[n]):
                values = pc.utf8_trim_whitespace(table[name].drop_null())
                values = values.filter(pc.not_equal(values, ""))
                filled[name] = filled[name] or len(values) > 0
                whole[name] = whole[name] and _all(values, _WHOLE)
                number[name] = number[name] and _all(values, NUMBER_TEXT)
    types = {n: pa.int64() if whole[n] else pa.float64() for n in texts if filled[n] and (whole[n] or number[n])}
    return OwnColumns(names, types)


def number_columns(rows: pa.Table) -> list[str]:
    """Return the user's columns of text whose values in these rows are all numbers; blank ones say nothing."""
    found = []
    for field_ in rows.schema:
        if field_.name in RESERVED_COLUMNS or not pa.types.is_string(field_.type):
            continue
        values = pc.utf8_trim_whitespace(rows[field_.name].drop_null())
        values = values.filter(pc.not_equal(values, ""))
        if len(values) and (_all(values, _WHOLE) or _all(values, NUMBER_TEXT)):
            found.append(field_.name)
    return found


def _all(values: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern), min_count=0).as_py())
