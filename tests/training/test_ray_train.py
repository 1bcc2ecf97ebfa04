"""Several workers through Ray Train: the same number of updates, also when a worker dies on the way."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from aistudio.errors import ConfigError
from aistudio.pipeline.plan import Resources
from aistudio.pipeline.train import plan_workers, train_on_workers
from aistudio.store import open_store
from aistudio.training import layout
from tests.training import tiny_training as tiny

TWO = {"workers": {"num_workers": 2, "cpus_per_worker": 0.5}}


def test_workers_are_planned_from_the_cluster(tmp_path):
    base = tiny.ranking(tmp_path, batch_size=12)
    auto = tiny.parsed(base | {"device": "auto", "workers": {"num_workers": "auto"}})
    assert plan_workers(auto, Resources(16.0, 4.0, 2)) == (4, True)
    assert plan_workers(auto, Resources(16.0, 5.0, 2)) == (4, True), "5 workers cannot share 12 rows"
    assert plan_workers(auto, Resources(16.0, 0.0, 3)) == (3, False)
    with pytest.raises(ConfigError, match="batch_size 12 cannot be shared evenly by 5 workers"):
        plan_workers(tiny.parsed(base | {"workers": {"num_workers": 5}}), Resources(16.0, 0.0, 1))


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _ancestors(pid: int) -> list[int]:
    """Processes above `pid`, so that only workers of this test's own Ray are killed."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def _kill_one_worker_after_a_checkpoint(output: str, killed: list[int]) -> None:
    """Kill -9 a training process as soon as a checkpoint is there."""
    store = open_store(output)
    deadline = time.monotonic() + 250
    while time.monotonic() < deadline:
        if layout.checkpoint_steps(store):
            for folder in Path("/proc").glob("[0-9]*"):
                if b"RayTrainWorker" in _command(folder) and os.getpid() in _ancestors(int(folder.name)):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed.append(int(folder.name))
                    return
        time.sleep(0.05)


def test_two_workers_end_with_every_update(tmp_path, local_ray):
    data = tiny.ranking(tmp_path, epochs=None, steps=4) | TWO
    data["validation"] = {"every_epochs": None, "every_steps": 4}
    ctrl_c = signal.getsignal(signal.SIGINT)
    found = train_on_workers(tiny.parsed(data), print, "-")
    assert found.record["state"] == "finished" and found.record["steps"] == 4 and found.record["workers"] == 2
    assert found.record["attempt"] == 1
    assert signal.getsignal(signal.SIGINT) == ctrl_c  # Ray Train sets its own


@pytest.mark.campaign
def test_two_workers_end_with_every_update_though_one_dies(tmp_path, local_ray):
    data = tiny.ranking(tmp_path, epochs=None, steps=60, checkpoint_every_steps=2, log_every_steps=20) | TWO
    data["validation"] = {"every_epochs": None, "every_steps": 60}
    killed: list[int] = []
    watcher = threading.Thread(target=_kill_one_worker_after_a_checkpoint, args=(data["output"], killed), daemon=True)
    watcher.start()
    found = train_on_workers(tiny.parsed(data), print, "-")
    watcher.join(1)
    assert found.record["state"] == "finished" and found.record["steps"] == 60 and found.record["workers"] == 2
    assert killed and found.record["attempt"] >= 2, "a worker was killed, and the others began again"
    assert train_on_workers(tiny.parsed(data), print, "-").was_finished


def test_a_users_mistake_is_the_same_message_as_without_ray(tmp_path, local_ray):
    data = tiny.ranking(tmp_path, poi_table="/no/table.parquet") | TWO
    with pytest.raises(ConfigError, match="set poi_table: build"):
        train_on_workers(tiny.parsed(data), print, "-")
