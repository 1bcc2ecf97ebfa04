"""Which queries the gallery shows, in what order, and what a card says."""

import numpy as np

from aistudio.reports.gallery import deck, quality_column, query_card, shown_positions, worst_first


def test_worst_first_by_quality_then_late_first_hit():
    quality = np.array([0.5, np.nan, 0.5, 1.0, 0.0])
    first = np.array([2.0, np.nan, 7.0, 1.0, np.nan])
    assert worst_first(quality, first).tolist() == [1, 4, 2, 0, 3]
    assert worst_first(None, np.array([1.0, 9.0, np.nan])).tolist() == [2, 1, 0]
    assert worst_first(None, np.array([])).tolist() == []


def test_of_many_queries_both_ends_and_some_between_are_shown():
    assert shown_positions(5, 9).tolist() == [0, 1, 2, 3, 4]
    shown = shown_positions(10_000, 90)
    assert len(shown) == 90
    assert shown[:30].tolist() == list(range(30)) and shown[-30:].tolist() == list(range(9970, 10_000))
    assert len(set(shown[30:60] // 400)) > 20
    assert shown_positions(10, 1).tolist() == [0]


def test_quality_column():
    assert quality_column(["query_id", "mrr", "map"]) == "map"
    assert quality_column(["query_id", "ndcg@7"]) == "ndcg@7"
    assert quality_column(["query_id"]) is None


def _image(rank: int, part: str, relevant: bool) -> dict:
    fields = {"image_url": "https://a.example/x", "text": "t", "embedding": [1.0], "error": None}
    return {"rank": rank, "part": part, "score": -0.1 * rank, "relevant": relevant, "thumb": None, "fields": fields}


def test_card():
    query = {"query_id": "q", "item_id": "i", "text": "西湖", "num_relevant": 3, "first_rank": 2.0, "map": 0.4}
    images = [
        _image(90, "low_relevant", True),
        _image(2, "top", True),
        _image(1, "top", False),
        _image(3, "top", False),
    ]
    card = query_card(query, 7, "map", images, 2)
    assert (card.name, card.id, card.facet) == ("西湖", "q", "miss1")
    assert card.sort == [7, "西湖", 2, 3, 0.4]
    (top_label, top), (_, low) = card.groups
    assert top_label == "Highest scores"
    assert [(t.badge, t.mark) for t in top] == [("1", "miss"), ("2", "hit")] and [t.badge for t in low] == ["90"]
    assert card.score_range() == (-9.0, -0.1)
    assert top[0].as_data()["fields"] == {
        "rank": 1,
        "score": -0.1,
        "relevant": False,
        "image_url": "https://a.example/x",
        "text": "t",
    }
    assert max(i for _, i, _ in deck(1, 50, "map").sorts) < len(card.sort)


def test_card_of_a_query_without_any_right_image():
    card = query_card({"query_id": "q", "text": "", "item_id": None, "first_rank": None}, 0, None, [], 12)
    assert card.name == "q" and card.facts == [("first right image", "none found")]
    assert card.score_range() == (None, None)
