"""A training that is killed and typed again ends with the same weights, bit for bit, on one CPU thread."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from aistudio.errors import FencedError, RunMismatchError
from aistudio.runs.attempts import claim_attempt
from aistudio.store import Store, open_store
from aistudio.training import layout, programs
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

CONFS = {
    "ranking": lambda tmp, **more: tiny.ranking(tmp, **({"epochs": 2, "vector_dropout": 0.2} | RARELY | more)),
    "recall": lambda tmp, **more: tiny.recall(tmp, **({"epochs": 4, "click_weight": 0.5} | RARELY | more)),
    "composer": lambda tmp, **more: tiny.composer(tmp, **(SOFT_TRIPLET | RARELY | more)),
    "embedder": lambda tmp, **more: tiny.embedder(tmp, **(PROXIES | RARELY | more)),
    "vae": lambda tmp, **more: tiny.vae(tmp, **(AUGMENTED | RARELY | more)),
}
RARELY = {"validation": {"every_epochs": 2}}
AUGMENTED = {"augment": {"crop": True, "jitter": {"hue": 0.1}}, "ema_decay": 0.9}
PROXIES = {"loss": {"name": "proxy_anchor"}, "augment": {"rotate_degrees": 10}}  # weights of the loss's own
SOFT_TRIPLET = {"loss": {"base": "soft_triplet"}}


@pytest.fixture
def one_thread():
    """One thread of torch, before the child is forked: a pool of several would not be there in it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def killed(conf: dict[str, Any], number: int, moment: str) -> int:
    """Train in a child that kills itself, as kill -9 does, in its N-th commit; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            _kill_in_commit(number, moment)
            programs.train(tiny.parsed(conf), Team(), print, "-")
        finally:
            os._exit(3)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def _kill_in_commit(number: int, moment: str) -> None:
    seen, write = [0], Store.write_bytes

    def killing(self: Store, key: str, data: bytes, **options: Any) -> bool:
        seen[0] += key.startswith(layout.CHECKPOINTS)
        due = seen[0] == number and key.startswith(layout.CHECKPOINTS)
        path = Path(self.path(key))
        if due and moment == "half":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.x.tmp").write_bytes(data[: len(data) // 2])
        done = moment == "after" and write(self, key, data, **options)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return done or write(self, key, data, **options)

    Store.write_bytes = killing  # type: ignore[method-assign]


def weights(out: str) -> dict[str, torch.Tensor]:
    [path] = Path(out, "export").glob("*.safetensors")
    return safetensors.torch.load_file(path)


@pytest.mark.parametrize("task", sorted(CONFS))
def test_killed_and_typed_again_gives_the_same_weights(task, tmp_path, one_thread):
    straight = CONFS[task](tmp_path, output=str(tmp_path / "straight"))
    killed_conf = straight | {"output": str(tmp_path / "killed"), "checkpoint_every_steps": 2}
    programs.train(tiny.parsed(straight), Team(), print, "-")
    for number, moment in ((2, "half"), (1, "after"), (2, "before")):
        assert killed(killed_conf, number, moment) == signal.SIGKILL
    steps = layout.checkpoint_steps(open_store(killed_conf["output"]))
    assert steps, "there is something to go on from"
    programs.train(tiny.parsed(killed_conf), Team(), print, "-")
    mine, theirs = weights(killed_conf["output"]), weights(straight["output"])
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert programs.train(tiny.parsed(killed_conf), Team(), print, "-").was_finished


def test_a_change_of_settings_is_refused_by_name(tmp_path):
    data = tiny.ranking(tmp_path, epochs=1)
    programs.train(tiny.parsed(data), Team(), print, "-")
    changed = tiny.parsed(data | {"optimiser": {"learning_rate": 0.5}, "seed": 3})
    with pytest.raises(RunMismatchError, match=r"optimiser: .*\n  seed: .*\nchoose another output") as e:
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
