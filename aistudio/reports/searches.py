"""Searches: each query with its picture or text, its results with their scores, right and wrong marked where known."""

from typing import Any

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.page import number

_REASONS = {"same_item": "the query's own item", "same_row": "the query's own picture"}


def in_words(reason: str) -> str:
    """Say a stored reason of leaving out as a person reads it; one that is not known stays as it is."""
    kind, colon, detail = reason.partition(":")
    if not colon:
        return _REASONS.get(kind, reason)
    words = {"duplicate_of": "a copy of the query's picture", "filtered": f"another {detail}"}
    words["diversify"] = f"enough of its {detail} before it"
    return words.get(kind, reason)


def deck(names: list[str], total: int, per_page: int, page: str = "searches") -> Deck:
    """Sorting and filters of the page (`searches` or `composed`): a search at a time, or all of them."""
    sorts = [
        ("Worst first", 0, False),
        ("Best first", 0, True),
        ("Name", 1, False),
        ("First right result: late to early", 2, True),
        ("Highest score", 3, True),
    ]
    facets = [("", "All searches"), *((name, f"Search {name}") for name in names)]
    return Deck(page, "queries", sorts, facets, per_page, total)


def summary(name: str, about: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the page's summary of a search, shown before its cards."""
    settings = about.get("settings") or {}
    facts = [
        ("queries", f"{about.get('queries', 0):,}"),
        ("not asked", f"{about.get('queries_failed', 0):,}"),
        ("images searched", f"{about.get('gallery_rows', 0):,}"),
        ("model", str((about.get("model") or {}).get("name", ""))),
        ("a result is", f"an {about['per']}" if about.get("per") == "item" else "an image"),
        ("left out", ", ".join(about.get("leave_out") or []) or "nothing"),
    ]
    facts += [(f"search.{key}", str(settings[key])) for key in ("filter", "where", "diversify") if settings.get(key)]
    rows = [{"name": key, "bounded": True, "paper": None, **value} for key, value in metrics.items()]
    return {"name": name, "facts": facts, "metrics": rows, "notes": about.get("notes") or []}


def query_card(
    search: str, query: dict[str, Any], position: int, picture: dict[str, Any], results: list[dict[str, Any]],
    left_out: list[dict[str, Any]],
) -> Card:  # fmt: skip
    """A query's card.

    Args:
        query: row of queries.parquet.
        position: its place in worst-first order.
        picture: `thumb` and `fields` of the query's picture.
        results: rows of results.parquet with `thumb` and `fields` added; left_out: rows of left_out.parquet, the same.
    """
    name = query.get("text") or query.get("item_id") or query["query_id"]
    facts = [("search", search), ("asked by", query["kind"])]
    if query["status"] != "ok":
        facts.append((query["status"], query.get("error") or ""))
    if query.get("num_relevant") is not None:
        first = query.get("first_rank")
        facts += [("first right", f"rank {first:,}" if first else "none"), ("right ones", f"{query['num_relevant']:,}")]
    if query.get("change"):
        facts.append(("change", str(query["change"])))
    groups = []
    if query["kind"] != "text" and (picture["thumb"] or picture["fields"]):
        fields = picture["fields"] | {"query": query["query_id"]}
        groups.append(("The query's picture", [Tile(picture["thumb"], "", "query", "", None, "", fields)]))
    groups.append(("Results", [_result(r) for r in results]))
    if left_out:
        groups.append(("Left out", [_left_out(r) for r in left_out]))
    best = results[0]["score"] if results else None
    sort = [position, str(name).casefold()[:80], query.get("first_rank") or 10**12, best]
    return Card(str(name), str(query["query_id"]), sort, search, facts, groups)


def _result(row: dict[str, Any]) -> Tile:
    known = row.get("relevant")
    mark = "" if known is None else "hit" if known else "miss"
    said = {"": "result", "hit": "right", "miss": "not among the right ones"}[mark]
    fields = {"rank": row["rank"], "score": row["score"], "why": row["why"]} | row["fields"]
    caption = f"{number(row['score'])} · {row['item_id']}"
    return Tile(row["thumb"], mark, said, f"{row['rank']:,}", row["score"], caption, fields)


def _left_out(row: dict[str, Any]) -> Tile:
    words = in_words(row["reason"])
    return Tile(row["thumb"], "", "left out", "", None, words, {"left out": words} | row["fields"])
