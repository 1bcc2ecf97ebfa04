"""The published models behind the functions that the shared golden check calls, through the real loading path.

    PYTHONPATH=tests/models python ../shared/golden/check.py golden_adapter public

Weights are written by the golden recipe to checkpoint files of the published formats and opened by `load_model`.
"""

import atexit
import csv
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from aistudio.config import ModelConfig, WeightsFile
from aistudio.models import load_model
from aistudio.poi_table import PoiTable, convert_published

_state: dict[str, Any] = {}


def write_checkpoints(golden: Path, folder: Path) -> dict[str, ModelConfig]:
    """The recipe's weights as files of the published formats, and the settings that open them."""
    spec = importlib.util.spec_from_file_location("golden_recipe", golden / "recipe.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    recall = {
        "epoch": 19,
        "min_loss": np.float64(0.018),
        "state_dict": recipe.make_state_dict(golden / "align_keys.json"),
    }
    torch.save(recall, folder / "recall.pth")
    del recall
    torch.save(recipe.make_state_dict(golden / "ranking_keys.json"), folder / "ranking.ckpt")
    files = {"recall": ("align", "recall.pth"), "ranking": ("siamese_poi", "ranking.ckpt")}
    return {
        name: ModelConfig(
            family=family, name=name, weights=WeightsFile(path=str(folder / file)), tokenizer=str(golden / "bert")
        )
        for name, (family, file) in files.items()
    }


def setup(golden_dir: str, set_dir: str, **options: Any) -> None:
    torch.set_num_threads(1)
    golden, case = Path(golden_dir), Path(set_dir)
    if "configs" not in _state:
        folder = tempfile.TemporaryDirectory(prefix="golden_")
        atexit.register(folder.cleanup)
        _state["configs"] = write_checkpoints(golden, Path(folder.name))
    names = ("poi_2_pic_num.npy", "poi_imgs_avg10_vector.npy", "poi_name_vector.npy")
    table = PoiTable.from_arrow(convert_published(*(case / name for name in names)))
    _state["recall"] = load_model(_state["configs"]["recall"], **options)
    _state["ranking"] = load_model(_state["configs"]["ranking"], poi_table=table, **options)


def read_pixels(paths: list[str]) -> np.ndarray:
    """(N,224,224,3) uint8; black where a file is no image, as in the published recall script."""
    pixels = np.zeros((len(paths), 224, 224, 3), np.uint8)
    for i, path in enumerate(paths):
        try:
            rgb = np.asarray(Image.open(path).convert("RGB"))
        except UnidentifiedImageError:
            continue
        pixels[i] = cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_LINEAR)
    return pixels


def preprocess(paths: list[str]) -> np.ndarray:
    return _state["recall"]._images.normalise(read_pixels(paths)).numpy()


def tokenize(texts: list[str]) -> list[list[int]]:
    return _state["recall"].tokenize(texts)


def encode_images(paths: list[str]) -> np.ndarray:
    return _state["recall"].encode_images(read_pixels(paths))


def encode_texts(texts: list[str]) -> np.ndarray:
    return _state["recall"].encode_texts(texts)


def rank(cases: list[dict[str, Any]]) -> np.ndarray:
    unique = list(dict.fromkeys(c["image"] for c in cases))
    vectors = dict(zip(unique, _state["ranking"].encode_images(read_pixels(unique)), strict=True))
    return _state["ranking"].rank(
        np.stack([vectors[c["image"]] for c in cases]), [c["title"] for c in cases], [c["poi_names"] for c in cases]
    )


def pair_accuracy(pairs: list[dict[str, Any]]) -> float:
    a, b = (rank([{**p, "image": p[key]} for p in pairs]) for key in ("image_a", "image_b"))
    labels = np.array([float(p["ctr_a"]) > float(p["ctr_b"]) for p in pairs])
    return float(((a > b) == labels).mean())


def recall_at_k(csv_path: str, k: int) -> float:
    """Share of POIs with an image of their own among their first K; ties stay in file order."""
    rows: dict[str, list[tuple[float, bool]]] = {}
    with Path(csv_path).open(encoding="utf-8", newline="") as f:
        for row in csv.reader(line for line in f if len(line.strip()) >= 3):
            poi, image, score = row[0], row[-2], row[-1]
            rows.setdefault(poi, []).append((float(score), Path(image).name.split("_")[0] == poi))
    hits = [any(own for _, own in sorted(r, key=lambda x: -x[0])[:k]) for r in rows.values()]
    return sum(hits) / len(hits)


def cases_of(set_dir: Path) -> dict[str, Any]:
    return json.loads((set_dir / "cases.json").read_text(encoding="utf-8"))
