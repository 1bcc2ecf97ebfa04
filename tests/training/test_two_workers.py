"""Two workers with the same global batch: the first update's gradients are those of one worker.

All of the module is in eval mode: BatchNorm is frozen and dropout is off, for with them on workers see other statistics
and other noise.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from aistudio.training import programs
from aistudio.training.task import Progress
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

CONFS = {
    "ranking": lambda tmp: tiny.ranking(tmp, batch_size=16),
    "recall": lambda tmp: tiny.recall(tmp, batch_size=8, click_weight=0.5),
    "composer": lambda tmp: tiny.composer(tmp, loss={"base": "soft_triplet"}),
}


def gradients(conf: dict[str, Any], team: Team) -> dict[str, torch.Tensor]:
    setup = programs.set_up(tiny.parsed(conf), team, torch.device("cpu"), lambda text: None)
    task = setup.task
    task.module.eval()
    rows = next(iter(task.batches()))
    task.loss(task.load(rows, 0), Progress(0, 10)).loss.backward()
    trained = {name: p for name, p in task.module.named_parameters() if p.requires_grad}
    team.mean_gradients(list(trained.values()))
    return {name: p.grad for name, p in trained.items() if p.grad is not None}


def worker(rank: int, conf: dict[str, Any], folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = gradients(conf, Team(rank, 2))
    torch.save(found, Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


@pytest.fixture(autouse=True, scope="module")
def _imported_once() -> None:
    """The process that the workers are forks of has imported what takes them seconds."""
    multiprocessing.set_forkserver_preload(["torch", "aistudio.training.programs", __name__])


@pytest.mark.parametrize("task", sorted(CONFS))
def test_gradients_of_two_workers_are_those_of_one(task, tmp_path):
    conf = CONFS[task](tmp_path)
    alone = gradients(conf, Team())
    multiprocessing.start_processes(worker, (conf, str(tmp_path)), nprocs=2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == alone.keys() and any(g.abs().max() > 1e-4 for g in alone.values())
    for name, gradient in alone.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - gradient).abs().max() <= 1e-6 * max(1.0, float(gradient.abs().max())), name
