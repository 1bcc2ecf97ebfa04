"""Task embedder: labels and roles, batches, augmentation, frozen trunks, losses, warnings, refusals."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aistudio.config import load_model_config, load_train_config
from aistudio.errors import ConfigError
from aistudio.jobs.train import main
from aistudio.models import load_model
from aistudio.models.embedder import open_model
from aistudio.store import open_store
from aistudio.training import layout, metric_watch, monitors, programs
from aistudio.training.picture_augment import augmented_batch
from aistudio.training.team import Team
from tests.training import tiny_training as tiny


def train(data: dict[str, Any]) -> dict[str, Any]:
    return programs.train(tiny.parsed(data), Team(), print, "-").record


def exported(record: dict[str, Any], out: str) -> Any:
    return load_model_config(Path(out, "export", f"{record['name']}.yaml"))


def history(out: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with Path(out, layout.HISTORY).open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            found.setdefault(row["name"], []).append(float(row["value"]))
    return found


def test_it_learns_logs_and_exports(tmp_path):
    data = tiny.embedder(tmp_path, epochs=20, optimiser={"learning_rate": 0.02}, validation={"every_epochs": 5})
    record = train(data)
    assert record["best"]["metrics"]["map_at_r"] > 0.8, "three hues are easily told apart"
    assert record["counts"]["labels"]["train"].keys() == {"kind0", "kind1", "kind2"}
    cfg = exported(record, data["output"])
    assert cfg.weights.sha256 and load_model(cfg).encode_images(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 6)
    found = history(data["output"])
    tags = {"train/loss", "train/lr", "train/images_per_s", "train/grad_norm", "embed/variance", "val/map_at_r"}
    tags |= {"triplet/active_share", "triplet/pos_distance", "triplet/neg_distance", "val/cmc@1", "val/recall@10"}
    assert tags <= found.keys()
    card = Path(data["output"], "export/card.md").read_text(encoding="utf-8")
    assert "models.encoders" in card and "map_at_r" in card
    events = list(Path(data["output"], layout.TENSORBOARD).rglob("*"))
    assert any(p.name == "sprite.png" for p in events) and any(p.name == "projector_config.pbtxt" for p in events)
    body = b"".join(p.read_bytes() for p in events if p.name.startswith("events."))
    assert all(tag.encode() in body for tag in ("val/neighbours", "embed/variance", "config"))


@pytest.mark.parametrize(
    ("loss", "tags"),
    [
        ({"name": "triplet", "miner": "hard", "options": {"margin": 0.2}}, {"triplet/mined"}),
        ({"name": "triplet", "miner": "semihard", "options": {"margin": 0.2}, "squared": True}, {"triplet/mined"}),
        ({"name": "NTXentLoss", "options": {"temperature": 0.2}}, set()),
    ],
)
def test_losses_and_miners_by_name(loss, tags, tmp_path):
    data = tiny.embedder(tmp_path, steps=3, epochs=None, loss=loss)
    train(data)
    assert tags <= history(data["output"]).keys()


def pretrained(tmp: Path) -> str:
    """A trained embedder's conf, whose trunk others take over."""
    data = tiny.embedder(tmp, steps=2, epochs=None, output=str(tmp / "trunk"), name="trunk")
    train(data)
    return str(tmp / "trunk/export/trunk.yaml")


def test_a_frozen_trunk_is_computed_once_and_stays(tmp_path):
    trunk = pretrained(tmp_path)
    arch = {"backbone": "small_resnet", "widths": [4, 8], "hidden": [12], "dim": 6, "freeze_trunk": True}
    data = tiny.embedder(tmp_path, arch, trunk_from=trunk, optimiser={"learning_rate": 0.02})
    record = train(data)
    cfg = exported(record, data["output"])
    before, after = open_model(load_model_config(trunk)), open_model(cfg)
    state = after.trunk.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.trunk.state_dict().items())
    assert after.dim == 6 + 8, "trunk and head side by side, where the trunk is frozen"
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    alone = load_model(cfg.model_copy(update={"arch": cfg.arch | {"keep_trunk": False}})).encode_images(images)
    joint = load_model(cfg).encode_images(images)
    np.testing.assert_allclose(joint[:, 8:] * np.sqrt(2), alone, atol=1e-6)
    steps = layout.checkpoint_steps(open_store(data["output"]))
    state = torch.load(Path(data["output"], layout.checkpoint_key(steps[-1])), weights_only=True)
    assert not any(".trunk." in name for name in state["module"])


def test_of_a_joint_vector_the_part_that_learns_chooses_the_step(tmp_path):
    """The frozen trunk's part would drown it: the choice is the one that a head without the trunk's part makes."""
    trunk, found = pretrained(tmp_path), {}
    for name, keep in (("joint", None), ("alone", False)):
        arch = {"widths": [4, 8], "dim": 1, "freeze_trunk": True, "keep_trunk": keep}
        data = tiny.embedder(
            tmp_path, arch, trunk_from=trunk, optimiser={"learning_rate": 0.02}, epochs=8, output=str(tmp_path / name)
        )
        record = train(data)
        found[name] = (record, history(data["output"]))
    joint, joint_history = found["joint"]
    alone, alone_history = found["alone"]
    assert (joint["metric"], alone["metric"]) == ("head_map_at_r", "map_at_r")
    assert joint_history["val/head_map_at_r"] == pytest.approx(alone_history["val/map_at_r"], abs=1e-12)
    assert joint_history["val/map_at_r"] != pytest.approx(joint_history["val/head_map_at_r"], abs=1e-3)
    assert joint["best"]["step"] == alone["best"]["step"]
    assert "val/head_map_at_r" not in alone_history


def test_fine_tuning_changes_the_trunk_at_a_lower_rate(tmp_path):
    trunk = pretrained(tmp_path)
    data = tiny.embedder(tmp_path, trunk_from=trunk, steps=2, epochs=None, freeze_batch_norm=True)
    setup = programs.set_up(tiny.parsed(data), Team(), torch.device("cpu"), print)
    rates = [g["lr"] for g in setup.task.parameter_groups(tiny.parsed(data).optimiser)]
    assert rates == [1e-3, 1e-4]
    before = {n: v.clone() for n, v in setup.task.model.trunk.state_dict().items()}
    record = train(data)
    after = open_model(exported(record, data["output"])).trunk.state_dict()
    assert not torch.equal(before["features.0.0.weight"], after["features.0.0.weight"])
    assert torch.equal(before["features.0.1.running_mean"], after["features.0.1.running_mean"])


def roles_file(tmp: Path, **changes: Any) -> str:
    lines = ["file,role,kind"]
    for path in sorted((tmp / "labelled").rglob("*.png")):
        name = path.relative_to(tmp / "labelled").as_posix()
        number = int(path.stem.split("-")[1])
        role = "dev" if number in (0, 1, 2) else "nobody" if number == 7 else "train"
        lines.append(f"{name},{role},{changes.get(name, name[:5])}")
    (tmp / "roles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(tmp / "roles.csv")


def test_roles_of_a_table_split_and_label(tmp_path):
    data = tiny.embedder(tmp_path, steps=1, epochs=None)
    missing = "kind1/0-4.png"
    data["data"] |= {"roles": {"path": roles_file(tmp_path, **{missing: ""}), "key": "file"}, "label": "kind"}
    data["data"].pop("validation")
    counts = train(data)["counts"]
    assert counts["labels"]["train"] == {"kind0": 4, "kind2": 4, "kind1": 3}
    assert counts["labels"]["validation"] == {"kind0": 3, "kind1": 3, "kind2": 3}
    assert counts["train"]["left_out"] == {"it has no label": 1}
    shape = tiny.parsed(data).shape()
    assert "path" not in shape["data"]["roles"] and shape["task"] == "embedder"


def test_labels_can_be_left_out_and_a_broken_picture_costs_its_row(tmp_path):
    data = tiny.embedder(tmp_path, steps=1, epochs=None)
    data["data"] |= {"labels_left_out": ["kind2"], "validation": {"share": 0.3}}
    broken = Path(tmp_path, "labelled/kind0/0-1.png")
    broken.write_bytes(broken.read_bytes()[:60])
    Path(tmp_path, "labelled/kind1/0-1.png").write_bytes(b"no picture at all")
    counts = train(data)["counts"]
    assert counts["labels"]["train"].keys() == counts["labels"]["validation"].keys() == {"kind0", "kind1"}
    left_out = counts["train"]["left_out"] | counts["validation"]["left_out"]
    assert sum(left_out.values()) == 2 and all("image failed" in reason for reason in left_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"label": None}}, "data.label: name the column"),
        ({"data": {"label": "colour"}}, "column colour is missing; found"),
        ({"data": {"labels_left_out": ["kind0", "kind1"]}}, "have the label 'kind2': of one class"),
        ({"data": {"validation": {"share": 0.01}}}, "data.validation: no two different images of its 1 rows"),
        ({"classes_per_batch": 4}, "classes_per_batch 4: the training rows have 3 labels"),
        ({"micro_batches": 2}, "micro_batches: a batch's images are compared"),
        ({"batch_size": 32}, "batch_size 32: a batch is classes_per_batch x images_per_class = 2 x 3 images"),
        ({"loss": {"name": "tripelt"}}, "loss 'tripelt' is not known; did you mean triplet?"),
        ({"loss": {"miner": "semi_hard"}}, "miner 'semi_hard' is not known; did you mean semihard?"),
        ({"loss": {"name": "supcon", "options": {"temprature": 1}}}, "did you mean temperature?"),
        ({"data": {"roles": {"path": "/nowhere.csv"}}}, "data.roles.path: /nowhere.csv: no such file"),
        ({"augment": {"crop_area": [0.9, 0.5]}}, "crop_area: expected two numbers"),
    ],
)
def test_refusals(changes, message, tmp_path):
    data = tiny.embedder(tmp_path, steps=1, epochs=None)
    changes = dict(changes)
    data["data"] |= changes.pop("data", {})
    with pytest.raises(ConfigError) as e:
        train(data | changes)
    assert message in str(e.value) and not Path(data["output"], "checkpoints").exists()


def test_roles_that_name_nobody_or_somebody_twice_are_refused(tmp_path):
    data = tiny.embedder(tmp_path, steps=1, epochs=None)
    data["data"] |= {"roles": {"path": roles_file(tmp_path), "key": "file"}}
    data["data"].pop("validation")
    text = Path(tmp_path, "roles.csv").read_text(encoding="utf-8")
    Path(tmp_path, "roles.csv").write_text(text.replace("kind", "train/kind"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"names none of the rows .* has train/kind0/0-0.png.*row ids are kind0/0-0"):
        train(data)
    Path(tmp_path, "roles.csv").write_text(text + text.splitlines()[1], encoding="utf-8")
    with pytest.raises(ConfigError, match=r"names kind0/0-0.png twice"):
        train(data)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"freeze_trunk": True}, "would freeze random numbers; name a pretrained embedder"),
        ({"freeze_trunk": True, "dim": None}, "would freeze random numbers"),
    ],
)
def test_frozen_random_numbers_are_refused(arch, message, tmp_path):
    data = tiny.embedder(tmp_path, {"backbone": "small_resnet", "widths": [4, 8], "dim": 6} | arch)
    with pytest.raises(ConfigError, match=message):
        train(data)


def test_augmentation_follows_seed_epoch_and_row_alone():
    stored = np.random.default_rng(0).integers(0, 256, (4, 37, 37, 3), dtype=np.uint8)
    settings = tiny.parsed(tiny_conf({"rotate_degrees": 20, "jitter": {"hue": 0.1}})).augment
    first = augmented_batch(stored, [5, 6, 7, 8], 32, settings, (1, 2))
    torch.manual_seed(99)
    again = augmented_batch(stored[[2, 0]], [7, 5], 32, settings, (1, 2))
    assert first.shape == (4, 32, 32, 3) and first.dtype == torch.uint8
    assert torch.equal(again[0], first[2]) and torch.equal(again[1], first[0])
    for other in ((1, 3), (2, 2)):
        assert not torch.equal(augmented_batch(stored, [5, 6, 7, 8], 32, settings, other), first)
    twice = augmented_batch(stored[[0, 0]], [5, 5], 32, settings, (1, 2))
    assert torch.equal(twice[0], first[0]) and not torch.equal(twice[1], twice[0])
    before = torch.get_rng_state()
    augmented_batch(stored, [1, 2, 3, 4], 32, settings, (0, 0))
    assert torch.equal(before, torch.get_rng_state()), "batches are made in a thread"


def tiny_conf(augment: dict[str, Any]) -> dict[str, Any]:
    data = {"manifest": {"path": "x", "format": "folder"}, "label": "folder"}
    return {"task": "embedder", "model": "m", "output": "o", "steps": 1, "data": data, "augment": augment}


def test_no_augmentation_gives_the_pixels_themselves():
    stored = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    plain = {"crop": False, "mirror": False, "jitter": {"brightness": 0, "contrast": 0, "saturation": 0}}
    settings = tiny.parsed(tiny_conf(plain)).augment
    assert torch.equal(augmented_batch(stored, [0, 1], 32, settings, (0, 0)), torch.from_numpy(stored))


def test_warnings_are_said_logged_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(monitors, "NO_VARIANCE", 10.0)
    monkeypatch.setattr(metric_watch, "VarianceWatch", lambda: monitors.VarianceWatch(patience=2))
    data = tiny.embedder(tmp_path, steps=4, epochs=None)
    record = train(data)
    assert record["warnings"] == [{"kind": "variance", "step": 2}]
    assert "warning, step 2: the vectors of a batch have differed by less than" in capsys.readouterr().err
    assert history(data["output"])["warning/variance"] == [1.0]


def test_a_collapsed_triplet_loss_and_an_empty_miner_are_noticed():
    settings = tiny.parsed(tiny_conf({}) | {"loss": {"name": "triplet", "options": {"margin": 0.2}}}).loss
    watch = metric_watch.MetricWatch(settings, normalise=True)
    equal, labels = torch.ones(4, 3), torch.tensor([0, 0, 1, 1])
    for _ in range(monitors.PATIENCE):
        watch.update(equal, labels, metric_watch.BatchLoss(torch.tensor(0.2), None), detailed=False)
    assert {kind for kind, _ in watch.new_warnings()} == {"collapse", "variance"}
    assert watch.new_warnings() == []
    for _ in range(monitors.PATIENCE):
        numbers = watch.update(equal, labels, metric_watch.BatchLoss(None, 0), detailed=False)
    assert [kind for kind, _ in watch.new_warnings()] == ["mining"]
    assert numbers["triplet/skipped_batches"] == monitors.PATIENCE and numbers["triplet/pos_distance"] == 0


@pytest.mark.parametrize("name", ["clothing_embedder", "clothing_embedder_lite0"])
def test_the_confs_are_those_of_the_task(name, request):
    root = request.config.rootpath
    settings: Any = load_train_config(root / f"conf/train/{name}.yaml")
    assert settings.task == "embedder" and settings.data.roles.train == ["train"]
    assert load_model_config(root / settings.model).family == "embedder"


def test_a_dry_run_tells_labels_and_fetches_nothing(tmp_path, capsys):
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(tiny.embedder(tmp_path)), encoding="utf-8")
    assert main(["--conf", str(conf), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "labels: 3 to train on (kind" in out and "batches of 6 images" in out
    Image.open(next(Path(tmp_path, "labelled/kind0").glob("*.png"))).verify()
