"""An item's list of images: the cells of one record become (position, address) pairs.

Positions count from 1, empty entries included, so that image 3 stays image 3 when image 2 is missing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Images = list[tuple[int, str]]


def image_list(cells: Iterable[str], separator: str | None) -> Images:
    """Return position and address of each image; blank entries are left out.

    Args:
        cells: of the item's image columns, in order.
        separator: what parts the addresses within a cell; None: a cell is one address.
    """
    if separator is not None:
        cells = [piece for cell in cells for piece in (cell.split(separator) if cell.strip() else [cell])]
    return [(i, url) for i, cell in enumerate(cells, 1) if (url := cell.strip())]


def cells_of(values: Iterable[Any]) -> list[str] | str:
    """Return the texts of values as JSON and Arrow give them, lists opened, null as ""; or why there are none."""
    cells: list[str] = []
    for value in values:
        for entry in value if isinstance(value, list | tuple) else [value]:
            if entry is None:
                cells.append("")
            elif isinstance(entry, str):
                cells.append(entry)
            else:
                return f"image_url holds an entry that is not a text: {str(entry)[:100]}"
    return cells


def with_images(row: Sequence[Any], images: Images) -> list[tuple[Any, ...]]:
    """Return a candidate row for each image; a row_id of the manifest's gets `:<position>`."""
    row_id, item_id, _, _, *rest = row
    return [(None if row_id is None else f"{row_id}:{position}", item_id, url, None, *rest) for position, url in images]
