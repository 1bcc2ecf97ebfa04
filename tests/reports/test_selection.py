"""Kept and rejected images of an item."""

import pytest

from aistudio.reports.selection import deck, in_words, item_card


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("below_recall", "recall score below the gate"),
        ("duplicate_of:12", "duplicate of row 12"),
        ("failed:timeout", "failed: timeout"),
        ("new:thing", "new:thing"),
    ],
)
def test_reasons_in_words(reason, words):
    assert in_words(reason) == words


def _row(i: int, selected: bool, position: int | None, rank: float | None) -> dict:
    reason = "kept" if selected else "beyond_n"
    return {
        "row_id": str(i),
        "selected": selected,
        "position": position,
        "reason": reason,
        "rank_score": rank,
        "recall_score": 0.3,
        "thumb": None,
        "fields": {"text": "西湖" if i == 2 else ""},
    }


def test_kept_in_their_order_then_rejected_by_score():
    rows = [_row(1, False, None, 0.1), _row(2, True, 2, 0.5), _row(3, True, 1, 0.9), _row(4, False, None, 0.4)]
    card = item_card("poi", rows, 0, 12)
    assert card.name == "西湖" and card.facts[0] == ("kept", "2 of 4")
    (kept_label, kept), (out_label, out) = card.groups
    assert (kept_label, out_label) == ("Kept", "Rejected")
    assert [t.badge for t in kept] == ["1", "2"] and [t.score for t in out] == [0.4, 0.1]
    assert card.groups[1][1][0].caption == "0.400 · enough better ones"
    assert item_card("poi", rows[:1], 0, 12).facet == "none"
    assert item_card("poi", rows, 0, 1).groups[1][0] == "Rejected (first 1 of 2)"
    assert deck(3, 50).total == 3
