"""What a visitor may filter by: columns of few values as choices with counts, columns of numbers as ranges."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from aistudio.schema import OUTCOME_FIELDS
from aistudio.search.held import numbers_of
from aistudio.search.searched import texts_of

MOST_CHOICES = 40
MOST_NUMBERS = 12  # numbers of a column that are choices; more are a range
SAMPLE = 20_000  # rows that tell whether a column has few values
SKIPPED = (
    "row_id", "item_id", "content_hash", "status", "error", "image_url", "fallback_url", "final_url", "http_status",
    "etag", "last_modified", "reused",
    "source_file", "source_line", "image_position",
)  # fmt: skip
LAST = (*(field.name for field in OUTCOME_FIELDS), "manifest_width", "manifest_height")  # behind the user's own columns


@dataclass(frozen=True)
class Facet:
    """A filter: `choices` (value as text, rows that have it), or `low` and `high` of a range."""

    column: str
    choices: tuple[tuple[str, int], ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def is_range(self) -> bool:
        """Whether it is one of numbers."""
        return self.low is not None


def facets(table: pa.Table) -> list[Facet]:
    """Find the filters that a table's columns give: the user's own columns first, then ours."""
    names = sorted((n for n in table.column_names if n not in SKIPPED), key=lambda name: name in LAST)
    found = (_facet(name, table[name]) for name in names)
    return [facet for facet in found if facet is not None]


def _facet(name: str, column: pa.ChunkedArray) -> Facet | None:
    kind = column.type
    try:
        numbers = numbers_of(column)
        most = MOST_CHOICES if numbers is None or not _all_numbers(column, numbers) else MOST_NUMBERS
        if (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_boolean(kind)
            or (pa.types.is_integer(kind))
        ):
            choices = _choices(column, most)
            if choices is not None:
                return Facet(name, choices) if len(choices) > 1 else None
        return _range(name, numbers) if numbers is not None and most == MOST_NUMBERS else None
    except pa.ArrowException:  # a type that cannot be counted or cast: no filter
        return None


def _all_numbers(column: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
    """Whether every value that says something is a number."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return True
    says = pc.fill_null(pc.not_equal(column, ""), False)
    return bool(pc.sum(says).as_py() == pc.sum(pc.is_valid(numbers)).as_py())


def _choices(column: pa.ChunkedArray, most: int) -> tuple[tuple[str, int], ...] | None:
    if len(pc.unique(column.slice(0, SAMPLE))) > most:
        return None
    counted: dict[str, int] = {}
    for chunk in column.chunks:
        for pair in pc.value_counts(texts_of(chunk)):
            value = pair["values"].as_py()
            if value is not None:
                counted[value] = counted.get(value, 0) + pair["counts"].as_py()
        if len(counted) > most:
            return None
    return tuple(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _range(name: str, numbers: pa.ChunkedArray) -> Facet | None:
    finite = pc.filter(numbers, pc.fill_null(pc.is_finite(numbers), False))
    if not len(finite):
        return None
    ends = pc.min_max(finite).as_py()
    return Facet(name, (), ends["min"], ends["max"]) if ends["min"] < ends["max"] else None
