"""Items whose chosen images changed: a card each, with the pictures before and now under each other.

What changed and why is evaluation's business; here a reason gets its words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.page import number
from aistudio.reports.selection import in_words

WORDS = {  # (in, out or stays; reason) -> as a person says it
    ("in", "new_item"): "new item",
    ("in", "new_image"): "new image",
    ("in", "ok_now"): "could not be read before, can now",
    ("in", "new_file"): "another picture at the same address",
    ("in", "other_score"): "its score changed",
    ("in", "free_place"): "a place became free",
    ("out", "item_gone"): "item gone",
    ("out", "image_gone"): "image gone",
    ("out", "failed"): "cannot be read now",
    ("out", "new_file"): "another picture at the same address",
    ("out", "other_score"): "its score changed",
    ("out", "duplicate"): "looks like a better image",
    ("out", "gate"): "the recall gate moved",
    ("out", "pushed_out"): "better images came",
    ("stays", "new_file"): "another picture at the same address",
    ("stays", "other_address"): "the same picture at another address",
    ("stays", "other_position"): "another place in the order",
    ("stays", "same"): "as before",
}
SIDES = {"in": "chosen now", "out": "not chosen any more", "stays": "still chosen"}
FACETS = {
    "lead": "First image changed",
    "images": "Other images changed",
    "order": "Order or address alone",
    "new": "New items",
    "gone": "Gone items",
}


Picture = Callable[[str, str], tuple[str | None, dict[str, Any]]]  # (before or now, row_id) -> path, stored fields


def deck(total: int, per_page: int) -> Deck:
    """Sorting and filters of the page."""
    sorts = [("Gravest first", 0, False), ("Name", 1, False), ("Most images changed", 2, True)]
    return Deck("changes", "items", sorts, [("", "All changes"), *FACETS.items()], per_page, total)


def reason_rows(reasons: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Rows of the table of reasons, by side, the most frequent first."""
    order = sorted(reasons.items(), key=lambda r: (list(SIDES).index(r[0][0]), -r[1], r[0][1]))
    return [
        {"side": SIDES[what], "reason": reason, "words": WORDS.get((what, reason), reason), "images": n}
        for (what, reason), n in order
    ]


def item_card(item: Any, position: int, most: int, picture: Picture) -> Card:
    """Make an item's card: what is chosen now and what was before, at most `most` pictures each.

    Args:
        item: the change (evaluation.image_changes.ItemChange); its images are ImageChange, their rows Row.
        picture: gives path and stored fields of a row, before or now.
    """
    before = sorted((i for i in item.images if _place(i.before)), key=lambda i: _place(i.before))
    now = [i for i in item.images if _place(i.now)]
    rows = [row for i in (*now, *before) for row in (i.now, i.before) if row is not None]
    name = next((row.text for row in rows if row.text), item.item_id)
    facts = [("changed", f"{item.num_changed:,}" if item.num_changed else "the order"), ("item", item.item_id)]
    groups = [
        (_label(label, tiles, most), [_tile(image, when, picture) for image in tiles[:most]])
        for label, when, tiles in (("Now", "now", now), ("Before", "before", before))
        if tiles
    ]
    return Card(name, item.item_id, [position, name.casefold()[:80], item.num_changed], item.kind, facts, groups)


def _label(label: str, tiles: Sequence[Any], most: int) -> str:
    return f"{label} (first {most} of {len(tiles)})" if len(tiles) > most else label


def _place(row: Any | None) -> int:
    return (row.position or 0) if row is not None else 0


def in_short(image: Any) -> str:
    """Say why a picture came, went or differs, with its scores where they are the reason."""
    words: str = WORDS.get((image.what, image.reason), image.reason)
    a, b = image.before, image.now
    if image.reason == "other_score" and a is not None and b is not None:
        words = f"{_moved(a, b)}{', with the text' if image.text_changed else ''}"
        if image.what == "out":
            words += f"; {in_words(b.reason)}"
    elif image.what == "out" and image.reason == "failed" and b is not None:
        words = f"{words}: {b.reason.partition(':')[2] or 'failed'}"
    elif image.what == "stays" and a is not None and b is not None and a.position != b.position:
        more = "" if image.reason == "other_position" else f"; {words}"
        words = f"place {a.position} before, {b.position} now{more}"
    return words


def _moved(a: Any, b: Any) -> str:
    """The score that moved most decides: the ranking's orders, the recall's is a gate."""
    ranks, recalls = (a.rank_score, b.rank_score), (a.recall_score, b.recall_score)
    name, (old, new) = ("recall score", recalls) if ranks[0] == ranks[1] else ("score", ranks)
    return f"{name} {number(old)} → {number(new)}"


def _tile(image: Any, when: str, picture: Picture) -> Tile:
    row = image.now if when == "now" else image.before
    assert row is not None
    score = row.rank_score if row.rank_score is not None else row.recall_score
    thumb, stored = picture(when, row.row_id)
    differs = image.what != "stays" or image.reason == "new_file"
    mark = ("hit" if when == "now" else "miss") if differs else ""
    caption = in_short(image) if when == "now" or image.what == "out" else number(score)
    fields = {"change": SIDES.get(image.what, image.what), "reason": in_short(image), "place": row.position}
    fields |= {"score before": _score(image.before), "score now": _score(image.now)}
    shown = {"row_id": row.row_id, "image_url": row.image_url, "text": row.text} | stored
    return Tile(thumb, mark, SIDES.get(image.what, image.what), str(row.position), score, caption, fields | shown)


def _score(row: Any | None) -> float | None:
    scores = () if row is None else (row.rank_score, row.recall_score)
    return next((s for s in scores if s is not None), None)
