"""What is different in a run from an earlier one of the same catalogue: statuses, scores, items, pictures.

Rows need not be the same: distributions are compared, each with a test and the size of the difference. Scores are
compared where one model made them; items by item_id, rows by item_id and address. Reads stored rows alone, file by
file; what stays in memory is about 40 bytes a row. Leaves out: whether one run is *better* (compare.py).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.evaluation.text_hashes import Hashes, text_hashes
from aistudio.metrics.distributions import compare_counts, compare_values
from aistudio.metrics.significance import holm
from aistudio.run_record import ModelFacts
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.schema import Status
from aistudio.store import Store

SCORES = {"recall_score": "recall", "rank_score": "ranking"}  # column -> the model that makes it
NOTICEABLE = 0.1  # of D and of Cramér's V; below, a difference is small, however sure (Cohen's "small" begins there)
SURE = 0.01  # of p, corrected by Holm
LISTED = 100_000  # new and gone items that are named, each
_BINS = 40
_COLUMNS = ("row_id", "item_id", "image_url", "text", "status", "content_hash", *SCORES)


@dataclass
class _Rows:
    """The light columns of a run's rows."""

    items: Hashes
    pictures: Hashes  # item and address
    texts: Hashes
    contents: Hashes  # 0 where the image failed
    ok: NDArray[np.bool_]
    statuses: dict[str, int]
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # of ok rows


def drift(earlier: Store, now: Store) -> dict[str, Any]:
    """Compare the run `now` with an earlier one.

    Returns:
        {"earlier", "now", "answer", "notes", "rows", "items", "statuses": [{status, earlier, now}], "status_test",
        "scores": {column: {n_a, n_b, median_a, median_b, distance, p_value, p_holm, histogram}}, "new", "gone"}; the
        last two list items ({item_id, text, rows, ok, row_id of the first ok row}), at most LISTED each. `p_holm` is
        corrected over all tests.

    Raises:
        StoreError: one of the two holds no scores.
    """
    before, after = _read(earlier), _read(now)
    models, notes = _models(earlier, now)
    names = sorted({*before.statuses, *after.statuses}, key=lambda s: (s != Status.OK, s))
    statuses: list[dict[str, Any]] = [
        {"status": s, "earlier": before.statuses.get(s, 0), "now": after.statuses.get(s, 0)} for s in names
    ]
    status_test = compare_counts([s["earlier"] for s in statuses], [s["now"] for s in statuses])._asdict()
    scores = {c: _score(before.scores[c], after.scores[c]) for c in SCORES if c in models and _has(before, after, c)}
    _correct([status_test, *scores.values()])
    new, gone = np.setdiff1d(after.items, before.items), np.setdiff1d(before.items, after.items)
    result: dict[str, Any] = {
        "earlier": earlier.root, "now": now.root, "answer": "", "notes": notes, "rows": _rows_in_both(before, after),
        "items": {
            "earlier": len(np.unique(before.items)), "now": len(np.unique(after.items)), "new": len(new),
            "gone": len(gone),
        },
        "statuses": statuses, "status_test": status_test, "scores": scores,
        "new": _named(now, new), "gone": _named(earlier, gone),
    }  # fmt: skip
    result["answer"] = answer(result)
    return result


def answer(result: dict[str, Any]) -> str:
    """Say in sentences what moved, and what did not."""
    moved: list[str] = []
    still: list[str] = []
    for column, s in result["scores"].items():
        told = f"{column} (median {s['median_a']:.3f} before, {s['median_b']:.3f} now, D {s['distance']:.2f})"
        (moved if verdict(s["p_holm"], s["distance"]) == "moved" else still).append(told)
    test = result["status_test"]
    shares = [_failed_share(result["statuses"], side) for side in ("earlier", "now")]
    failing = f"the share of failed rows ({shares[0]:.1%} before, {shares[1]:.1%} now)"
    (moved if verdict(test["p_holm"], test["cramers_v"]) == "moved" else still).append(failing)
    sentences = [f"{'Moved' if moved else 'Nothing moved noticeably'}{': ' + '; '.join(moved) if moved else ''}."]
    if moved and still:
        sentences.append(f"Not noticeably: {'; '.join(still)}.")
    elif still:
        sentences = [f"Nothing moved noticeably: {'; '.join(still)}."]
    items = result["items"]
    sentences.append(f"{items['new']:,} items are new, {items['gone']:,} are gone, of {items['now']:,} now.")
    return " ".join(sentences)


def verdict(p_holm: float | None, size: float | None) -> str:
    """`moved`, `a little` (surely different, but by less than NOTICEABLE), `not surely`, or `not known`."""
    if p_holm is None or size is None:
        return "not known"
    if p_holm > SURE:
        return "not surely"
    return "moved" if size >= NOTICEABLE else "a little"


def _failed_share(statuses: list[dict[str, Any]], side: str) -> float:
    total = sum(s[side] for s in statuses)
    return float(sum(s[side] for s in statuses if s["status"] != Status.OK) / max(total, 1))


def _read(store: Store) -> _Rows:
    parts: dict[str, list[Any]] = {n: [] for n in ("items", "pictures", "texts", "contents", "ok", *SCORES)}
    statuses: dict[str, int] = {}
    keys = layout.score_keys(store)
    if not keys:
        raise StoreError(f"{store.root}: no scores/*.parquet: not a run folder, or nothing has been scored yet")
    for key in keys:
        table = store.read_table(key, _COLUMNS, verify=True)
        for entry in pc.value_counts(table["status"]).to_pylist():
            statuses[entry["values"]] = statuses.get(entry["values"], 0) + entry["counts"]
        parts["items"].append(text_hashes(table["item_id"]))
        parts["pictures"].append(text_hashes(pc.binary_join_element_wise(table["item_id"], table["image_url"], "\x1f")))
        parts["texts"].append(text_hashes(table["text"]))
        parts["contents"].append(text_hashes(table["content_hash"]))
        ok = pc.equal(table["status"], Status.OK.value)
        parts["ok"].append(ok.to_numpy(zero_copy_only=False))
        for column in SCORES:
            if column in table.column_names:
                parts[column].append(table.filter(ok)[column].cast(pa.float32()).to_numpy(zero_copy_only=False))
    whole: dict[str, Any] = {n: np.concatenate(x) if x else np.zeros(0, np.float32) for n, x in parts.items()}
    return _Rows(
        whole["items"], whole["pictures"], whole["texts"], whole["contents"], whole["ok"], statuses,
        {c: whole[c] for c in SCORES},
    )  # fmt: skip


def _models(earlier: Store, now: Store) -> tuple[set[str], list[str]]:
    """Score columns that one and the same model made in both, and what to say of the others."""
    records = [recorded(store) for store in (earlier, now)]
    same, notes = set(), []
    for column, role in SCORES.items():
        a, b = (record.models.get(role, ModelFacts()) for record in records)
        if a.fingerprint == b.fingerprint:
            same.add(column)
            continue
        names = f"{a.name or 'none'} and {b.name or 'none'}"
        notes.append(f"{column} is not compared: the two runs had different {role} models ({names})")
    return same, notes


def _has(before: _Rows, after: _Rows, column: str) -> bool:
    return bool(np.isfinite(before.scores[column]).any() and np.isfinite(after.scores[column]).any())


def _score(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, Any]:
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    edges = np.histogram_bin_edges(np.concatenate([a, b]).astype(np.float64), _BINS)
    counts = [np.histogram(x, edges)[0].tolist() for x in (a, b)]
    return compare_values(a, b)._asdict() | {
        "histogram": {"edges": edges.tolist(), "earlier": counts[0], "now": counts[1]}
    }


def _correct(tests: list[dict[str, Any]]) -> None:
    """Add `p_holm` to each test that has a p-value, None to the others."""
    made = [t for t in tests if t["p_value"] is not None]
    for test in tests:
        test["p_holm"] = None
    for test, corrected in zip(made, holm([t["p_value"] for t in made]), strict=True):
        test["p_holm"] = float(corrected)


def _rows_in_both(before: _Rows, after: _Rows) -> dict[str, int]:
    """How many rows each run has, how many pictures of an item are in both, and what changed of these."""
    _, a, b = np.intersect1d(before.pictures, after.pictures, return_indices=True)
    both_ok = before.ok[a] & after.ok[b]
    return {
        "earlier": len(before.ok), "now": len(after.ok), "both": len(a),
        "new_text": int((before.texts[a] != after.texts[b]).sum()),
        "new_bytes": int((both_ok & (before.contents[a] != after.contents[b])).sum()),
        "failed_now": int((before.ok[a] & ~after.ok[b]).sum()),
        "ok_now": int((~before.ok[a] & after.ok[b]).sum()),
    }  # fmt: skip


def _named(store: Store, wanted: Hashes) -> list[dict[str, Any]]:
    """The items with these hashes, in the manifest's order, at most LISTED."""
    found: dict[str, dict[str, Any]] = {}
    if not len(wanted):
        return []
    for key in layout.score_keys(store):
        table = store.read_table(key, ["row_id", "item_id", "text", "status"])
        for row in table.filter(pa.array(np.isin(text_hashes(table["item_id"]), wanted))).to_pylist():
            if row["item_id"] not in found and len(found) >= LISTED:
                continue
            item = found.setdefault(
                row["item_id"], {"item_id": row["item_id"], "text": row["text"], "rows": 0, "ok": 0, "row_id": None}
            )
            item["rows"] += 1
            if row["status"] == Status.OK:
                item["ok"] += 1
                item["row_id"] = item["row_id"] or row["row_id"]
    return list(found.values())
