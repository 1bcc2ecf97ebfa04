"""Measures the demo weights on catalogues they were not trained on, through a job's own loading and decoding."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from aistudio.config import ImagesSettings, ModelConfig
from aistudio.demo.catalogue import DEMO_SEED, CatalogueInfo, write_catalogue
from aistudio.demo.faults import BASE_URL, SERVER_PREFIXES
from aistudio.demo.pairs import SEPARATOR, roc_auc
from aistudio.images.decode import decode
from aistudio.metrics.pairs import correct, pairs
from aistudio.metrics.retrieval import hit_rate, ranks, recall, relevant
from aistudio.models import load_ranking, load_recall
from aistudio.poi_table import PoiTable

HELD_OUT_SEED = 2  # a larger catalogue beside the demo's own
BATCH = 64
Metrics = dict[str, float | int]


def evaluate_demo(recall_cfg: ModelConfig, ranking_cfg: ModelConfig, folder: Path) -> dict[str, Metrics]:
    """Metrics on the demo's own catalogue and on a larger held-out one; `folder` holds vocab.txt and the weights.

    Raises:
        WeightsError: the folder's files are missing or do not fit the settings.
    """
    recall_model = load_recall(_in_folder(recall_cfg, folder))
    table = PoiTable.from_arrow(pq.read_table(folder / "poi_table.parquet"))
    ranking_model = load_ranking(_in_folder(ranking_cfg, folder), table)
    found = {}
    with tempfile.TemporaryDirectory(prefix="aistudio-train-") as tmp:
        for name, seed, images, num_pairs in (
            ("demo_catalogue", DEMO_SEED, 10, 400),
            ("held_out", HELD_OUT_SEED, 20, 4000),
        ):
            info = write_catalogue(Path(tmp) / name, seed, images_per_sight=images, num_pairs=num_pairs)
            found[name] = measure(recall_model, ranking_model, Path(tmp) / name, info)
    return found


def measure(recall_model: Any, ranking_model: Any, folder: Path, info: CatalogueInfo) -> Metrics:
    """Retrieval and pair metrics of one written catalogue.

    hit_rate@K: some image of the sight is among the first K of all whole images, the query being the sight's name.
    """
    failed = {row["image_url"] for row in info.special_rows if row["status"] != "ok"}
    with (folder / info.recall_manifest).open(newline="", encoding="utf-8") as f:
        rows = [(row[0], row[1], row[2]) for row in csv.reader(f) if row[2] not in failed]
    paths = [_local(url) for _, _, url in rows]
    vectors = _encode(recall_model, folder, paths)
    names = {item: name for item, name, _ in rows}
    texts = recall_model.encode_texts(list(names.values()))
    owner = np.array([item for item, _, _ in rows])
    query, rank = [], []
    for number, (item, text) in enumerate(zip(names, texts, strict=True)):
        mine = ranks(vectors @ text)[owner == item]
        query += [number] * len(mine)
        rank += mine.tolist()
    items = relevant(query, rank, len(names))
    result: Metrics = {
        "seed": info.seed,
        "num_sights": len(names),
        "num_images": len(rows),
        "num_pairs": info.num_pairs,
    }
    result |= {f"hit_rate@{k}": float(hit_rate(items, k).mean()) for k in (1, 5, 10)}
    result["recall@10"] = float(recall(items, 10).mean())
    result["chance_hit_rate@5"] = info.chance_hit_rate_at_5
    result |= _measure_pairs(ranking_model, folder, info, dict(zip(paths, vectors, strict=True)))
    best = info.best_possible
    result["best_possible_pairwise_accuracy"] = best.pairwise_accuracy
    result["best_possible_pairwise_accuracy_expected"] = best.pairwise_accuracy_expected
    result["best_possible_roc_auc"] = best.roc_auc
    return result


def _measure_pairs(model: Any, folder: Path, info: CatalogueInfo, vectors: dict[str, np.ndarray]) -> Metrics:
    lines = (folder / info.pairs_manifest).read_text(encoding="utf-8").splitlines()
    fields = [line.split(SEPARATOR) for line in lines]
    titles, poi_names = [f[5] for f in fields], [f[9] for f in fields]
    scores = [model.rank(np.stack([vectors[_local(f[side])] for f in fields]), titles, poi_names) for side in (1, 2)]
    rate_a, rate_b = (np.array([float(f[side]) for f in fields]) for side in (3, 4))
    found = pairs(rate_a, rate_b, *scores)
    return {
        "pairwise_accuracy": float(correct(found).mean()),
        "roc_auc": roc_auc(rate_a > rate_b, scores[0].astype(np.float64) - scores[1]),
    }


def _in_folder(cfg: ModelConfig, folder: Path) -> ModelConfig:
    path = str(folder / Path(cfg.weights.path).name)
    return cfg.model_copy(
        update={"weights": cfg.weights.model_copy(update={"path": path, "sha256": None}), "tokenizer": str(folder)}
    )


def _local(url: str) -> str:
    """Path inside the catalogue's folder of the picture behind an address."""
    path = url.removeprefix(BASE_URL)
    prefix, _, rest = path.partition("/")
    return rest if prefix in (*SERVER_PREFIXES, "original", "gone") else path


def _encode(model: Any, folder: Path, paths: list[str]) -> np.ndarray:
    """(N, dim) unit rows of N whole pictures."""
    settings, parts = ImagesSettings(thumbnail_px=0), []
    for start in range(0, len(paths), BATCH):
        decoded = [
            decode((folder / p).read_bytes(), [model.image_spec], settings) for p in paths[start : start + BATCH]
        ]
        bad = [p for p, d in zip(paths[start:], decoded, strict=False) if not d.pixels]
        assert not bad, f"the catalogue calls these whole: {bad}"
        parts.append(model.encode_images(np.stack([d.pixels[0] for d in decoded])))
    return np.concatenate(parts)
