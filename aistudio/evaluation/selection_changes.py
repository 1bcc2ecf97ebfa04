"""What changed in the chosen images between the selections of two runs: every such item, with a reason for each image.

Reads selections and score rows; writes nothing (pipeline/changes.py does). Memory: changed_items.py's, and the rows of
at most PART_ITEMS changed items at a time.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.evaluation.changed_items import candidates, choices, read_selection, selection_keys
from aistudio.evaluation.image_changes import ImageChange, ItemChange, Row, item_change
from aistudio.evaluation.text_hashes import Hashes, text_hashes
from aistudio.run_record import ModelFacts
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.store import Store
from aistudio.values import table_rows

PART_ITEMS = 20_000
_SELECTED = ("item_id", "row_id", "image_url", "recall_score", "rank_score", "position", "reason")
_SCORED = ("row_id", "item_id", "text", "content_hash")
_GRAVEST = ("lead", "gone", "new", "images", "order")

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),  # lead, images, order, new, gone: the item's gravest change
        pa.field("change", pa.string(), nullable=False),  # in, out, stays
        pa.field("reason", pa.string(), nullable=False),  # image_changes.image_changes
        pa.field("position_before", pa.int32()),  # 1 is the best; null: not chosen
        pa.field("position_now", pa.int32()),
        pa.field("image_url_before", pa.string()),
        pa.field("image_url_now", pa.string()),
        pa.field("recall_score_before", pa.float32()),
        pa.field("recall_score_now", pa.float32()),
        pa.field("rank_score_before", pa.float32()),
        pa.field("rank_score_now", pa.float32()),
        pa.field("selection_before", pa.string()),  # what `select` said of it: kept, beyond_n, failed:timeout, ...
        pa.field("selection_now", pa.string()),
        pa.field("text_before", pa.string()),
        pa.field("text_now", pa.string()),
        pa.field("row_id_before", pa.string()),
        pa.field("row_id_now", pa.string()),
    ]
)


class Changes(NamedTuple):
    """The answer: counts, what to say beside them, and the items that a page shows."""

    num_items: dict[str, int]  # before, now, new, gone (with or without images); changed; by kind lead, images, ...
    reasons: dict[tuple[str, str], int]  # (in, out or stays; reason) -> images
    notes: list[str]
    shown: list[ItemChange]  # the gravest changes, in that order

    @property
    def answer(self) -> str:
        """Say what changed, in a sentence."""
        n = self.num_items
        if not n["changed"]:
            return f"No item's chosen images changed, of {n['now']:,}."
        parts = [f"{_items(n['changed'], 'has', 'have')} other chosen images, of {n['now']:,}"]
        parts += [f"{n['lead']:,} of them another first image"] if n["lead"] else []
        parts += [f"{_items(n['new'], 'is', 'are')} new"] if n["new"] else []
        parts += [f"{_items(n['gone'], 'is', 'are')} gone"] if n["gone"] else []
        return "; ".join(parts) + "."


def _items(num: int, one: str, more: str) -> str:
    return f"1 item {one}" if num == 1 else f"{num:,} items {more}"


def selection_changes(
    before: Store, now: Store, most: int, put: Callable[[int, pa.Table], None], *, part_items: int = PART_ITEMS
) -> Changes:
    """Compare the selections of two runs.

    Args:
        before, now: runs with a selection.
        most: items that are kept for a page.
        put: takes each part of the table (CHANGES_SCHEMA), numbered from 0: items as `now`'s selection has them, then
            those that only `before` has; one row for each image that is chosen in either.
        part_items: changed items that are worked on at a time.

    Raises:
        StoreError: a run has no selection, or a damaged one.
    """
    found = candidates(choices(before), choices(now))
    num_items: Counter[str] = Counter(before=found.num_before, now=found.num_now)
    num_items.update(new=found.num_new, gone=found.num_gone)
    reasons: Counter[tuple[str, str]] = Counter()
    shown: list[tuple[tuple[int, int, int], ItemChange]] = []
    parts = np.array_split(found.items, max(1, -(-len(found.items) // part_items)))
    for number, wanted in enumerate(parts):
        changed = _changed_items(before, now, wanted)
        put(number, changes_table(changed))
        for item in changed:
            num_items.update(["changed", f"{item.kind}_items"])
            reasons.update((i.what, i.reason) for i in item.images if i.changed)
            key = (-_GRAVEST.index(item.kind), item.num_changed, -num_items["changed"])
            if len(shown) < most:
                heapq.heappush(shown, (key, item))
            else:
                heapq.heappushpop(shown, (key, item))
    gravest = [item for _, item in sorted(shown, key=lambda x: x[0], reverse=True)]
    counts = {k: num_items[k] for k in ("before", "now", "new", "gone", "changed")}
    counts |= {k: num_items[f"{k}_items"] for k in ("lead", "images", "order")}
    return Changes(counts, dict(reasons.most_common()), _notes(before, now), gravest)


def changes_table(items: Iterable[ItemChange]) -> pa.Table:
    """One row for each image of these items (CHANGES_SCHEMA)."""
    rows = [_table_row(item, image) for item in items for image in item.images]
    return pa.Table.from_pylist(rows, schema=CHANGES_SCHEMA)


def _table_row(item: ItemChange, image: ImageChange) -> dict[str, Any]:
    out: dict[str, Any] = {
        "item_id": item.item_id, "item": item.kind, "change": image.what, "reason": image.reason,
    }  # fmt: skip
    for when, row in (("before", image.before), ("now", image.now)):
        if row is not None:
            facts = row._asdict()
            out[f"selection_{when}"] = facts.pop("reason")
            out |= {f"{name}_{when}": value for name, value in facts.items() if name != "content_hash"}
    return out


def _changed_items(before: Store, now: Store, wanted: Hashes) -> list[ItemChange]:
    if not len(wanted):
        return []
    earlier, later = _rows(before, wanted), _rows(now, wanted)
    ids = dict.fromkeys([*later, *earlier])
    found = (item_change(item, earlier.get(item, ()), later.get(item, ())) for item in ids)
    return [item for item in found if item is not None]


def _rows(store: Store, wanted: Hashes) -> dict[str, list[Row]]:
    """The selection's rows of the items with these hashes."""
    scored: dict[str, tuple[str | None, str | None]] = {}
    for key in layout.score_keys(store):
        table = store.read_table(key, _SCORED)
        table = table.filter(pa.array(np.isin(text_hashes(table["item_id"]), wanted)))
        for row in table_rows(table):
            scored[row["row_id"]] = (row.get("content_hash"), row.get("text"))
    items: dict[str, list[Row]] = defaultdict(list)
    for key in selection_keys(store):
        table = read_selection(store, key, _SELECTED)
        for row in table_rows(table.filter(pa.array(np.isin(text_hashes(table["item_id"]), wanted)))):
            item = row.pop("item_id")
            content, text = scored.get(row["row_id"], (None, None))
            items[item].append(Row(**row, content_hash=content, text=text))
    return items


def _notes(before: Store, now: Store) -> list[str]:
    """Return what else differs between the runs and may be the cause: settings of the selection, models."""
    notes = []
    settings = [_settings(store) for store in (before, now)]
    if None in settings:
        notes.append("which settings a selection went by is not recorded in an older run: they may differ")
    else:
        a, b = (s or {} for s in settings)
        differ = [f"{k} {a.get(k)} before, {b.get(k)} now" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
        notes += [f"the two selections went by other settings: {'; '.join(differ)}"] if differ else []
    records = [recorded(store) for store in (before, now)]
    for role in ("recall", "ranking"):
        a_model, b_model = (record.models.get(role, ModelFacts()) for record in records)
        if a_model.fingerprint != b_model.fingerprint:
            names = f"{a_model.name or 'none'} before, {b_model.name or 'none'} now"
            notes.append(f"the two runs had different {role} models ({names}): their scores have different scales")
    return notes


def _settings(store: Store) -> dict[str, Any] | None:
    about = store.read_json(layout.SELECTION_ABOUT) if store.exists(layout.SELECTION_ABOUT) else None
    found = about.get("settings") if isinstance(about, dict) else None
    return found if isinstance(found, dict) else None
