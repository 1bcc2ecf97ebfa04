"""Similar items: what several models recommend for one query, row below row, and how right it is by a column."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.figures import Figure, Series
from aistudio.reports.page import number
from aistudio.reports.safe import clip, csv_bytes

_BARS = 30  # values of a column in a chart of its own
_NAME = 24  # characters of a value below a bar
_FEW, _MANY = 5, 10  # images of an item that a bar of its own counts
_CURVES = {"hit_rate": "Something right among the first K (CMC)", "recall": "Share of what is right among the first K"}
_NOTES = {
    "hit_rate": "share of queries with the same {} among the first K results; dashed: a random order",
    "recall": "share of what has the query's {} that is among its first K results; dashed: a random order",
}


def deck(classes: Sequence[str], names: Sequence[str], total: int, per_page: int, *, judged: bool) -> Deck:
    """Sorting and filters of the page; the filter is the query's class."""
    sorts = [("Worst, middle, best in turn", 0, False), ("Worst first", 1, False), ("Best first", 1, True)]
    sorts = [*sorts, ("Models differ most", 3, True)] if judged else [("Order of the manifest", 1, False)]
    sorts.append(("Name", 2, False))
    sorts += [(f"Worst first: {clip(name, 40)}", 4 + i, False) for i, name in enumerate(names) if judged]
    facets = [("", "All queries"), *((clip(value, 300), clip(value, 60)) for value in classes)]
    return Deck("alike", "queries", sorts, facets, per_page, total)


def query_card(
    query: Mapping[str, Any], position: int, pictures: Sequence[Tile], lists: Sequence[tuple[str, Sequence[Tile]]],
    values: Mapping[str, str | None],
) -> Card:  # fmt: skip
    """A query's card: its picture, what models made of it, and a row of results for each search.

    Args:
        query: query_id, turn (place of the order "in turn"), quality (search -> average precision or None).
        position: place in worst-first order.
        values: column -> the query's value; the first one is what the filter of the page looks at.
    """
    known = [value for value in query["quality"].values() if value is not None]
    spread = max(known) - min(known) if len(known) > 1 else None
    name = str(query.get("item_id") or query["query_id"])
    facts = [(column, value) for column, value in values.items() if value is not None]
    groups: list[tuple[str, list[Tile]]] = [("Query", list(pictures))]
    sort: list[Any] = [query["turn"], position, name.casefold()[:80], spread]
    for search, tiles in lists:
        quality = query["quality"].get(search)
        right = sum(tile.mark == "hit" for tile in tiles)
        said = "" if quality is None else f" · {right} of {len(tiles)} right · average precision {number(quality)}"
        groups.append((f"{clip(search, 80)}{said}", list(tiles)))
        sort.append(quality)
    facet = next((clip(value, 300) for value in values.values() if value is not None), "")
    return Card(name, str(query["query_id"]), sort, facet, facts, groups)


def result_tile(row: Mapping[str, Any], right: bool | None, column: str) -> Tile:
    """A result; `right`: whether it has the query's value of `column`, None where that is not known."""
    mark = "" if right is None else "hit" if right else "miss"
    said = {"": "result", "hit": f"same {column}", "miss": f"another {column}"}[mark]
    fields = {"rank": row["rank"], "score": row["score"], "why": row["why"]} | row["fields"]
    value = row["fields"].get(column) if column else None
    caption = " · ".join(str(part) for part in (number(row["score"]), value, row["item_id"]) if part not in (None, ""))
    return Tile(row["thumb"], mark, said, f"{row['rank']:,}", row["score"], caption, fields)


def crop_of(thumbnail: bytes, fields: Mapping[str, Any], column: str) -> bytes | None:
    """Cut the part that a model saw out of a stored thumbnail: JPEG; None where nothing was cropped.

    Boxes are in pixels of the picture as decoded, width and height those of the file: the thumbnail's shape tells
    whether it was turned.
    """
    box, size = fields.get(column), (fields.get("width"), fields.get("height"))
    if not isinstance(box, Mapping) or box.get("method") in (None, "whole") or None in size:
        return None
    try:
        with Image.open(io.BytesIO(thumbnail)) as stored:
            picture = stored.convert("RGB")
        width, height = (int(side) for side in size if side is not None)
        if (width >= height) != (picture.width >= picture.height):
            width, height = height, width
        across, down = picture.width / max(width, 1), picture.height / max(height, 1)
        left, top = int(box["x0"] * across), int(box["y0"] * down)
        right, bottom = max(left + 1, round(box["x1"] * across)), max(top + 1, round(box["y1"] * down))
        out = io.BytesIO()
        picture.crop((left, top, min(right, picture.width), min(bottom, picture.height))).save(out, "JPEG", quality=88)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError):
        return None
    return out.getvalue()


def metric_table(column: str, position: int, found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Table of one column's metrics with the searches beside each other, and its CSV; None where nothing is judged.

    Args:
        found: search -> rows of `evaluation.same_value.metric_rows`.
    """
    known = {search: {row["name"]: row for row in rows} for search, rows in found.items() if rows}
    names = list(dict.fromkeys(name for rows in known.values() for name in rows))
    if not names:
        return None
    lines = [[search, *(row[c] for c in _METRIC)] for search, rows in found.items() for row in rows]
    rows = []
    for name in names:
        cells = [of.get(name) for of in known.values()]
        best = max(cell["value"] for cell in cells if cell)
        first = next(cell for cell in cells if cell)
        said = f"{name} (CMC)" if name.startswith("hit_rate") else name
        rows.append({"name": said, "cells": cells, "best": best if len(cells) > 1 else None, "chance": first["chance"],
                     "chance_macro": first["chance_macro"]})  # fmt: skip
    csv = csv_bytes(["search", *_METRIC], lines)
    return {"column": column, "searches": list(known), "rows": rows, "csv_path": f"data/alike-metrics-{position}.csv",
            "csv": csv, "num_queries": max(r["n"] for of in known.values() for r in of.values())}  # fmt: skip


_METRIC = ("name", "value", "low", "high", "n", "macro", "chance", "chance_macro")


def curve_figures(
    column: str, position: int, found: Mapping[str, Mapping[str, tuple[list[Any], list[Any] | None]]]
) -> list[Figure]:
    """Hit rate and recall over K, a line for each search, a random order dashed.

    Args:
        found: metric -> search -> points of the search and of a random order.
    """
    figures = []
    for name, searches in found.items():
        series = [Series(clip(search, 60), points) for search, (points, _) in searches.items() if points]
        if not series:
            continue
        chance = next((level for _, level in searches.values() if level), None)
        series += [Series("random order", chance, dashed=True)] if chance else []
        title = f"{_CURVES[name]}: {clip(column, 40)}"
        figures.append(Figure(f"alike-{name}-{position}", title, _NOTES[name].format(clip(column, 40)), "line", "K",
                              "mean over queries", series, y_max=1 if name == "hit_rate" else None))  # fmt: skip
    return figures


def distribution_figures(values: Mapping[str, Sequence[str | None]], images_per_item: Sequence[int]) -> list[Figure]:
    """Items by the value of each column, and items by their number of images where some have several."""
    figures = []
    for position, (column, texts) in enumerate(values.items()):
        counts: dict[str, int] = {}
        for text in texts:
            counts["(none)" if text is None else text] = counts.get("(none)" if text is None else text, 0) + 1
        order = sorted(counts, key=lambda value: (-counts[value], value))
        bars: list[list[Any]] = [[clip(value, _NAME), counts[value]] for value in order[:_BARS]]
        rest = sum(counts[value] for value in order[_BARS:])
        bars += [[f"{len(order) - _BARS:,} others", rest]] if rest else []
        largest = counts[order[0]] / max(1, len(texts)) if order else 0
        note = f"{len(order):,} values; the largest has {largest:.0%} of the items, so read macro means too"
        figures.append(Figure(f"alike-classes-{position}", f"Items by {clip(column, 40)}", note, "bar",
                              clip(column, 40), "items", [Series("items", bars)]))  # fmt: skip
    if any(num > 1 for num in images_per_item):
        sizes: dict[str, int] = {}
        for num in sorted(images_per_item):
            name = f"{num}" if num <= _FEW else f"{_FEW + 1} to {_MANY}" if num <= _MANY else f"more than {_MANY}"
            sizes[name] = sizes.get(name, 0) + 1
        bars = [[name, num] for name, num in sizes.items()]
        note = "items by the number of their images that are ok"
        figures.append(Figure("alike-images", "Images of an item", note, "bar", "images", "items",
                              [Series("items", bars)]))  # fmt: skip
    return figures
