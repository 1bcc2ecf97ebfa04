"""A made-up run folder, written through Store: what the report's tests and its benchmark read.

The embeddings are item centres with noise and the metrics files are computed from the rankings they give, so the
pages show something that hangs together. Thumbnails are drawn, one per item and variant.
"""

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from aistudio.schema import score_schema, vector_array
from aistudio.store import Store, open_store

SIGHTS = [
    "西湖 West Lake",
    "长城 Great Wall",
    "普陀山 Mount Putuo",
    "外滩 The Bund",
    "黄山 Yellow Mountain",
    "鼓浪屿 Gulangyu",
    "Alhambra, Granada",
    "قلعة حلب",
    "🏖️ Sunny Beach Resort",
    "富士山 Mt. Fuji",
    "Neuschwanstein",
    "مسجد آيا صوفيا",
    "故宫 Forbidden City",
    "Machu Picchu",
    "泰姬陵 Taj Mahal",
    "Santorini, Oía",
]
HOSTILE = [
    "<script>window.__pwned = 1</script>",
    '"><img src=x onerror="window.__pwned = 2">',
    "'; window.__pwned = 3; //",
    "</script><svg onload='window.__pwned = 4'>",
    "<!-- \u2028 \u2029 --> &lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "\u202eevil gnp.exe \u05d0\u05d1\u05d2",
    "名" * 10_000,
    "=cmd|' /C calc'!A0",
]
HOSTILE_URLS = [
    "javascript:window.__pwned=5",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>1</script>",
    'https://img.example/"onmouseover="window.__pwned=6',
    "https://img.example/?q=<script>",
    "//evil.example/x",
    "vbscript:x",
]
_CATEGORIES = ["lake", "mountain", "palace", "beach", "city"]
_BAD = [
    ("http_error", "404 Not Found", 404),
    ("timeout", "no answer in 20 s", None),
    ("http_error", "503 Busy", 503),
    ("not_an_image", "the bytes are HTML", 200),
    ("truncated_image", "image file ends early", 200),
]


def picture(item: int, variant: int, size: int = 160) -> bytes:
    """A small WebP landscape whose colours belong to the item."""
    rng = np.random.default_rng([item, variant])
    hue = item * 47 % 360
    image = Image.new("RGB", (size, size * 3 // 4), f"hsl({hue}, 55%, {72 + variant % 3 * 6}%)")
    draw = ImageDraw.Draw(image)
    width, height = image.size
    sun = rng.integers(20, width - 20)
    draw.ellipse([sun - 12, 12, sun + 12, 36], fill=f"hsl({(hue + 40) % 360}, 90%, 85%)")
    for layer in range(3):
        base = height * (0.45 + 0.18 * layer)
        line = [(x, base + 12 * math.sin(x / (14 + 9 * layer) + rng.uniform(0, 6))) for x in range(0, width + 8, 8)]
        draw.polygon([(0, height), *line, (width, height)], fill=f"hsl({(hue + 160) % 360}, 40%, {48 - 12 * layer}%)")
    out = io.BytesIO()
    image.save(out, "WEBP", quality=70)
    return out.getvalue()


def write_run(
    store: Store,
    num_items: int = 24,
    images_per_item: int = 8,
    *,
    dim: int = 32,
    shard_rows: int = 50,
    hostile: bool = False,
    pictures: int = 64,
    metrics: bool = True,
    seed: int = 0,
) -> None:
    """Write run.json, scores/, rejected/, metrics/, selection/ and a comparison.

    Args:
        hostile: names and URLs that try to break out of the page.
        pictures: distinct pictures drawn; rows share them.
    """
    rng = np.random.default_rng(seed)
    n = num_items * images_per_item
    item = np.arange(n) // images_per_item
    names = [_name(i, hostile) for i in range(num_items)]
    centres = _unit(rng.normal(size=(num_items, dim)))
    vectors = _unit(centres[item] + rng.normal(size=(n, dim)) * 0.75 / math.sqrt(dim) * rng.uniform(0.6, 2.6, (n, 1)))
    drawn = [picture(i % 16, i // 16) for i in range(pictures)]
    bad = {i: _BAD[i // 23 % len(_BAD)] for i in range(11, n, 23)}
    rows = [_row(i, int(item[i]), names, vectors, centres, drawn, bad.get(i), rng, hostile) for i in range(n)]
    schema = score_schema([pa.field("category", pa.string()), pa.field("price", pa.float64())], {"embedding": dim})
    places = []
    for start in range(0, n, shard_rows):
        key = f"scores/{start // shard_rows:06d}.parquet"
        part = rows[start : start + shard_rows]
        places += [(key, i) for i in range(len(part))]
        store.write_table(key, _table(part, schema, dim))
    _write_record(store, n, rows)
    if metrics:
        _write_metrics(store, names, rows, vectors, centres, item, places, rng)
    _write_selection(store, rows)


def _name(i: int, hostile: bool) -> str:
    if hostile:
        return HOSTILE[i % len(HOSTILE)] + (f" {i}" if i >= len(HOSTILE) else "")
    return SIGHTS[i % len(SIGHTS)] + (f" {i // len(SIGHTS) + 1}" if i >= len(SIGHTS) else "")


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _row(i, item, names, vectors, centres, drawn, bad, rng, hostile) -> dict[str, Any]:
    url = HOSTILE_URLS[i % len(HOSTILE_URLS)] if hostile else f"https://img{i % 3}.example.com/{item}/{i}.jpg"
    row: dict[str, Any] = {
        "row_id": str(i),
        "item_id": names[item] if hostile else f"poi-{item}",
        "image_url": url,
        "text": names[item],
        "fallback_url": None,
        "poi_names": None,
        "category": names[item] if hostile else _CATEGORIES[item % 5],
        "price": round(float(rng.lognormal(4, 0.6)), 2),
        "final_url": None,
    }
    if bad:
        return row | {"status": bad[0], "error": bad[1], "http_status": bad[2]}
    return row | {
        "status": "ok",
        "error": None,
        "http_status": 200,
        "num_bytes": int(rng.integers(2e4, 2e6)),
        "width": 640,
        "height": int(rng.integers(360, 960)),
        "content_hash": f"{i:064x}",
        "embedding": vectors[i],
        "recall_score": float(vectors[i] @ centres[item]),
        "rank_score": float(rng.normal()),
        "thumbnail": drawn[i % len(drawn)],
    }


def _table(rows: list[dict[str, Any]], schema: pa.Schema, dim: int) -> pa.Table:
    columns = []
    for field in schema:
        values = [r.get(field.name) for r in rows]
        if field.name == "embedding":
            vectors = np.array([np.zeros(dim) if v is None else v for v in values], np.float32)
            columns.append(vector_array(vectors, np.array([v is not None for v in values])))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=pa.schema(schema))


def _write_record(store: Store, n: int, rows: list[dict[str, Any]]) -> None:
    counts: dict[str, int] = {}
    for r in rows:
        counts[r["status"]] = counts.get(r["status"], 0) + 1
    wall = n / 82.5
    timeline = [
        [round(wall * i / 80, 2), round(n * (i / 80) ** 1.1), round(0.95 * n * (i / 80) ** 1.1)] for i in range(81)
    ]
    store.write_json(
        "run.json",
        {
            "state": "complete",
            "started_at": "2026-11-20T09:12:03+00:00",
            "finished_at": "2026-11-20T09:40:44+00:00",
            "command": ["score.py", "--conf", "conf/poi_recall.yaml"],
            "fingerprint": "c0ffee" * 10 + "1234",
            "attempt": 1,
            "config": {
                "manifest": {"path": "data/poi_recall.csv", "format": "poi_recall"},
                "output": store.root,
                "models": {"recall": "conf/models/demo_recall.yaml", "ranking": "conf/models/demo_ranking.yaml"},
            },
            "versions": {"aistudio": "0.1.0", "ray": "2.60.0", "torch": "2.14.0", "pyarrow": "26.0.1"},
            "host": {"name": "worker-1", "cpus": 16, "platform": "Linux-6.1-x86_64", "python": "3.11.9"},
            "models": {
                "recall": {"name": "demo recall", "family": "align", "fingerprint": "ab" * 32, "dim": 32},
                "ranking": {
                    "name": "demo ranking",
                    "family": "siamese_poi",
                    "fingerprint": "cd" * 32,
                    "image_tower": "shared",
                },
            },
            "rows": {"manifest": n, "rejected": 2, "stored": n},
            "counts": counts,
            "timings": {
                "wall_s": wall,
                "first_row_s": 3.1,
                "startup_s": 3.1,
                "steady_s": max(0.0, wall - 3.1),
                "num_rows": n,
                "images_per_s": 82.5,
                "download_s": 0.4 * wall,
                "decode_s": 0.22 * wall,
                "model_s": 0.91 * wall,
                "write_s": 0.05 * wall,
                "wait_s": 0.12 * wall,
            },
            "timeline": timeline,
        },
    )
    rejected = [
        {"file": "data/poi_recall.csv", "line_number": 17, "raw": "x<script>,,,", "reason": "image_url is empty"},
        {"file": "data/poi_recall.csv", "line_number": 91, "raw": "=1+1,2", "reason": "2 fields, expected 7"},
    ]
    store.write_table("rejected/00000.parquet", pa.Table.from_pylist(rejected))


def _write_metrics(store, names, rows, vectors, centres, item, places, rng) -> None:
    ok = np.array([r["status"] == "ok" for r in rows])
    gallery = np.flatnonzero(ok)
    per_query, top = [], []
    for q, name in enumerate(names):
        score = vectors[gallery] @ centres[q]
        order = np.argsort(-score, kind="stable")
        relevant = item[gallery[order]] == q
        ranks = np.flatnonzero(relevant) + 1
        per_query.append(
            {
                "query_id": rows[q * (len(rows) // len(names))]["item_id"],
                "item_id": f"poi-{q}",
                "text": name,
                "num_relevant": len(ranks),
                "first_rank": int(ranks[0]) if len(ranks) else None,
                "hit_rate@1": float(len(ranks) > 0 and ranks[0] == 1),
                "hit_rate@5": float(len(ranks) > 0 and ranks[0] <= 5),
                "map": float(np.mean((np.arange(len(ranks)) + 1) / ranks)) if len(ranks) else 0.0,
            }
        )
        shown = [(rank, "top") for rank in range(1, min(12, len(order)) + 1)]
        shown += [(int(rank), "low_relevant") for rank in ranks[-6:] if rank > 12]
        for rank, part in shown:
            at = int(gallery[order[rank - 1]])
            top.append(
                {
                    "query_id": per_query[-1]["query_id"],
                    "rank": rank,
                    "row_id": rows[at]["row_id"],
                    "item_id": rows[at]["item_id"],
                    "image_url": rows[at]["image_url"],
                    "score": float(score[order[rank - 1]]),
                    "relevant": bool(relevant[rank - 1]),
                    "file": places[at][0],
                    "row_index": places[at][1],
                    "part": part,
                }
            )
    store.write_table("metrics/per_query.parquet", pa.Table.from_pylist(per_query))
    store.write_table("metrics/top.parquet", pa.Table.from_pylist(top))
    flat = {m: _interval([p[m] for p in per_query]) for m in ("hit_rate@1", "hit_rate@5", "map")} | {
        "pairwise_accuracy": {"value": 0.652, "low": 0.61, "high": 0.69, "n": 400},
        "median_rank": _interval([2.0]),
    }
    store.write_json("metrics/metrics.json", flat)
    _write_slices(store, per_query, rows, len(rows) // len(names))
    store.write_json("metrics/curves.json", curves())
    _write_pairs(store, rows, np.flatnonzero(ok), rng)
    store.write_json("metrics/compare_baseline.json", comparison_of(per_query, store.root))


def _interval(values: list[float]) -> dict[str, Any]:
    mean, spread = float(np.mean(values)), 1.96 * float(np.std(values)) / math.sqrt(len(values))
    return {"value": mean, "low": max(0.0, mean - spread), "high": mean + spread, "n": len(values)}


def _write_slices(store: Store, per_query: list[dict[str, Any]], rows: list[dict[str, Any]], step: int) -> None:
    out = []
    for value in sorted({r["category"] for r in rows}):
        part = [p for i, p in enumerate(per_query) if rows[i * step]["category"] == value]
        for metric in ("hit_rate@1", "hit_rate@5", "map"):
            numbers = _interval([p[metric] for p in part])
            numbers["estimate"] = numbers.pop("value")
            out.append({"column": "category", "value": value, "metric": metric, **numbers})
    store.write_table("metrics/slices.parquet", pa.Table.from_pylist(out))


def _write_pairs(store: Store, rows: list[dict[str, Any]], ok: np.ndarray, rng: np.random.Generator) -> None:
    out = []
    for i in range(0, min(len(ok) - 1, 400), 2):
        a, b = rows[ok[i]], rows[ok[i + 1]]
        ctr_a, ctr_b = (float(x) for x in rng.uniform(0.005, 0.06, 2))
        gap = float(rng.normal() * 0.8 + 25 * (ctr_a - ctr_b))
        label, prediction = int(ctr_a > ctr_b), int(gap > 0)
        out.append(
            {
                "pair_id": f"p{i}",
                "row_id_a": a["row_id"],
                "row_id_b": b["row_id"],
                "ctr_a": ctr_a,
                "ctr_b": ctr_b,
                "score_a": gap / 2,
                "score_b": -gap / 2,
                "label": label,
                "prediction": prediction,
                "correct": label == prediction,
                "margin": gap,
            }
        )
    store.write_table("metrics/pairs.parquet", pa.Table.from_pylist(out))


def _write_selection(store: Store, rows: list[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    out = []
    for r in rows:
        place = seen.get(r["item_id"], 0)
        kept = r["status"] == "ok" and place < 3
        if kept:
            seen[r["item_id"]] = place + 1
        reason = "kept" if kept else f"failed:{r['status']}" if r["status"] != "ok" else "beyond_n"
        out.append(
            {
                "item_id": r["item_id"],
                "row_id": r["row_id"],
                "image_url": r["image_url"],
                "recall_score": r.get("recall_score"),
                "rank_score": r.get("rank_score"),
                "selected": kept,
                "position": place + 1 if kept else None,
                "reason": reason,
            }
        )
    store.write_table("selection/00000.parquet", pa.Table.from_pylist(out))


def curves() -> dict[str, Any]:
    """curves.json in the form in which the aggregation writes it."""
    ks = list(range(1, 101))
    edges = np.linspace(-1, 1, 201)
    middle = (edges[1:] + edges[:-1]) / 2
    bell = {
        m: np.round(w * np.exp(-(((middle - m) / 0.13) ** 2))).astype(int).tolist()
        for m, w in ((0.62, 300), (0.05, 9000))
    }
    p = (np.arange(10) + 0.5) / 10
    fpr = np.linspace(0, 1, 50)
    return {
        "retrieval": {
            "k": ks,
            "hit_rate": [1 - 0.5 * k**-1.2 for k in ks],
            "recall": [1 - 0.9 * k**-0.6 for k in ks],
            "precision": [0.9 * k**-0.5 for k in ks],
            "queries": 48,
        },
        "cmc": {"rank": ks, "share": [1 - 0.5 * k**-1.2 for k in ks]},
        "histogram": {
            "edges": edges.round(3).tolist(),
            "relevant": bell[0.62],
            "irrelevant": bell[0.05],
            "sampled_queries": 48,
        },
        "reliability": {
            "edges": np.linspace(0, 1, 11).tolist(),
            "count": [0, *[40] * 9],
            "mean_probability": [None, *p[1:].tolist()],
            "share_positive": [None, *(0.5 + 0.7 * (p[1:] - 0.5)).tolist()],
        },
        "roc": {"fpr": fpr.tolist(), "tpr": (fpr**0.45).tolist()},
    }


_GONE = {"row_id": "only in A", "relevant": False}


def comparison_of(per_query: list[dict[str, Any]], root: str) -> dict[str, Any]:
    """compare_<name>.json in the form in which `compare` writes it: this run beside a made-up baseline."""
    changed = [
        {
            "query_id": q["query_id"],
            "text": q["text"],
            "a": max(0.0, q["map"] - 0.02 * (i % 7) + 0.03),
            "b": q["map"],
            "difference": 0.02 * (i % 7) - 0.03,
            "first_rank_a": 1 + i % 4,
            "first_rank_b": q["first_rank"],
            "images_a": [{"row_id": str(i * 2 + n), "relevant": n == 0} for n in range(3)],
            "images_b": [{"row_id": str(i * 2 + n), "relevant": n < 2} for n in range(2)] + [_GONE],
        }
        for i, q in enumerate(per_query[:50])
    ]
    wins = {"wins": len(per_query) - 1, "ties": 1, "losses": 0, "n": len(per_query)}
    better = {"a": 0.61, "b": 0.66, "difference": 0.05, "low": 0.02, "high": 0.08, "p_value": 0.001, "p_holm": 0.004}
    same = {"a": 0.81, "b": 0.80, "difference": -0.01, "low": -0.03, "high": 0.01, "p_value": 0.3, "p_holm": 0.6}
    return {
        "a": "/runs/baseline",
        "b": root,
        "answer": "B is better than A in 1 of 2 metrics, in the others it may be chance: map 0.6100 in A, 0.6600 in B.",
        "warnings": ["A was aggregated by an older version, which did not record what its metrics were computed from"],
        "queries": {"paired": len(per_query), "only_a": 1, "only_b": 0, "without_relevant": 0},
        "metrics": {"map": better | wins, "hit_rate@5": same | wins},
        "changed": changed,
        "changed_metric": "map",
        "confidence": 0.95,
        "samples": 1000,
    }


def write_neighbours(store: Store, most: int = 8) -> None:
    """Write metrics/image/ as `aggregate --set metrics.query=image` does: each ok image's nearest others."""
    places, ids, vectors = [], [], []
    for key in (e.key for e in store.list("scores/")):
        for i, row in enumerate(store.read_table(key, ["row_id", "status", "embedding"]).to_pylist()):
            if row["status"] == "ok":
                places.append((key, i))
                ids.append(row["row_id"])
                vectors.append(row["embedding"])
    scores = np.array(vectors) @ np.array(vectors).T
    np.fill_diagonal(scores, -2)
    out = []
    for q, order in enumerate(np.argsort(-scores, axis=1)[:, :most]):
        for rank, j in enumerate(order.tolist(), 1):
            (file, row_index), score = places[j], float(scores[q, j])
            found = {"row_id": ids[j], "file": file, "row_index": row_index, "rank": rank, "score": score}
            out.append({"query_id": ids[q], "relevant": False, "part": "top"} | found)
    store.write_table("metrics/image/top.parquet", pa.Table.from_pylist(out))
    store.write_json("metrics/image/about.json", {"name": "image", "query": "image"})
    store.write_json("metrics/image/metrics.json", {})


def main() -> None:
    """`python -m tests.reports.synthetic_run FOLDER [hostile]`: a run folder to look at."""
    import sys

    from aistudio.config import ReportSettings
    from aistudio.pipeline.report import write_report

    store = open_store(sys.argv[1])
    write_run(store, 48, 20, hostile="hostile" in sys.argv)
    print(
        write_report(
            store,
            ReportSettings(
                title="普陀山 demo · recall and ranking",
                price_per_hour=1.2,
                paper={"hit_rate@5": 0.788, "pairwise_accuracy": 0.652},
            ),
        )
    )


if __name__ == "__main__":
    main()
