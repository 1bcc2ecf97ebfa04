"""Settings of the section `search`."""

from typing import Literal

from pydantic import Field, field_validator

from aistudio.config.base import Cutoffs, Settings, Value


class SearchSettings(Settings):
    """What `search` finds for each query, and what it leaves out. No part of a run's shape."""

    top_n: int = Field(10, ge=1)  # results of a query
    per: Literal["item", "row"] | None = None  # what a result is; null: an item, for queries of a data set an image
    item_score: Literal["max", "mean"] = "max"  # best pair of images, or the items' mean vectors
    leave_out: list[Literal["item", "row", "copies"]] | None = None
    """What of the query's picture is no result: its item, its row, copies of it; null: item and copies, for queries
    of a data set what was published. Example: `[row]`
    """
    duplicate_cosine: float | None = Field(None, gt=-1, le=1)  # more alike to the query than this: a copy; null: bytes
    filter: list[str] = []
    """Columns whose value must be the query's; `theirs=ours` where the names differ. Example: `[category,
    colour=shade]`
    """
    filter_separator: str | None = None  # a row's value holds several, separated by this; any of them may be equal
    where: dict[str, Value | list[Value]] = {}
    """Values that a result's row must have. Example: `{in_stock: true, brand: [a, b]}`"""
    diversify: dict[str, int] = {}
    """Most results with the same value of a column; rows without a value do not count. Example: `{brand: 2}`"""
    text: Literal["modification", "complete"] = "modification"  # of a data set's queries
    relevant_by: Literal["auto", "row_id", "item_id"] = "auto"  # what the column `relevant` holds
    k: Cutoffs | None = None  # of the metrics; null: 1, 5, 10, for queries of a data set 50 and 100 too
    explain: int = Field(10, ge=0)  # rows listed for each query and reason of leaving out
    block_rows: int = Field(32_768, ge=1)  # gallery rows read and searched at once
    batch_size: int = Field(16, ge=1)  # fresh images encoded at once

    @field_validator("diversify")
    @classmethod
    def _at_least_one(cls, diversify: dict[str, int]) -> dict[str, int]:
        if any(n < 1 for n in diversify.values()):
            raise ValueError("each column's number of results is 1 or more")
        return diversify

    @field_validator("filter_separator")
    @classmethod
    def _some_text(cls, separator: str | None) -> str | None:
        if separator == "":
            raise ValueError("expected a text such as ','; a blank is taken away from settings")
        return separator

    @property
    def filter_columns(self) -> tuple[tuple[str, str], ...]:
        """The columns of `filter`: (the query's, the gallery's)."""
        pairs = (entry.partition("=") for entry in self.filter)
        return tuple((theirs, ours or theirs) for theirs, _, ours in pairs)
