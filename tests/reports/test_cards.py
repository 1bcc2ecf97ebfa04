"""The index is small, the chunks are complete, and both are in step."""

import json

from aistudio.reports.cards import CHUNK_CARDS, NAME_CHARS, Card, Deck, Tile, deck_files


def _value(data: bytes):
    return json.loads(data.decode().split(",", 1)[1].rsplit(")", 1)[0])


def test_cards_are_found_where_the_index_says():
    deck = Deck("gallery", "queries", [("Worst", 0, False)], [("", "All")], 50, 999)
    tile = Tile(
        "thumbs/1.webp",
        "hit",
        "right",
        "1",
        0.5,
        "0.5",
        {"image_url": "https://a.example/1", "thumbnail": b"x", "n": None},
    )
    cards = [
        Card("名" * 1000 if i == 3 else f"c{i}", str(i), [i], "", [], [("", [tile])])
        for i in range(CHUNK_CARDS * 2 + 1)
    ]
    files = deck_files(deck, cards)
    assert sorted(files) == ["data/gallery-0000.js", "data/gallery-0001.js", "data/gallery-0002.js", "data/gallery.js"]
    index = _value(files["data/gallery.js"])
    assert (index["total"], len(index["cards"])) == (999, len(cards))
    assert len(index["cards"][3][0]) == NAME_CHARS and index["cards"][3][3:5] == [0.5, 0.5]
    chunks = [_value(files[f"data/gallery-{i:04d}.js"]) for i in range(3)]
    assert [c["name"] for chunk in chunks for c in chunk] == [c.name for c in cards]
    shown = chunks[0][0]["groups"][0]["tiles"][0]
    assert shown["fields"] == {"image_url": "https://a.example/1"} and shown["link"] == "https://a.example/1"


def test_no_cards_still_give_an_index():
    assert _value(deck_files(Deck("pairs", "pairs", [], [], 1, 0), [])["data/pairs.js"])["cards"] == []
