"""Order and marks of the pairs page."""

from aistudio.reports.pairs import confidence_order, deck, pair_card


def test_sure_mistakes_come_first_sure_hits_last():
    assert confidence_order([0.1, -5.0, 2.0, None, 9.0], [False, False, True, True, False]) == [4, 1, 0, 3, 2]
    assert confidence_order([], []) == []


def _pair(label: int, prediction: int) -> dict:
    return {
        "pair_id": "p1", "label": label, "prediction": prediction, "correct": label == prediction, "margin": -1.5,
        "ctr_a": 0.01, "ctr_b": 0.03, "score_a": 1.0, "score_b": 2.5, "row_id_a": "1", "row_id_b": "2",
        "thumb_a": None, "thumb_b": None, "fields_a": {}, "fields_b": {"text": "lake"},
    }  # fmt: skip


def test_marks_show_who_was_clicked_and_who_was_predicted():
    card = pair_card(_pair(label=1, prediction=0), 3)
    ((_, [a, b]),) = card.groups
    assert (a.mark, a.badge, b.mark, b.badge) == ("hit", "A", "", "B · predicted")
    assert (card.name, card.facet, card.facts[0]) == ("lake", "wrong", ("", "predicted wrongly"))
    assert card.sort[:2] == [3, 1.5]
    right = pair_card(_pair(label=0, prediction=0), 0)
    assert right.facet == "right" and [t.mark for t in right.groups[0][1]] == ["", "hit"]
    assert {f for f, _ in deck(1, 5).facets} >= {"right", "wrong"}
