"""A search that anybody can check: one query at a time, one row after the other, no blocks, no passes."""

from dataclasses import dataclass

import numpy as np

from aistudio.index import exact_scores


@dataclass
class TwinRules:
    """As search.listing.Rules, with what a query's gallery lacks as plain functions of a row."""

    top_n: int
    key: str
    diversify: dict
    ceiling: float | None


def score(vectors, row):
    """The best of a query's vectors, and which it was: that of the rows' own arithmetic."""
    rows = np.repeat(np.asarray(row["embedding"], np.float32)[None], len(vectors), axis=0)
    scores = exact_scores(np.asarray(vectors, np.float32), rows, np.arange(len(vectors)), np.arange(len(vectors)))
    best = int(np.argmax(scores))
    return float(scores[best]), best


def twin_list(rows, vectors, rules, eligible):
    """Results of one query: (row number, score, vector). `eligible(row)` says whether the gallery has the row."""
    ranked = []
    for number, row in enumerate(rows):
        if row["status"] == "ok" and row.get("embedding") is not None and eligible(row):
            value, which = score(vectors, row)
            if rules.ceiling is None or value <= rules.ceiling:
                ranked.append((-value, number, which))
    results, keys, counts = [], set(), {}
    for negative, number, which in sorted(ranked):
        row = rows[number]
        values = [(c, row[c]) for c in rules.diversify if row[c] is not None]
        if row[rules.key] in keys or any(counts.get(v, 0) >= rules.diversify[v[0]] for v in values):
            continue
        for value in values:
            counts[value] = counts.get(value, 0) + 1
        keys.add(row[rules.key])
        results.append((number, -negative, which))
        if len(results) == rules.top_n:
            break
    return results
