"""The selection: per item the images that were kept, in order, and the rejected ones with the reason."""

from typing import Any

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.page import number

_REASONS = {
    "kept": "kept",
    "below_recall": "recall score below the gate",
    "not_in_top_m": "not among the best by recall",
    "beyond_n": "enough better ones",
}


def in_words(reason: str) -> str:
    """A stored reason as a person reads it; one that is not known stays as it is."""
    kind, colon, detail = reason.partition(":")
    if colon and kind == "duplicate_of":
        return f"duplicate of row {detail}"
    if colon and kind == "failed":
        return f"failed: {detail}"
    return _REASONS.get(reason, reason)


def deck(total: int, per_page: int) -> Deck:
    """Sorting and filters of the selection page."""
    sorts = [
        ("Manifest order", 0, False),
        ("Name", 1, False),
        ("Most images", 2, True),
        ("Fewest kept", 3, False),
    ]
    facets = [("", "All items"), ("kept", "Something kept"), ("none", "Nothing kept")]
    return Deck("selection", "items", sorts, facets, per_page, total)


def parts(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """An item's kept rows by position, and the rejected ones, the best score first."""
    kept = sorted((r for r in rows if r["selected"]), key=lambda r: (r.get("position") is None, r.get("position") or 0))
    return kept, sorted((r for r in rows if not r["selected"]), key=lambda r: -_order(r))


def _order(row: dict[str, Any]) -> float:
    score = row.get("rank_score") if row.get("rank_score") is not None else row.get("recall_score")
    return -1e9 if score is None else score


def item_card(item_id: str, rows: list[dict[str, Any]], position: int, most: int) -> Card:
    """An item's card. `rows` are rows of selection/*.parquet with `thumb` and `fields` added."""
    kept, out = parts(rows)
    name = next((r["fields"]["text"] for r in rows if r["fields"].get("text")), item_id)
    facts = [("kept", f"{len(kept)} of {len(rows)}"), ("item", item_id)]
    groups = [("Kept", [_tile(r) for r in kept[:most]])] if kept else []
    if out:
        more = f" (first {most} of {len(out)})" if len(out) > most else ""
        groups.append((f"Rejected{more}", [_tile(r) for r in out[:most]]))
    sort = [position, name.casefold()[:80], len(rows), len(kept)]
    return Card(name, item_id, sort, "kept" if kept else "none", facts, groups)


def _tile(row: dict[str, Any]) -> Tile:
    kept = bool(row["selected"])
    score = row.get("rank_score") if row.get("rank_score") is not None else row.get("recall_score")
    reason = "" if kept else in_words(str(row.get("reason") or ""))
    place = row.get("position")
    fields = {k: row.get(k) for k in ("selected", "position", "reason")} | row["fields"]
    badge = f"{place:,}" if kept and place is not None else ""
    caption = f"{number(score)} · {reason}" if reason else number(score)
    return Tile(row["thumb"], "hit" if kept else "miss", "kept" if kept else "rejected", badge, score, caption, fields)
