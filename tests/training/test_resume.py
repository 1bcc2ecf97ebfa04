"""A training that is killed and typed again ends with the same weights, bit for bit, on one CPU thread."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from aistudio.errors import FencedError, RunMismatchError
from aistudio.runs.attempts import claim_attempt
from aistudio.store import open_store
from aistudio.training import layout, programs
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

ROOT = Path(__file__).resolve().parents[2]
CONFS = {
    "ranking": lambda tmp, **changes: tiny.ranking(tmp, **({"epochs": 6, "vector_dropout": 0.2} | changes)),
    "recall": lambda tmp, **changes: tiny.recall(tmp, **({"epochs": 6, "click_weight": 0.5} | changes)),
}
SLOW = {"every_epochs": 3}

# Runs the job and kills itself, as kill -9 does, in the N-th commit of a checkpoint: before, in or after the write.
KILLER = """
import os, signal, sys
from aistudio.training import checkpoints
from aistudio.store import Store
number, moment, conf = int(sys.argv[1]), sys.argv[2], sys.argv[3]
commit, write, seen = checkpoints.Checkpoints.commit, Store.write_bytes, [0, False]
def counted(self, step, state, best):
    seen[0] += 1
    seen[1] = seen[0] == number
    commit(self, step, state, best)
def killing(self, key, data, **kw):
    now = seen[1] and key.startswith("checkpoints/")
    if now and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if now and moment == "half":
        path = self._backend.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("." + path.name + ".x.tmp").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    done = write(self, key, data, **kw)
    if now and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
checkpoints.Checkpoints.commit, Store.write_bytes = counted, killing
from aistudio.jobs.cli import main
main(["train", "--conf", conf])
"""


def job(conf: Path, *killer: str) -> subprocess.CompletedProcess[str]:
    command = ["-c", KILLER, *killer, str(conf)] if killer else ["-m", "jobs.train", "--conf", str(conf)]
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=200)


def weights(out: str) -> dict[str, torch.Tensor]:
    [path] = Path(out, "export").glob("*.safetensors")
    return safetensors.torch.load_file(path)


@pytest.mark.parametrize("task", sorted(CONFS))
def test_killed_and_typed_again_gives_the_same_weights(task, tmp_path):
    straight = CONFS[task](tmp_path, validation=SLOW)
    programs.train(tiny.parsed(straight), Team(), print, "-")
    killed = straight | {"output": str(tmp_path / "killed"), "checkpoint_every_steps": 2}
    straight_again = straight | {"output": str(tmp_path / "straight"), "checkpoint_every_steps": 2}
    programs.train(tiny.parsed(straight_again), Team(), print, "-")
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(killed), encoding="utf-8")
    for moment in ("half", "after"):
        assert job(conf, "2", moment).returncode == -signal.SIGKILL
    found = job(conf)
    assert found.returncode == 0, found.stderr
    assert "going on after step" in found.stderr
    mine, theirs, plain = (weights(c["output"]) for c in (killed, straight_again, straight))
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.equal(mine[name], theirs[name]), name
        assert torch.equal(mine[name], plain[name]), name  # nor does it matter how often a checkpoint is committed
    again = job(conf)
    assert again.returncode == 0 and "finished already" in again.stdout


def test_a_change_of_settings_is_refused_by_name(tmp_path):
    data = tiny.ranking(tmp_path, epochs=1)
    programs.train(tiny.parsed(data), Team(), print, "-")
    changed = tiny.parsed(data | {"optimiser": {"learning_rate": 0.5}, "seed": 3})
    with pytest.raises(RunMismatchError, match=r"optimiser: .*\n  seed: .*choose another output") as e:
        programs.train(changed, Team(), print, "-")
    assert e.value.exit_code == 2
    moved = tiny.parsed(data | {"threads": 2, "log_every_steps": 7, "data": data["data"] | {"cache_max_gb": 1.0}})
    assert programs.train(moved, Team(), print, "-").was_finished


def test_other_data_under_the_same_settings_is_refused(tmp_path):
    data = tiny.ranking(tmp_path, epochs=2, checkpoint_every_steps=1)
    programs.train(tiny.parsed(data), Team(), print, "-")
    record = open_store(data["output"]).read_json(layout.TRAIN)
    open_store(data["output"]).write_json(layout.TRAIN, record | {"state": "running"})
    tiny.write_pairs_run(tmp_path / "train_run", 12, 61, seed=5)
    with pytest.raises(RunMismatchError, match=r"content\.train"):
        programs.train(tiny.parsed(data), Team(), print, "-")


def commits(store, attempt=1, steps=range(1, 6), best=2) -> Checkpoints:
    checkpoints = Checkpoints(store, attempt, "f")
    for step in steps:
        checkpoints.commit(step, {"step": step, "module": {"w": torch.full((3,), float(step))}}, best)
    return checkpoints


def test_the_last_two_and_the_best_are_kept(tmp_path):
    store = open_store(str(tmp_path))
    claim_attempt(store)
    checkpoints = commits(store)
    assert layout.checkpoint_steps(store) == [2, 4, 5]
    assert checkpoints.newest()[0] == 5


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(tmp_path):
    store = open_store(str(tmp_path))
    claim_attempt(store)
    checkpoints = commits(store)
    path = tmp_path / layout.checkpoint_key(5)
    path.write_bytes(path.read_bytes()[:100])
    step, state = checkpoints.newest()
    assert step == 4 and state["module"]["w"].tolist() == [4.0] * 3
    assert 5 not in layout.checkpoint_steps(store), "it would win over the good one that is committed again"


def test_an_older_attempt_may_not_commit(tmp_path):
    store = open_store(str(tmp_path))
    first = claim_attempt(store)
    old = commits(store, first, range(1, 3))
    claim_attempt(store)
    with pytest.raises(FencedError, match="attempt 2 has taken over"):
        old.commit(3, {"step": 3}, None)
    assert layout.checkpoint_steps(store) == [1, 2]


def test_checkpoints_hold_nothing_that_runs_code(tmp_path):
    data = tiny.ranking(tmp_path, epochs=1, ema_decay=0.9)
    programs.train(tiny.parsed(data), Team(), print, "-")
    step = layout.checkpoint_steps(open_store(data["output"]))[-1]
    state = torch.load(Path(data["output"], layout.checkpoint_key(step)), weights_only=True)
    assert {"module", "average", "optimizer", "scheduler", "scaler", "sampler", "random", "best", "stale"} <= set(state)
    assert not any(name.startswith("align_model.") for name in state["module"]), "frozen towers need no copy"
    assert Path(data["output"], layout.HISTORY).stat().st_size > 0
