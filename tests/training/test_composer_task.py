"""Task composer: what is learnt from stored vectors, pixels and data sets, and what is left out of it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from aistudio.config import load_model_config, load_train_config
from aistudio.errors import ConfigError
from aistudio.models import load_composer
from aistudio.models._checkpoint import read_weights
from aistudio.schema import score_schema
from aistudio.training import programs
from aistudio.training.composer_pairs import Question, QuestionPairs
from aistudio.training.task import Progress
from aistudio.training.team import Team
from tests.models import test_composers
from tests.training import tiny_training as tiny

CPU = torch.device("cpu")
FAMILIES = ["tirg", "compose_ae", "real_space_concat_ae", "combiner"]
HIT = "given/row+row_removed/hit_rate@1"


def stored(tmp: Path, family: str = "tirg", **changes: Any) -> dict[str, Any]:
    """A training on the vectors of one run, judged on those of another."""
    conf = tiny.composer(tmp, family)
    dim = load_model_config(conf["model"]).towers["base" if family == "combiner" else "image"].arch["dim"]
    for name, seed in (("train", 1), ("val", 2)):
        tiny.write_changes_run(tmp / name, dim, 40, seed=seed)
    conf["data"] = {
        "run": str(tmp / "train"), "vectors": "embedding", "validation": {"run": str(tmp / "val")},
        "cache": str(tmp / "cache"),
    }  # fmt: skip
    pairs = {"pairs": str(tmp / "train/pairs.csv"), "validation_pairs": str(tmp / "val/pairs.csv")}
    return conf | pairs | changes


def train(conf: dict[str, Any]) -> dict[str, Any]:
    return programs.train(tiny.parsed(conf), Team(), lambda text: None, "-").record


def image_only(run: Path, pairs: Path) -> float:
    """Share of the pairs whose target is the picture nearest to the reference."""
    table = pq.read_table(run / "scores").to_pydict()
    vectors, rows = np.stack(table["embedding"]), {name: i for i, name in enumerate(table["row_id"])}
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
    with pairs.open() as f:
        asked = [(rows[row["row_id"]], rows[row["target"]]) for row in csv.DictReader(f)]
    return float(np.mean([cosines[source].argmax() == target for source, target in asked]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_is_learnt_from_stored_vectors(family, tmp_path):
    """Colour is one direction added to each item's own, which any composer can learn, on items never trained on."""
    conf = stored(tmp_path, family, epochs=10, optimiser={"learning_rate": 0.01}, validation={"every_epochs": 10})
    record = train(conf)
    assert record["best"]["metrics"][HIT] > 1.3 * image_only(tmp_path / "val", tmp_path / "val/pairs.csv")
    assert record["counts"]["pairs"] == {"train": 240, "validation": 240, "left_out": {"train": {}, "validation": {}}}
    cfg = load_model_config(f"{conf['output']}/export/tiny_{family}.yaml")
    model: Any = load_composer(cfg)
    composed = model.compose(np.eye(model.dim, dtype=np.float32)[:2], ["now red", "now blue"])
    assert composed.shape == (2, model.dim) and np.isfinite(composed).all()
    tensors, words = read_weights(cfg.weights.path)
    scale = tensors["logit_scale" if family == "combiner" else "normalization_layer.norm_s"]
    assert torch.isfinite(scale).all() and float(scale) not in (4.0, 100.0), "the scale is learnt and kept in the file"
    assert words == (None if family == "combiner" else ["<UNK>", "now", "blue", "green", "red"])
    card = Path(conf["output"], "export/card.md").read_text()
    assert "models.encoders.compose=" in card and "Pairs: 240 for training" in card


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path):
    conf = stored(tmp_path, epochs=1)
    dim = load_model_config(conf["model"]).arch["dim"]
    zero = lambda item, name: np.zeros(dim, np.float32) if (item, name) == (0, "red") else np.ones(dim, np.float32)  # noqa: E731
    tiny.write_changes_run(tmp_path / "train", dim, 10, seed=1, embedding=zero)
    with Path(conf["pairs"]).open("a", newline="") as f:
        csv.writer(f).writerows([["1-1-red", "?!", "1-1-blue"], ["1-1-red", "", "1-1-blue"], ["no", "now", "1-1-red"]])
        csv.writer(f).writerows([["1-1-red", "now", "no"], ["1-1-red", "far too many fields", "x", "y"]])
    record = train(conf)
    assert record["counts"]["pairs"]["train"] == 60 - 4, "two of and two to the picture whose vector has no direction"
    assert record["counts"]["pairs"]["left_out"]["train"] == {
        "its reference is not among the usable pictures": 3,
        "its target is not among the usable pictures": 3,
        "the text has no word (of ASCII letters or digits)": 2,
        "line 66": 1,
    }


def test_settings_that_do_not_fit_are_told(tmp_path):
    conf = stored(tmp_path, pairs=None)
    with pytest.raises(ConfigError, match="pairs is missing: expected a table"):
        train(conf)
    with pytest.raises(ConfigError, match="has no image encoder of its own; set train: composer"):
        train(stored(tmp_path, train="image_tower"))
    with pytest.raises(ConfigError, match="leave a batch of one pair"):
        train(stored(tmp_path, batch_size=10, micro_batches=4))
    with pytest.raises(ConfigError, match="task composer trains the families tirg, compose_ae"):
        train(stored(tmp_path, model=tiny.write_model(tmp_path / "align", "align")[0]))
    own = test_composers.config(tmp_path, "tirg").model_dump(mode="json", exclude_defaults=True)
    Path(tmp_path, "own.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(ConfigError, match="would stay random"):
        train(stored(tmp_path, model=str(tmp_path / "own.yaml")))


def test_the_image_encoder_is_tuned_on_pixels(tmp_path):
    """A small composer with an encoder of its own: rates by group, both passes, one update, an export that opens."""
    cfg = test_composers.saved(tmp_path, "compose_ae")
    conf = tmp_path / "own.yaml"
    conf.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True)))
    manifest = tiny.write_pictures(tmp_path / "pictures", num_items=4, per_item=3)
    rows = list(csv.DictReader(Path(manifest).read_text().splitlines()))
    of = lambda item: [row["image_url"] for row in rows if row["item_id"] == item]  # noqa: E731
    table = tmp_path / "pairs.jsonl"
    lines = [
        {"image_url": url, "text": "red dress", "target": of(f"i{(i + 1) % 4}")[0]}
        for i in range(4)
        for url in of(f"i{i}")
    ]
    table.write_text("\n".join(map(json.dumps, lines)))
    source = {"path": manifest, "format": "csv"}
    data = {"manifest": source, "validation": {"manifest": source}, "overlap": "same_items"}
    settings = {
        "task": "composer", "model": str(conf), "train": "image_tower", "output": str(tmp_path / "out"), "epochs": 1,
        "batch_size": 4, "device": "cpu", "threads": 1, "pairs": str(table), "loss": {"base": "soft_triplet"},
        "data": data | {"cache": str(tmp_path / "cache")},
        "optimiser": {"name": "sgd", "learning_rate": 0.01, "weight_decay": 5e-5, "clip_norm": None},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no pair is left"):  # the same pictures on both sides are no training data
        train(settings)
    judged = tiny.write_pictures(tmp_path / "judged", num_items=4, per_item=3, seed=7)
    asked = tmp_path / "asked.jsonl"
    asked.write_text(table.read_text().replace(str(tmp_path / "pictures"), str(tmp_path / "judged")))
    settings |= {"validation_pairs": str(asked)}
    settings["data"]["validation"] = {"manifest": {"path": judged, "format": "csv"}}
    task = programs.set_up(tiny.parsed(settings), Team(), CPU, lambda text: None).task
    groups = {group["name"]: group["lr"] for group in task.parameter_groups(tiny.parsed(settings).optimiser)}
    assert groups == pytest.approx({"fc": 0.01, "image": 0.001, "rest": 0.01})
    task.train_mode()
    before = task.module.img_model.bn1.num_batches_tracked.item()
    out = task.loss(task.load(range(4), 0), Progress(0, 1))
    out.loss.backward()
    assert task.module.img_model.bn1.num_batches_tracked.item() == before + 2, (
        "source and target are passes of their own"
    )
    assert task.module.img_model.conv1.weight.grad.abs().max() > 0
    record = train(settings)
    assert record["steps"] == 3 and 0 <= record["best"]["metrics"][HIT] <= 1
    model: Any = load_composer(load_model_config(f"{settings['output']}/export/tiny_compose_ae.yaml"))
    assert model.compose(np.ones((1, model.dim), np.float32), ["red dress"]).shape == (1, model.dim)


def test_an_epoch_follows_from_seed_and_number():
    pairs = QuestionPairs([Question(i, ("a", "b"), (10 + i, 20 + i)) for i in range(9)])
    first, again, next_one = pairs.epoch(3, 0), pairs.epoch(3, 0), pairs.epoch(3, 1)
    assert sorted(first.source.tolist()) == sorted(next_one.source.tolist()) == list(range(9))
    assert first.source.tolist() == again.source.tolist() != next_one.source.tolist() and first.texts == again.texts
    assert set((first.target - first.source).tolist()) == {10, 20} and set(first.texts) == {"a", "b"}


STATES = ("ripe", "sliced", "old")


def mit_states_run(folder: Path, root: Path, nouns: tuple[str, ...], dim: int) -> None:
    """A run that holds the pictures of these nouns: a direction for the noun plus one for the state."""
    rng = np.random.default_rng(1)
    states = {state: np.random.default_rng(n).normal(size=dim) for n, state in enumerate(STATES)}
    rows = []
    for noun in nouns:
        own = rng.normal(size=dim)
        for state in STATES:
            for number in range(3):
                path = f"images/{state} {noun}/{number}.jpg"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"never read")
                vector = own + states[state] + 0.1 * rng.normal(size=dim)
                row = {"row_id": path, "item_id": f"{state} {noun}", "image_url": f"{root}/{path}", "status": "ok"}
                rows.append(row | {"embedding": vector.astype(np.float32), "content_hash": path, "text": ""})
    store = tiny.write_changes_run(folder, dim)
    store.write_table("scores/00000.parquet", pa.Table.from_pylist(rows, schema=score_schema([], {"embedding": dim})))


@pytest.mark.parametrize("text", ["modification", "complete"])
def test_a_data_set_is_trained_on_the_runs_that_hold_its_pictures(text, tmp_path):
    """MIT-States: pairs drawn as published, judged on the test nouns under the protocol's name."""
    conf, root = tiny.composer(tmp_path), tmp_path / "data"
    dim = load_model_config(conf["model"]).arch["dim"]
    mit_states_run(tmp_path / "train", root, ("car", "dog", "door", "egg"), dim)
    mit_states_run(tmp_path / "test", root, ("tomato", "potato"), dim)
    (root / "images/ripe door/0.jpg").unlink()
    conf |= {"pairs": f"mitstates:{root}", "text": text, "epochs": 3, "validation": {"every_epochs": 3}}
    conf["data"] = {
        "run": str(tmp_path / "train"),
        "vectors": "embedding",
        "validation": {"run": str(tmp_path / "test")},
    }
    conf["data"]["cache"] = str(tmp_path / "cache")
    record = train(conf)
    assert record["counts"]["pairs"] == {
        "train": 4 * 9 - 1, "validation": 2 * 9 * 2, "left_out": {"train": {}, "validation": {}}
    }  # fmt: skip
    assert f"caption/pooled+query_removed+{text}/hit_rate@10" in record["best"]["metrics"]
    task = programs.set_up(tiny.parsed(conf | {"output": str(tmp_path / "o")}), Team(), CPU, lambda text: None).task
    first = task.data.pairs.epoch(0, 0)
    named = [[name.split("/")[1].split() for name in task.data.train.readable(side, "row_id")] for side in first[:2]]
    assert all(source[1] == target[1] for source, target in zip(*named, strict=True)), "the noun stays"
    said = [" ".join(target) if text == "complete" else target[0] for target in named[1]]
    assert said == first.texts
    assert all(a == b for a, b in zip(first.source[:-1:2], first.source[1::2], strict=True)), "two share a source"
    assert set(task.trainable.vocabulary.words) == {"<UNK>", *STATES, "car", "dog", "door", "egg"}


PUBLISHED = {
    "mitstates_tirg": ("soft_triplet", 160_000, 50_000, 5e-5, "modification"),
    "mitstates_tirg_bert": ("soft_triplet", 160_000, 50_000, 5e-5, "modification"),
    "mitstates_tirg_complete_text": ("soft_triplet", 160_000, 50_000, 5e-5, "complete"),
    "fashion200k_compose_ae": ("batch_based_classification", 160_000, 50_000, 5e-5, "complete"),
    "fashioniq_real_space_concat_ae": ("batch_based_classification", 100_000, 8_000, 1e-6, "modification"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_commands_are_confs(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    found: Any = load_train_config(f"conf/train/{name}.yaml")
    loss, steps, every, decay, text = PUBLISHED[name]
    assert (found.loss.base, found.steps, found.schedule.decay_every_steps, found.text) == (loss, steps, every, text)
    rates = found.optimiser
    assert (rates.name, rates.learning_rate, rates.tower_factor, rates.weight_decay) == ("sgd", 0.01, 0.1, decay)
    assert (rates.momentum, rates.clip_norm, found.batch_size, found.schedule.warmup_share) == (0.9, None, 32, 0)
    assert found.loss.as_published and not found.augment.crop and not found.augment.mirror
    lstm = name in ("mitstates_tirg", "mitstates_tirg_complete_text")
    assert load_model_config(found.model).arch == {"dim": 512} | (
        {"text_dim": 512, "text": "lstm"} if lstm else {"text_dim": 768, "text": "bert"}
    )
