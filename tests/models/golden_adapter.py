"""The published models behind the functions that the shared golden check calls, through the real loading path.

    PYTHONPATH=tests/models python ../shared/golden/check.py golden_adapter public

Weights are written by the golden recipe to checkpoint files of the published formats and opened by `load_model`.
"""

import atexit
import importlib.util
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from aistudio.catalogue.manifest import inspect_manifest, read_manifest
from aistudio.config import ImagesSettings, ManifestSettings, ModelConfig, WeightsFile
from aistudio.images.decode import decode
from aistudio.metrics import pairs as pair_metrics
from aistudio.metrics import retrieval
from aistudio.models import load_model, load_ranking
from aistudio.poi_table import PoiTable, convert_published
from aistudio.schema import Status

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
    _state["ranking"] = load_ranking(_state["configs"]["ranking"], table, **options)


def read_pixels(paths: list[str]) -> np.ndarray:
    """(N,224,224,3) uint8 as the job decodes and resizes them.

    What the job stores as a failed row, the published recall script sees as a black image.
    """
    spec, settings = _state["recall"].image_spec, ImagesSettings(thumbnail_px=0)
    pixels = np.zeros((len(paths), spec.size, spec.size, 3), np.uint8)
    for black, path in zip(pixels, paths, strict=True):
        found = decode(Path(path).read_bytes(), [spec], settings)
        if found.status == Status.OK:
            black[:] = found.pixels[0]
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
    scores = [rank([{**p, "image": p[key]} for p in pairs]) for key in ("image_a", "image_b")]
    rates = ([float(p[key]) for p in pairs] for key in ("ctr_a", "ctr_b"))
    return float(pair_metrics.correct(pair_metrics.pairs(*rates, *scores)).mean())


def recall_at_k(csv_path: str, k: int) -> float:
    """The share of POIs with an image of their own among their first K, which the product calls hit_rate@K.

    The file is the published script's output, `poi_id,name,image,score` without a header; an image is the POI's that
    its name begins with.
    """
    rows = read_scores(Path(csv_path).read_bytes())
    ranked = [retrieval.ranks(own["score"].astype(float)) for _, own in rows.groupby("item_id", sort=False)]
    query = np.repeat(np.arange(len(ranked)), [len(r) for r in ranked])
    owner = rows["image_url"].map(lambda name: Path(name).name.split("_")[0])
    own_image = [(own == poi).to_numpy() for poi, own in owner.groupby(rows["item_id"], sort=False)]
    items = retrieval.relevant(query, np.concatenate(ranked), len(ranked), np.concatenate(own_image).astype(float))
    return float(retrieval.hit_rate(items, k).mean())


def read_scores(body: bytes) -> pd.DataFrame:
    """The file's records through the job's own reader of CSV, which rejects lines that are too short."""
    settings = ManifestSettings(path="-", format="csv")
    whole = b"item_id,text,image_url,score\n" + body
    columns = inspect_manifest(io.BytesIO(whole), "scores.csv", settings)
    found = read_manifest(io.BytesIO(whole), "scores.csv", settings, columns)
    return pd.concat([batch.candidates.to_pandas() for batch in found], ignore_index=True)


def cases_of(set_dir: Path) -> dict[str, Any]:
    return json.loads((set_dir / "cases.json").read_text(encoding="utf-8"))
