"""Ranking pairs: A beside B, who was clicked more and who was predicted, the most confident mistakes first."""

from typing import Any

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.page import number


def deck(total: int, per_page: int) -> Deck:
    """Sorting and filters of the pairs page."""
    sorts = [
        ("Most confident mistakes first", 0, False),
        ("Widest score gap", 1, True),
        ("Narrowest score gap", 1, False),
        ("Widest CTR gap", 2, True),
    ]
    facets = [("", "All pairs"), ("wrong", "Predicted wrongly"), ("right", "Predicted rightly")]
    return Deck("pairs", "pairs", sorts, facets, per_page, total)


def confidence_order(margins: list[float | None], correct: list[bool | None]) -> list[int]:
    """Indices: mistakes from the widest score gap to the narrowest, then the right ones from narrow to wide."""

    def key(i: int) -> tuple[bool, float, int]:
        gap = abs(margins[i] or 0.0)
        return bool(correct[i]), gap if correct[i] else -gap, i

    return sorted(range(len(margins)), key=key)


def pair_card(pair: dict[str, Any], position: int) -> Card:
    """A pair's card. `pair` is a row of pairs.parquet with `thumb_a`, `fields_a`, `thumb_b`, `fields_b` added."""
    correct = bool(pair.get("correct"))
    gap = abs(pair.get("margin") or 0.0)
    ctr_gap = abs((pair.get("ctr_a") or 0.0) - (pair.get("ctr_b") or 0.0))
    text = pair["fields_a"].get("text") or pair["fields_b"].get("text") or f"pair {pair['pair_id']}"
    facts = [
        ("", "predicted rightly" if correct else "predicted wrongly"),
        ("clicked more", "A" if pair.get("label") == 1 else "B"),
        ("predicted", "A" if pair.get("prediction") == 1 else "B"),
        ("score gap", number(gap)),
    ]
    said_a, clicked_a = pair.get("prediction") == 1, pair.get("label") == 1
    tiles = [_side(pair, "a", clicked_a, said_a), _side(pair, "b", not clicked_a, not said_a)]
    return Card(
        text, str(pair["pair_id"]), [position, gap, ctr_gap], "right" if correct else "wrong", facts, [("", tiles)]
    )


def _side(pair: dict[str, Any], side: str, winner: bool, predicted: bool) -> Tile:
    score, ctr = pair.get(f"score_{side}"), pair.get(f"ctr_{side}")
    caption = f"CTR {number(ctr)} · score {number(score)}"
    fields = {"ctr": ctr, "score": score, "row_id": pair.get(f"row_id_{side}")} | pair[f"fields_{side}"]
    mark_text = "clicked more" if winner else "clicked less"
    badge = f"{side.upper()} · predicted" if predicted else side.upper()
    return Tile(pair[f"thumb_{side}"], "hit" if winner else "", mark_text, badge, score, caption, fields)
