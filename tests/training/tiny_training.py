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


def write_labelled(folder: Path, num_labels: int = 3, per_label: int = 8, seed: int = 0) -> str:
    """Write a folder of folders of small pictures, one hue for each; returns its path."""
    rng = np.random.default_rng(seed)
    for label in range(num_labels):
        (folder / f"kind{label}").mkdir(parents=True, exist_ok=True)
        colour = np.roll([200, 60, 20], label)
        for i in range(per_label):
            pixels = np.clip(colour + rng.normal(0, 40, 3) + rng.normal(0, 20, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"kind{label}" / f"{seed}-{i}.png")
    return str(folder)


def write_unfilled(folder: Path, family: str, arch: dict[str, Any], image: dict[str, Any]) -> str:
    """Write the conf of a model whose weights are still to be made; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny_{family}.yaml"
    weights = {"path": str(folder / f"{family}.safetensors")}
    conf = {"family": family, "name": f"tiny_{family}", "weights": weights, "image": image, "arch": arch}
    path.write_text(yaml.safe_dump(conf), "utf-8")
    return str(path)


def _labelled(tmp: Path, model: str, changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    folder = tmp / "labelled"
    if not folder.exists():
        write_labelled(folder)
    manifest = {"path": str(folder), "format": "folder", "columns": {"item_id": "path"}}
    data = {"manifest": manifest, "label": "folder", "validation": {"share": 0.4}, "cache": str(tmp / "cache")}
    base = {
        "model": model, "init": "random", "output": str(tmp / "out"), "epochs": 4, "device": "cpu", "data": data,
        "log_every_steps": 1, "threads": 1,
    }  # fmt: skip
    return base | more | changes


def embedder(tmp: Path, arch: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Settings of an embedder's training on a folder of labelled pictures below `tmp`, which is written."""
    sizes = arch or {"backbone": "small_resnet", "widths": [4, 8], "dim": 6}
    model = write_unfilled(tmp / "model", "embedder", sizes, {"size": 32, "resize": "pil_bilinear"})
    return _labelled(tmp, model, changes, task="embedder", classes_per_batch=2, images_per_class=3)


def vae(tmp: Path, arch: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Settings of a VAE's training on the same pictures."""
    image = {"size": 16, "resize": "pil_bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]}
    sizes = {"widths": [4, 8], "latent_dim": 3} | (arch or {})
    model = write_unfilled(tmp / "model", "vae", sizes, image)
    return _labelled(tmp, model, changes, task="vae", batch_size=6)


def composer(tmp: Path, family: str = "tirg", **changes: Any) -> dict[str, Any]:
    """Settings of a composer's training on drawn pictures, on a tiny recall model's image tower."""
    model = write_composer(tmp / "model", family)
    drawn = {"seed": 4, "num_sights": 2, "images_per_sight": 6}
    data = {"drawn": drawn, "validation": {"drawn": drawn | {"seed": 5, "images_per_sight": 4}}}
    base = {
        "task": "composer", "model": model, "init": "random", "output": str(tmp / "out"), "epochs": 4, "batch_size": 16,
        "device": "cpu", "data": data | {"overlap": "same_items", "cache": str(tmp / "cache")}, "log_every_steps": 20,
        "threads": 1,
    }  # fmt: skip
    return base | changes


def write_composer(folder: Path, family: str) -> str:
    """Write a tiny recall model, and the conf of a composer on it whose weights are still to be made."""
    tower, dim = write_model(folder, "align")
    combiner = family == "combiner"
    arch = {"projection": 24, "hidden": 24} if combiner else {"dim": dim, "text_dim": 8}
    path = folder / f"{family}.yaml"
    conf = {"family": family, "name": f"tiny_{family}", "weights": {"path": str(folder / f"{family}.safetensors")}}
    conf |= {"towers": {"base" if combiner else "image": tower}, "arch": arch}
    path.write_text(yaml.safe_dump(conf), "utf-8")
    return str(path)


def write_changes_run(folder: Path, dim: int, num_items: int = 30, seed: int = 0, **changes: Any) -> Store:
    """Write score files in which a picture's vector is its item's direction plus that of its colour, and pairs.csv."""
    rng = np.random.default_rng(seed)
    colours = {name: np.random.default_rng(n).normal(size=dim) for n, name in enumerate(("red", "blue", "green"))}
    rows, pairs = [], ["row_id,text,target"]
    for item in range(num_items):
        own = rng.normal(size=dim)
        for name, colour in colours.items():
            vector = own + colour + 0.1 * rng.normal(size=dim)
            row = {
                "row_id": f"{seed}-{item}-{name}", "item_id": f"{seed}-{item}", "text": name, "status": "ok",
                "image_url": f"https://x.example/{seed}/{item}/{name}.jpg", "content_hash": f"{seed}/{item}/{name}",
                "embedding": (vector / np.linalg.norm(vector)).astype(np.float32),
            }  # fmt: skip
            rows.append(row | {k: v(item, name) if callable(v) else v for k, v in changes.items()})
            pairs += [f"{row['row_id']},now {to},{seed}-{item}-{to}" for to in colours if to != name]
    store = open_store(str(folder))
    store.write_table("scores/00000.parquet", pa.Table.from_pylist(rows, schema=score_schema([], {"embedding": dim})))
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "output": str(folder), "models": {"recall": "r.yaml"}}
    store.write_json("run.json", {"config": config, "fingerprint": "f"})
    (folder / "pairs.csv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return store


def parsed(data: dict[str, Any]) -> Any:
    """Return the settings as the job reads them."""
    return parse_train_config(data, "test")
