"""Cards with pictures: what the gallery, the pairs and the selection page have in common.

A page is an index (one small row per card: enough to search, filter and sort without any picture) and
chunk files with the cards themselves, loaded when they come into view. Pictures are files of their own.
"""

from dataclasses import dataclass, field
from typing import Any

from aistudio.reports.safe import clip, safe_link, script_data
from aistudio.schema import is_vector_column

CHUNK_CARDS = 50
NAME_CHARS = 300  # of a name in the index: what search looks at


@dataclass(frozen=True)
class Tile:
    """One picture with its marks.

    `thumb` is a path inside the report or None; `mark` is "hit", "miss" or "" and is said in words by
    `mark_text`; `badge` stands in the corner; `score` is what the score filter looks at.
    """

    thumb: str | None
    mark: str
    mark_text: str
    badge: str
    score: float | None
    caption: str
    fields: dict[str, Any]

    def as_data(self) -> dict[str, Any]:
        url = self.fields.get("image_url")
        shown = {k: v for k, v in self.fields.items() if k != "thumbnail" and not is_vector_column(k) and v is not None}
        return {
            "thumb": self.thumb, "mark": self.mark, "markText": self.mark_text, "badge": self.badge,
            "score": None if self.score is None else round(float(self.score), 6), "caption": self.caption,
            "link": safe_link(url), "fields": shown,
        }  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One query, pair or item: groups of tiles under one name.

    `sort` holds the values of the page's sort columns, `facet` the value its filter looks at,
    `facts` short (label, value) texts for the head of the card.
    """

    name: str
    id: str
    sort: list[Any]
    facet: str
    facts: list[tuple[str, str]]
    groups: list[tuple[str, list[Tile]]] = field(default_factory=list)

    def score_range(self) -> tuple[float | None, float | None]:
        scores = [float(t.score) for _, tiles in self.groups for t in tiles if t.score is not None]
        return (min(scores), max(scores)) if scores else (None, None)


@dataclass(frozen=True)
class Deck:
    """All that a page of cards needs to know beside the cards.

    Args:
        kind: "gallery", "pairs", "selection", "searches", "composed" or "alike": the page's name and that of its files.
        sorts: (label, index into Card.sort, descending); the first one is the order the cards come in.
        facets: (value, label) of the filter; "" stands for all.
        total: how many there are in the run, of which the cards are a part.
    """

    kind: str
    noun: str
    sorts: list[tuple[str, int, bool]]
    facets: list[tuple[str, str]]
    per_page: int
    total: int


def deck_files(deck: Deck, cards: list[Card]) -> dict[str, bytes]:
    """Index and chunk scripts of a page: path inside the report -> bytes."""
    index = {
        "kind": deck.kind, "noun": deck.noun, "total": deck.total, "perPage": deck.per_page, "chunkCards": CHUNK_CARDS,
        "sorts": [{"label": label, "column": i, "descending": down} for label, i, down in deck.sorts],
        "facets": [{"value": v, "label": label} for v, label in deck.facets],
        "cards": [[clip(c.name, NAME_CHARS), clip(c.id, NAME_CHARS), c.facet, *c.score_range(), c.sort] for c in cards],
    }  # fmt: skip
    out = {f"data/{deck.kind}.js": script_data(deck.kind, index)}
    for n, start in enumerate(range(0, len(cards), CHUNK_CARDS)):
        name = f"{deck.kind}-{n:04d}"
        chunk = [
            {
                "name": c.name,
                "facts": c.facts,
                "groups": [{"label": label, "tiles": [t.as_data() for t in tiles]} for label, tiles in c.groups],
            }
            for c in cards[start : start + CHUNK_CARDS]
        ]
        out[f"data/{name}.js"] = script_data(name, chunk)
    return out
