"""Small trainings: a run of random vectors in which one direction is liked, tiny models, settings that name them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image

from aistudio.config import parse_train_config
from aistudio.schema import score_schema
from aistudio.store import Store, open_store
from tests.models.tiny_families import BUILDERS

PAIR_FIELDS = [pa.field("pair_id", pa.string()), pa.field("side", pa.string()), pa.field("ctr", pa.float64())]


def write_model(folder: Path, family: str) -> tuple[str, int]:
    """Write a tiny model and its conf; returns the conf's path and the width of its vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = BUILDERS[family](folder)
    path = folder / f"{family}.yaml"
    path.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True), allow_unicode=True), "utf-8")
    return str(path), int(cfg.arch.get("dim", 16))


def write_pairs_run(folder: Path, dim: int, num_pairs: int = 60, seed: int = 0, **changes: Any) -> Store:
    """Write score files with the sides of `num_pairs` pairs; the image nearer to a liked direction wins, mostly."""
    rng = np.random.default_rng(seed)
    liked = np.random.default_rng(99).normal(size=dim)
    rows = []
    for pair in range(num_pairs):
        vectors = rng.normal(size=(2, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rates = 1 / (1 + np.exp(-3 * vectors @ liked)) + 0.05 * rng.normal(size=2)
        for side, vector, rate in zip("ab", vectors, rates, strict=True):
            row = {
                "row_id": f"{pair}:{side}", "item_id": f"item{seed}-{pair // 2}", "text": f"hotel {pair % 7}",
                "poi_names": "ab" if pair % 3 else None, "image_url": f"https://x.example/{seed}/{pair}{side}.jpg",
                "status": "ok", "embedding": vector.astype(np.float32), "content_hash": f"{seed}/{pair}{side}",
                "pair_id": f"p{seed}-{pair}", "side": side, "ctr": float(rate),
            }  # fmt: skip
            rows.append(row | {k: v(pair, side) if callable(v) else v for k, v in changes.items()})
    store = open_store(str(folder))
    schema = score_schema(PAIR_FIELDS, {"embedding": dim})
    for start in range(0, len(rows), 50):
        table = pa.Table.from_pylist(rows[start : start + 50], schema=schema)
        store.write_table(f"scores/{start // 50:05d}.parquet", table)
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "output": str(folder), "models": {"recall": "r.yaml"}}
    store.write_json("run.json", {"config": config, "fingerprint": "f"})
    return store


def write_pictures(folder: Path, num_items: int = 8, per_item: int = 4, seed: int = 0) -> str:
    """Write small JPEG files, one colour for each item, and their CSV manifest; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = ["item_id,image_url,text,ctr,kind"]
    for item in range(num_items):
        colour = rng.integers(0, 256, 3)
        for i in range(per_item):
            pixels = np.clip(colour + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            path = folder / f"{item}-{i}.png"
            Image.fromarray(pixels).save(path)
            lines.append(f"i{item},{path},thing {chr(97 + item)},{rng.random():.3f},{'xy'[item % 2]}")
    manifest = folder / "pictures.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(manifest)


def ranking(tmp: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a ranking training on a run in `tmp`/train_run, judged on `tmp`/val_run; both are written."""
    model, dim = write_model(tmp / "model", "siamese_poi")
    if not (tmp / "train_run").exists():
        write_pairs_run(tmp / "train_run", dim, 60, seed=1)
        write_pairs_run(tmp / "val_run", dim, 30, seed=2)
    data = {"run": str(tmp / "train_run"), "vectors": "embedding", "validation": {"run": str(tmp / "val_run")}}
    base = {
        "task": "ranking", "model": model, "output": str(tmp / "out"), "epochs": 6, "batch_size": 8, "device": "cpu",
        "data": data | {"cache": str(tmp / "cache")}, "log_every_steps": 2, "threads": 1, "poi_table": "build",
    }  # fmt: skip
    return base | changes


def recall(tmp: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a recall training on pictures below `tmp`, which are written."""
    model, _ = write_model(tmp / "model", "align")
    manifest = write_pictures(tmp / "pictures")
    columns = {"item_id": "item_id", "image_url": "image_url", "text": "text"}
    source = {"path": manifest, "format": "csv", "columns": columns}
    base = {
        "task": "recall", "model": model, "output": str(tmp / "out"), "epochs": 6, "batch_size": 8, "device": "cpu",
        "data": {"manifest": source, "validation": {"share": 0.3}, "cache": str(tmp / "cache")},
        "log_every_steps": 1, "threads": 1,
    }  # fmt: skip
    return base | changes


def parsed(data: dict[str, Any]) -> Any:
    """Return the settings as the job reads them."""
    return parse_train_config(data, "test")
