"""The whole recipe in miniature: it runs, its files load, and the same seed gives the same weights."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch

from aistudio.config import load_model_config
from aistudio.demo.catalogue import write_catalogue
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import load_model, load_ranking
from aistudio.poi_table import PoiTable
from aistudio.training.card import update_metrics, write_card, write_metrics
from aistudio.training.demo_weights import Recipe, train_demo
from aistudio.training.evaluate import _in_folder, measure
from aistudio.training.ranking import RankingRecipe
from aistudio.training.recall import RecallRecipe

CONFS = ("conf/models/demo_recall.yaml", "conf/models/demo_ranking.yaml")
TINY = Recipe(
    recall_images=4,
    ranking_images=4,
    num_sights=4,
    workers=1,
    recall=RecallRecipe(steps=2, sights_per_batch=3, images_per_sight=2, log_every=1),
    ranking=RankingRecipe(steps=2, pairs_per_batch=8, log_every=1),
)


def _configs(request):
    return [load_model_config(request.config.rootpath / path) for path in CONFS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out, lines = tmp_path_factory.mktemp("weights"), []
    losses = train_demo(*_configs(request), out, TINY, lines.append)
    yield out, losses, lines
    torch.set_num_threads(threads)


def test_losses_are_finite_and_progress_is_told(trained):
    _, losses, lines = trained
    assert math.isfinite(losses["recall_loss"]) and math.isfinite(losses["ranking_loss"])
    assert any("recall step 2/2" in line and "images/s" in line for line in lines)


def test_files_load_and_share_their_image_tower(trained, request):
    out, _, _ = trained
    recall_cfg, ranking_cfg = (_in_folder(cfg, out) for cfg in _configs(request))
    table = PoiTable.from_arrow(pq.read_table(out / "poi_table.parquet"))
    recall, ranking = load_model(recall_cfg), load_ranking(ranking_cfg, table)
    assert recall.image_tower_fingerprint == ranking.image_tower_fingerprint
    assert len(table.pictures) == len(table.names) == 4 * 3
    info = write_catalogue(out / "catalogue", seed=9, num_sights=4, images_per_sight=3, num_pairs=5)
    found = measure(recall, ranking, out / "catalogue", info)
    assert 0 <= found["hit_rate@1"] <= found["hit_rate@5"] <= 1 and 0 <= found["pairwise_accuracy"] <= 1
    assert (found["num_images"], found["num_pairs"]) == (info.num_images, 5)


def test_metrics_and_card_name_the_files(trained):
    out, losses, _ = trained
    metrics = {"demo_catalogue": {"seed": 1, "hit_rate@5": 0.5}, "held_out": {"seed": 2, "hit_rate@5": 0.75}}
    write_metrics(out, TINY, metrics, losses)
    update_metrics(out, {"held_out": {"seed": 2, "hit_rate@5": 0.25}})
    facts = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert facts["training"] == losses and facts["recipe"]["recall"]["steps"] == 2
    write_card(out)
    card = (out / "model_card.md").read_text(encoding="utf-8")
    assert "| hit_rate@5 | 0.500 | 0.250 |" in card and "recall.safetensors" in card and "{" not in card


def test_measuring_other_files_than_recorded_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        update_metrics(tmp_path, {})
    (tmp_path / "vocab.txt").write_text("other")
    (tmp_path / "metrics.json").write_text('{"files": {"vocab.txt": {"size_bytes": 1, "sha256": "0"}}}')
    with pytest.raises(WeightsError, match="not the file"):
        update_metrics(tmp_path, {})


def test_same_seed_same_weights(trained, tmp_path, request):
    out, _, _ = trained
    train_demo(*_configs(request), tmp_path, TINY, lambda line: None)
    for name in ("recall.safetensors", "ranking.safetensors"):
        a, b = safetensors.numpy.load_file(out / name), safetensors.numpy.load_file(tmp_path / name)
        assert a.keys() == b.keys()
        assert all(np.allclose(a[key], b[key], atol=1e-6) for key in a)


def test_confs_that_disagree_are_refused(tmp_path, request):
    recall, ranking = _configs(request)
    other = ranking.model_copy(update={"arch": {**ranking.arch, "dim": 64}})
    with pytest.raises(ConfigError, match="towers of demo_recall"):
        train_demo(recall, other, tmp_path, TINY)
    arches = [{**c.arch, "text": {**c.arch["text"], "vocab_size": 99}} for c in (recall, ranking)]
    wrong = [c.model_copy(update={"arch": a}) for c, a in zip((recall, ranking), arches, strict=True)]
    with pytest.raises(ConfigError, match="vocab_size is 99"):
        train_demo(*wrong, tmp_path, TINY)
