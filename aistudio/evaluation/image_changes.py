"""One item's chosen images in two selections: which picture came, which went, which stayed, and why.

Two runs number their rows differently, so a picture is known again by its address and, where that changed, by its bytes
(content_hash). Pure functions; reading the rows is selection_changes.py's business.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

SCORE_STEP = 1e-4  # scores that differ by less are the same: a GPU's last digits depend on the batch

Side = Literal["in", "out", "stays"]


class Row(NamedTuple):
    """A row of an item in one run's selection, with what its score row says."""

    row_id: str
    image_url: str
    recall_score: float | None
    rank_score: float | None
    position: int | None  # 1 is the best; None: not chosen
    reason: str  # as `select` stored it
    content_hash: str | None = None  # None: the image failed, or its score row is gone
    text: str | None = None


class ImageChange(NamedTuple):
    """One picture that is chosen before or now."""

    what: Side
    reason: str  # see `image_changes`
    before: Row | None
    now: Row | None

    @property
    def changed(self) -> bool:
        """Whether anything about the choice differs."""
        return self.reason != "same"

    @property
    def text_changed(self) -> bool:
        """Whether the text that it was scored against is another one."""
        return self.before is not None and self.now is not None and self.before.text != self.now.text


class ItemChange(NamedTuple):
    """One item whose chosen images differ."""

    item_id: str
    kind: Literal["lead", "images", "order", "new", "gone"]  # the gravest: its first image, others, only their order
    images: tuple[ImageChange, ...]  # chosen now, in order; then those that are not chosen any more

    @property
    def num_changed(self) -> int:
        """How many pictures came, went or are another file now."""
        return sum(i.what != "stays" or i.reason == "new_file" for i in self.images)


def item_change(item_id: str, before: Sequence[Row], now: Sequence[Row]) -> ItemChange | None:
    """Compare an item's rows in two selections; None where its chosen images are the same in the same order.

    Args:
        before, now: all rows of the item in each selection, chosen or not; none: the item is not there.
    """
    images = image_changes(before, now)
    if not any(i.changed for i in images):
        return None
    return ItemChange(item_id, _kind(before, now, images), tuple(images))


def _kind(
    before: Sequence[Row], now: Sequence[Row], images: Sequence[ImageChange]
) -> Literal["lead", "images", "order", "new", "gone"]:
    if not before or not now:
        return "gone" if not now else "new"
    if any(_is_first(i.before) != _is_first(i.now) or (_is_first(i.now) and i.reason == "new_file") for i in images):
        return "lead"
    return "order" if all(i.what == "stays" and i.reason != "new_file" for i in images) else "images"


def _is_first(row: Row | None) -> bool:
    return row is not None and row.position == 1


def image_changes(before: Sequence[Row], now: Sequence[Row]) -> list[ImageChange]:
    """Give each chosen image of either selection a reason.

    `in`: `new_item`, `new_image` (the item did not have it), `ok_now` (it failed before), `new_file` (other bytes at
    its address), `other_score`, `free_place` (its score is the same: others went, or the settings changed).
    `out`: `item_gone`, `image_gone`, `failed` (it fails now), `new_file`, `other_score`, `duplicate` (a better image
    looks the same), `gate` (the recall gate moved), `pushed_out` (better ones came).
    `stays`: `same`, `other_position`, `other_address` (the same bytes), `new_file`.
    """
    of_before, of_now = _Known(before), _Known(now)
    out: list[ImageChange] = []
    used: set[str] = set()
    for row in _chosen(now):
        earlier = of_before.find(row)
        if earlier is None or earlier.row_id in used:
            out.append(ImageChange("in", "new_image" if before else "new_item", None, row))
        elif earlier.position is None:
            out.append(ImageChange("in", _came(earlier, row), earlier, row))
        else:
            used.add(earlier.row_id)
            out.append(ImageChange("stays", _stayed(earlier, row), earlier, row))
    for row in _chosen(before):
        if row.row_id in used:
            continue
        later = of_now.find(row)
        if later is not None and later.position is not None:  # reported already: two images have become one
            out.append(ImageChange("out", "duplicate", row, None))
        else:
            out.append(ImageChange("out", _went(row, later) if now else "item_gone", row, later))
    return out


def _chosen(rows: Iterable[Row]) -> list[Row]:
    return sorted((r for r in rows if r.position is not None), key=lambda r: r.position or 0)


class _Known:
    """An item's rows by address and by bytes; of several the best chosen one, else the first."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._by_url: dict[str, Row] = {}
        self._by_bytes: dict[str, Row] = {}
        for row in (*_chosen(rows), *(r for r in rows if r.position is None)):
            self._by_url.setdefault(row.image_url, row)
            if row.content_hash is not None:
                self._by_bytes.setdefault(row.content_hash, row)

    def find(self, row: Row) -> Row | None:
        found = self._by_url.get(row.image_url)
        if found is None and row.content_hash is not None:
            found = self._by_bytes.get(row.content_hash)
        return found


def _came(before: Row, now: Row) -> str:
    if before.reason.startswith("failed"):
        return "ok_now"
    if _other_bytes(before, now):
        return "new_file"
    return "other_score" if _other_scores(before, now) else "free_place"


def _went(before: Row, now: Row | None) -> str:
    if now is None:
        return "image_gone"
    kind = now.reason.partition(":")[0]
    if kind == "failed":
        return "failed"
    if _other_bytes(before, now):
        return "new_file"
    if kind == "duplicate_of":
        return "duplicate"
    if _other_scores(before, now):
        return "other_score"
    return "gate" if kind in ("below_recall", "no_recall_score") else "pushed_out"


def _stayed(before: Row, now: Row) -> str:
    if _other_bytes(before, now):
        return "new_file"
    if before.image_url != now.image_url:
        return "other_address"
    return "same" if before.position == now.position else "other_position"


def _other_bytes(a: Row, b: Row) -> bool:
    return a.content_hash is not None and b.content_hash is not None and a.content_hash != b.content_hash


def _other_scores(a: Row, b: Row) -> bool:
    return _differ(a.recall_score, b.recall_score) or _differ(a.rank_score, b.rank_score)


def _differ(a: float | None, b: float | None) -> bool:
    a, b = (None if x is None or math.isnan(x) else x for x in (a, b))
    return (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) >= SCORE_STEP)
