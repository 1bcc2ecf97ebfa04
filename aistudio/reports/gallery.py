"""The gallery: for each query its best-scored images and the relevant ones that scored low."""

from typing import Any

import numpy as np

from aistudio.reports.cards import Card, Deck, Tile
from aistudio.reports.page import number

_QUALITY = ("map", "ap", "average_precision", "mrr", "ndcg@10", "hit_rate@5")  # the value queries are ordered by


def quality_column(columns: list[str]) -> str | None:
    """The per-query metric that orders the gallery; None when per_query.parquet has none that we know."""
    known = [c for c in _QUALITY if c in columns]
    return known[0] if known else next((c for c in columns if c.startswith(("map@", "ndcg@", "hit_rate@"))), None)


def worst_first(quality: np.ndarray | None, first_rank: np.ndarray) -> np.ndarray:
    """Order of the queries, worst first, int64 (Q,).

    Args:
        quality: float (Q,), higher is better, NaN where undefined; None: by rank alone.
        first_rank: float (Q,), rank of the first relevant image, NaN when there is none.
    """
    rank = np.where(np.isnan(first_rank), np.inf, first_rank)
    value = np.zeros(len(rank)) if quality is None else np.where(np.isnan(quality), -1.0, quality)
    return np.lexsort((np.arange(len(rank)), -rank, value))


def shown_positions(num_queries: int, most: int) -> np.ndarray:
    """Which of the queries, in worst-first order, get a card: all, or a third from each end and an even
    sample of those between. int64, increasing."""
    if num_queries <= most:
        return np.arange(num_queries)
    third = most // 3
    between = np.linspace(third, num_queries - third, most - 2 * third, endpoint=False).astype(np.int64)
    return np.unique(np.concatenate([np.arange(third), between, np.arange(num_queries - third, num_queries)]))


def deck(total: int, per_page: int, quality: str | None) -> Deck:
    """Sorting and filters of the gallery page."""
    sorts = [
        ("Worst first", 0, False),
        ("Best first", 0, True),
        ("Name", 1, False),
        ("First hit: late to early", 2, True),
        ("Most right images", 3, True),
    ]
    if quality:
        sorts.append((f"Lowest {quality}", 4, False))
    facets = [("", "All queries"), ("hit1", "First image is right"), ("miss1", "First image is wrong")]
    return Deck("gallery", "queries", sorts, facets, per_page, total)


def parts(images: list[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of top.parquet as a card shows them: the first `most` by rank, the last `most` of the low-scored ones."""
    by_rank = sorted(images, key=lambda r: (r["rank"] is None, r["rank"] or 0))
    return [r for r in by_rank if r["part"] == "top"][:most], [r for r in by_rank if r["part"] != "top"][-most:]


def query_card(
    query: dict[str, Any], position: int, quality: str | None, images: list[dict[str, Any]], most: int
) -> Card:
    """A query's card.

    Args:
        query: row of per_query.parquet.
        position: its place in worst-first order.
        quality: the metric column to show, if any.
        images: rows of top.parquet with `thumb` and `fields` added.
        most: images per group.
    """
    top, low = parts(images, most)
    first = query.get("first_rank")
    first = None if first is None or first != first else int(first)
    facts = [("first right image", f"rank {first:,}" if first else "none found")]
    if query.get("num_relevant") is not None:
        facts.append(("right images", f"{query['num_relevant']:,}"))
    if quality:
        facts.append((quality, number(query.get(quality))))
    name = query.get("text") or query.get("item_id") or query["query_id"]
    sort = [position, name.casefold()[:80], first or 10**12, query.get("num_relevant"), query.get(quality or "")]
    groups = [("Highest scores", [_tile(r) for r in top])]
    if low:
        groups.append(("Right, but scored low", [_tile(r) for r in low]))
    return Card(name, str(query["query_id"]), sort, "hit1" if first == 1 else "miss1", facts, groups)


def _tile(row: dict[str, Any]) -> Tile:
    relevant = bool(row["relevant"])
    score = row.get("score")
    fields = {"rank": row["rank"], "score": score, "relevant": relevant} | row["fields"]
    rank = "–" if row["rank"] is None else f"{row['rank']:,}"
    return Tile(
        row["thumb"], "hit" if relevant else "miss", "right image" if relevant else "another item's image",
        rank, score, number(score), fields,
    )  # fmt: skip
