"""What a training refuses: one message each, with its exit code, and nothing lost."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aistudio import _backends
from aistudio.config import parse_train_config
from aistudio.errors import AIStudioError, ConfigError, StoreError
from aistudio.jobs.train import main
from aistudio.runs import layout as run_layout
from aistudio.store import Store, open_store
from aistudio.training import layout, programs
from aistudio.training.ranking_task import RankingTask
from aistudio.training.task import StepLoss
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

DIM = 12


def train(data: dict[str, Any]) -> programs.Finished:
    return programs.train(tiny.parsed(data), Team(), print, "-")


def with_run(tmp: Path, **changes: Any) -> dict[str, Any]:
    """A ranking training whose training run has other rows than usual."""
    tiny.write_model(tmp / "model", "siamese_poi")
    tiny.write_pairs_run(tmp / "train_run", DIM, 60, seed=1, **changes)
    tiny.write_pairs_run(tmp / "val_run", DIM, 30, seed=2)
    return tiny.ranking(tmp, epochs=1)


NAN = np.full(DIM, np.nan, np.float32)
RUNS = {
    "no pairs": ({"pair_id": None}, "data: no pairs are left: 120 because the row belongs to no pair"),
    "one side": ({"side": "a"}, "60 because a side is missing, double, failed or neither a nor b"),
    "ties": ({"ctr": 0.5}, "60 because both click rates are equal"),
    "no rates": ({"ctr": None}, "60 because the CTR is not a number"),
    "one class": ({"ctr": lambda p, s: 0.4 if s == "b" else 0.6}, "side a was clicked more often: labels of one class"),
    "failed": ({"status": "timeout"}, "data: no rows are left: 120 because the image failed: timeout"),
    "no vectors": ({"embedding": None}, "120 because no vector is stored"),
    "not finite": ({"embedding": NAN}, "120 because the stored vector is not finite"),
    "most failed": ({"status": lambda p, s: "timeout" if p % 4 else "ok"}, "90 of 120 rows cannot be used"),
}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_rows_that_cannot_be_trained_on(name, tmp_path):
    changes, message = RUNS[name]
    with pytest.raises(ConfigError) as e:
        train(with_run(tmp_path, **changes))
    assert message in str(e.value) and e.value.exit_code == 2
    assert not Path(tmp_path, "out", "checkpoints").exists()


def test_some_bad_rows_are_left_out_with_a_count(tmp_path):
    bad = {"embedding": lambda p, s: NAN if p == 3 else np.ones(DIM, np.float32) * (p + (s == "a"))}
    setup = programs.set_up(tiny.parsed(with_run(tmp_path, **bad)), Team(), torch.device("cpu"), print)
    assert setup.counts["train"]["left_out"] == {"the stored vector is not finite": 2}
    assert setup.counts["pairs"]["train"] == 59


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.vectors": "embedding_look"}, "column embedding_look is missing; found row_id"),
        ({"data.vectors": None}, "no stored vectors are known to come from the image tower"),
        ({"data.validation": {"run": None, "share": 1e-9}}, "data.validation: no rows are left"),
        ({"poi_table": "/no/table.parquet"}, "set poi_table: build"),
        ({"init": "weights", "towers_from": "conf/models/clip_vit_b32.yaml"}, "of family hf_dual, expected align"),
    ],
)
def test_settings_that_do_not_fit(change, message, tmp_path, monkeypatch):
    data = with_run(tmp_path)
    for key, value in change.items():
        *parents, last = key.split(".")
        node = data
        for parent in parents:
            node = node[parent]
        node[last] = value
    monkeypatch.setattr("aistudio.training.ranking_setup.model_here", lambda conf, *_: _cfg(conf))
    with pytest.raises(AIStudioError) as e:
        train(data)
    assert message in str(e.value) and e.value.exit_code == 2


def _cfg(conf: str) -> Any:
    from aistudio.config import load_model_config

    return load_model_config(conf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "rank"}, "task: expected one of ranking, recall"),
        ({"epochs": None}, "say how long: either steps or epochs"),
        ({"steps": 3}, "say how long: either steps or epochs"),
        ({"data": {"run": "r", "drawn": {}}}, "name exactly one of run, manifest, drawn; found 2"),
        ({"schedule": {"kind": "step"}}, "decay_every_steps goes with kind: step"),
        ({"optimizer": {}}, "optimizer is not a setting; did you mean optimiser?"),
        ({"workers": {"num_workers": 0}}, "expected 1 or more, or auto"),
    ],
)
def test_wrong_settings(change, message):
    base = {"task": "ranking", "model": "m.yaml", "output": "o", "epochs": 1, "data": {"run": "r"}}
    with pytest.raises(ConfigError) as e:
        parse_train_config(base | change, "x.yaml")
    assert message in str(e.value)


def test_weights_of_another_architecture(tmp_path):
    import safetensors.torch

    data = with_run(tmp_path)
    path = tmp_path / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({n: t for n, t in tensors.items() if n != "linear3.weight"}, path)
    with pytest.raises(AIStudioError, match=r"not weights of this model\n.*linear3\.weight") as e:
        train(data)
    assert e.value.exit_code == 2


def test_overlap_is_refused_or_removed_and_counted(tmp_path):
    data = with_run(tmp_path, content_hash=lambda p, s: f"2/{p}{s}" if p < 2 else f"1/{p}{s}")
    with pytest.raises(ConfigError, match="0 items and 4 images are in the training data too"):
        train(data)
    data["data"]["overlap"] = "remove"
    setup = programs.set_up(tiny.parsed(data), Team(), torch.device("cpu"), print)
    assert setup.counts["overlap"] == {"items": 0, "images": 4, "rows_removed": 4}
    assert setup.counts["pairs"]["train"] == 58


def test_a_split_never_tears_an_item(tmp_path):
    data = with_run(tmp_path)
    data["data"]["validation"] = {"share": 0.4}
    task = programs.set_up(tiny.parsed(data), Team(), torch.device("cpu"), print).task
    mine, theirs = (set(d.readable(np.arange(len(d)), "item_id")) for d in (task.data.train, task.data.validation))
    assert mine and theirs and not mine & theirs and len(mine | theirs) == 30


def test_a_loss_that_is_not_finite_names_step_and_rows_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    data = with_run(tmp_path) | {"checkpoint_every_steps": 1}
    loss, seen = RankingTask.loss, []

    def broken(self: RankingTask, batch: Any, progress: Any) -> StepLoss:
        out = loss(self, batch, progress)
        seen.append(1)
        if len(seen) < 4:
            return out
        assert out.each is not None
        each = out.each.clone()
        each[1] = torch.nan
        return StepLoss(out.loss * torch.nan, {}, each)

    monkeypatch.setattr(RankingTask, "loss", broken)
    with pytest.raises(AIStudioError, match=r"step 4: loss is nan, on pair \(\d+:a, \d+:b\); stopped") as e:
        train(data)
    assert e.value.exit_code == 1
    assert layout.checkpoint_steps(open_store(data["output"])) == [2, 3]
    monkeypatch.setattr(RankingTask, "loss", loss)
    assert train(data).record["state"] == "finished"


def test_a_rate_that_is_far_too_high_stops_with_a_message(tmp_path):
    data = with_run(tmp_path) | {
        "optimiser": {"name": "sgd", "learning_rate": 1e30, "clip_norm": None}, "schedule": {"warmup_share": 0.0}
    }  # fmt: skip
    with pytest.raises(AIStudioError, match="stopped, and the last good checkpoint stays"):
        train(data)


def test_a_full_disk_is_one_message_and_the_training_goes_on_later(tmp_path, monkeypatch):
    data = with_run(tmp_path) | {"checkpoint_every_steps": 2}
    publish, seen = _backends._publish, []

    def full(temporary: Path, path: Path, overwrite: bool) -> bool:
        seen.append(path.suffix == ".pt")
        if sum(seen) == 2 and path.suffix == ".pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        return publish(temporary, path, overwrite)

    monkeypatch.setattr(_backends, "_publish", full)
    with pytest.raises(StoreError, match="no space left on the disk; what was stored stays valid"):
        train(data)
    assert layout.checkpoint_steps(open_store(data["output"])) == [2]
    monkeypatch.setattr(_backends, "_publish", publish)
    assert train(data).record["state"] == "finished"


def test_an_output_that_cannot_be_written_is_found_first(tmp_path):
    (tmp_path / "file").write_text("x")
    data = tiny.ranking(tmp_path, output=str(tmp_path / "file" / "out"))
    with pytest.raises(AIStudioError) as e:
        train(data)
    assert e.value.exit_code == 2 and str(e.value).startswith("output: ")


def test_damaged_cache_is_said_and_not_trained_on(tmp_path):
    data = with_run(tmp_path)
    programs.set_up(tiny.parsed(data), Team(), torch.device("cpu"), print).cache.close()
    for path in Path(data["data"]["cache"]).glob("*/vectors-00000.bin"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match="damaged"):
        train(data)


def test_the_dry_run_says_what_there_is_and_stores_nothing(tmp_path, capsys):
    import yaml

    conf = tmp_path / "x.yaml"
    data = with_run(tmp_path, ctr=lambda p, s: 0.5 if p == 0 else (0.4 if (s == "a") == (p % 2 == 0) else 0.6))
    conf.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert main(["--conf", str(conf), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "train: 120 rows, 30 items, 120 images" in out and "pairs: 59 to train on, 30 to judge by" in out
    assert "1 because both click rates are equal" in out and "7 batches of 8 pairs an epoch, 7 updates in all" in out
    assert "overlap of training and validation: 0 items, 0 images" in out and "minutes of updates" in out
    assert not [e.key for e in Store(data["output"], tiny.parsed(data).store).list("")]
    assert run_layout.RUN  # the run itself is only read
