"""An exported model through `jobs.score` gives the training's own validation metric."""

import numpy as np
import pytest
import torch
from PIL import Image

from aistudio.evaluation.aggregate import aggregate
from aistudio.store import open_store
from aistudio.training import programs
from aistudio.training.team import Team
from tests.score_here import finished_here
from tests.training import tiny_training as tiny


def pairs_manifest(folder, num_pairs: int, seed: int) -> str:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = ["item_id,image_url,text,poi_names,pair_id,side,ctr"]
    for pair in range(num_pairs):
        for side in "ab":
            path = folder / f"{pair}{side}.png"
            Image.fromarray(rng.integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(path)
            lines.append(
                f"i{seed}-{pair},{path},west lake {pair % 5},{'ab' if pair % 2 else ''},{pair},{side},{rng.random()}"
            )
    manifest = folder / "pairs.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(manifest)


@pytest.mark.parametrize("train", ["head", "image_tower"])
def test_a_ranking_model(train, tmp_path, make_config, tiny_models, local_ray):
    config = {}
    for name, seed in (("train", 1), ("val", 2)):
        manifest = pairs_manifest(tmp_path / name, 16, seed)
        config[name] = make_config(manifest, output=str(tmp_path / f"run_{name}"), engine={"shard_rows": 64})
        if train == "head":
            finished_here(config[name])
    columns = {c: c for c in ("item_id", "image_url", "text", "poi_names")}
    source = {
        n: {"manifest": {"path": str(tmp_path / n / "pairs.csv"), "format": "csv", "columns": columns}} for n in config
    }
    if train == "head":
        source = {n: {"run": str(tmp_path / f"run_{n}")} for n in config}
    settings = tiny.parsed(
        {
            "task": "ranking", "model": tiny_models["ranking"], "train": train, "output": str(tmp_path / "out"),
            "data": source["train"] | {"validation": source["val"], "cache": str(tmp_path / "cache")}, "steps": 4,
            "batch_size": 8, "poi_table": "build", "optimiser": {"learning_rate": 0.01, "tower_factor": 1.0},
            "name": "mine", "device": "cpu",
        }
    )  # fmt: skip
    found = programs.train(settings, Team(), print, "-").record["best"]["metrics"]
    export = tmp_path / "out" / "export"
    models = {"ranking": str(export / "mine.yaml"), "poi_table": str(export / "poi_table.parquet")}
    judged = make_config(
        tmp_path / "val" / "pairs.csv", output=str(tmp_path / "judged"), engine={"shard_rows": 5},
        models=models, metrics={"bootstrap_samples": 0},
    )  # fmt: skip
    finished_here(judged)
    metrics = aggregate(open_store(judged.output), judged.metrics)["metrics"]
    for name in ("pairwise_accuracy", "roc_auc", "log_loss"):
        assert metrics[name]["value"] == pytest.approx(found[name], abs=1e-6), name
    assert torch.tensor(found["log_loss"]).isfinite()


def test_a_recall_model(tmp_path, make_config, local_ray):
    data = tiny.recall(tmp_path, epochs=2, k=[1, 3])
    manifest, held_out = tiny.write_pictures(tmp_path / "p"), tiny.write_pictures(tmp_path / "q", 5, 3, seed=4)
    columns = {c: c for c in ("item_id", "image_url", "text")}
    source = {"path": manifest, "format": "csv", "columns": columns}
    data["data"] |= {
        "manifest": source, "validation": {"manifest": source | {"path": held_out}}, "overlap": "same_items",
    }  # fmt: skip
    found = programs.train(tiny.parsed(data), Team(), print, "-").record
    conf = str(tmp_path / "out" / "export" / f"{found['name']}.yaml")
    judged = make_config(
        held_out, output=str(tmp_path / "judged"), models={"recall": conf, "ranking": None},
        metrics={"k": [1, 3], "bootstrap_samples": 0},
    )  # fmt: skip
    finished_here(judged)
    metrics = aggregate(open_store(judged.output), judged.metrics)["metrics"]
    for name in ("hit_rate@1", "hit_rate@3", "mrr", "map"):
        assert metrics[name]["value"] == pytest.approx(found["best"]["metrics"][name], abs=1e-6), name


@pytest.mark.parametrize("task", ["embedder", "vae"])
def test_models_of_alike_images(task, tmp_path, make_config, local_ray):
    """Item is the folder, so `query: image` asks for images of the same label."""
    data = getattr(tiny, task)(tmp_path, epochs=2, k=[1, 3])
    held_out = tiny.write_labelled(tmp_path / "held_out", 3, 5, seed=4)
    manifest = data["data"]["manifest"]
    data["data"]["validation"] = {"manifest": manifest | {"path": held_out}}
    found = programs.train(tiny.parsed(data), Team(), print, "-").record
    conf = str(tmp_path / "out" / "export" / f"{found['name']}.yaml")
    judged = make_config(
        held_out, format="folder", output=str(tmp_path / "judged"),
        models={"recall": None, "ranking": None, "encoders": {"look": conf}},
        metrics={"k": [1, 3], "bootstrap_samples": 0, "query": "image", "encoder": "look"},
    )  # fmt: skip
    finished_here(judged)
    metrics = aggregate(open_store(judged.output), judged.metrics)["metrics"]
    for name in ("cmc@1", "cmc@3", "recall@3", "precision@3", "map", "mrr", "r_precision"):
        assert metrics[name]["value"] == pytest.approx(found["best"]["metrics"][name], abs=1e-6), name
