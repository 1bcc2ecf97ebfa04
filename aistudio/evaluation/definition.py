"""What the metrics of an aggregation were computed from. Numbers of two runs mean something together only if it is one.

`about.json` holds it as `definition`. Digests are sums of 64-bit hashes over rows: the same whatever the order, the
files and the number of tasks. The encoder is recorded and never compared: to compare encoders is what runs are for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.runs.record import recorded
from aistudio.store import Store

# Compared; in words for messages. K and the policy are not among them: a metric's name has its K, and `compare` applies
# one policy to both runs.
COMPARED = {
    "query": "what is asked (metrics.query)",
    "relevance": "what is relevant (metrics.qrels)",
    "relevant_by": "what is similar, and who is asked (metrics.relevant_by)",
    "sample": "the queries that are drawn (metrics.max_queries, metrics.seed)",
    "gallery": "the images that are searched",
    "items": "which item an image belongs to (manifest.columns.item_id)",
}


@dataclass(frozen=True)
class RowsDigest:
    """Number of gallery rows and hashes of who they are and which item they belong to."""

    rows: int = 0
    identity: int = 0
    items: int = 0

    def __add__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest(
            self.rows + other.rows, (self.identity + other.identity) % 2**64, (self.items + other.items) % 2**64
        )


def digest_rows(row_ids: pd.Series, urls: pd.Series, items: pd.Series) -> RowsDigest:
    """Digest the gallery rows of a file: a row is its id and its address."""
    row, url, item = (_hash(column) for column in (row_ids, urls, items))
    return RowsDigest(len(row), _sum(_mix(row) ^ url), _sum(_mix(row) ^ _mix(item)))


def _hash(column: pd.Series) -> NDArray[np.uint64]:
    return pd.util.hash_array(column.to_numpy(object), categorize=False) if len(column) else np.empty(0, np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One round of a multiplicative hash (splitmix64's constants): equal hashes of two columns do not cancel."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))


def _sum(values: NDArray[np.uint64]) -> int:
    return int(_mix(values).sum(dtype=np.uint64)) if len(values) else 0


def definition(
    store: Store, settings: MetricsSettings, rows: RowsDigest, qrels: str | None, num_asked: int, num_all: int
) -> dict[str, Any]:
    """Say what an aggregation is computed from.

    Args:
        rows: digest of the gallery.
        qrels: sha256 of the judgements; None: the images of an item are relevant to it.
        num_asked: queries asked, of `num_all`.
    """
    drawn = num_asked < num_all
    return {
        "query": settings.query,
        "relevance": f"qrels sha256:{qrels}" if qrels else "same item_id",
        "sample": {"max_queries": settings.max_queries, "seed": settings.seed} if drawn else None,
        "gallery": {"rows": rows.rows, "row_ids": f"{rows.identity:016x}"},
        "items": f"{rows.items:016x}",
        "k": settings.k,
        "no_relevant": settings.no_relevant,
        "encoder": _encoder(store, settings.encoder),
    }


def _encoder(store: Store, encoder: str | None) -> dict[str, Any] | None:
    model = recorded(store).models.get("recall" if encoder is None else f"encoders.{encoder}")
    return model.model_dump(include={"name", "fingerprint"}, exclude_unset=True) or None if model else None


def of_about(about: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the definition in an about.json, and whether it is complete: older versions wrote parts of it."""
    if "definition" in about:
        return dict(about["definition"]), True
    known: dict[str, Any] = {"query": about.get("query", "text")}
    if "gallery_rows" in about:
        known["gallery"] = {"rows": about["gallery_rows"]}
    return known, False


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Say in which compared parts two definitions differ, a line each; parts that one of them lacks are left out."""
    found: list[str] = []
    for part, words in COMPARED.items():
        if part not in a or part not in b:
            continue
        first, second = a[part], b[part]
        if part == "items" and any(p.startswith(COMPARED["gallery"]) for p in found):
            continue  # other rows have other items
        if isinstance(first, dict) and isinstance(second, dict):
            shared = first.keys() & second.keys()
            if all(first[k] == second[k] for k in shared):
                continue
        elif first == second:
            continue
        found.append(f"{words}: A {_shown(first)}, B {_shown(second)}")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "all of them"
    if isinstance(value, dict):
        return " ".join(f"{k}={v:,}" if isinstance(v, int) and k != "seed" else f"{k}={v}" for k, v in value.items())
    return str(value)
