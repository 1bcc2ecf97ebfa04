"""The Ray Data plan of a run: what each stage is asked for, recorded by a double that starts no Ray."""

from types import SimpleNamespace

import pytest
import ray
import ray.data

from aistudio.pipeline import dataset as pipeline_dataset
from aistudio.pipeline.actors import EncodeWorker, FetchWorker, FusedWorker, RunContext
from aistudio.pipeline.dataset import dataset, work_blocks
from aistudio.pipeline.plan import Plan
from aistudio.scoring.pinned_models import PinnedModels

FUSED = Plan(
    kind="fused", device="cpu", num_actors=4, cpus_per_actor=1.0, gpus_per_actor=0.0, num_fetchers=0, torch_threads=1,
    batch_size=16, shards_in_flight=2, min_actors=2,
)  # fmt: skip
STAGED = FUSED._replace(
    kind="staged", device="cuda", num_actors=2, cpus_per_actor=0.5, gpus_per_actor=1.0, num_fetchers=6, min_actors=1,
    min_fetchers=3, cpus_per_fetcher=1.5,
)  # fmt: skip


class RecordingDataset:
    """Stands for a Ray Data set: remembers its blocks and every `map_batches`."""

    def __init__(self, tables):
        self.blocks, self.stages = [t["shard"].to_pylist() for t in tables], []

    def map_batches(self, worker, **arguments):
        self.stages.append((worker, arguments))
        return self


def pool(*, max_concurrent_calls_per_actor, **arguments):
    """Stands for the strategy of Ray 2.59 and later."""
    return SimpleNamespace(max_concurrent_calls_per_actor=max_concurrent_calls_per_actor, **arguments)


def older_pool(*, min_size, max_size, initial_size, max_tasks_in_flight_per_actor, enable_true_multi_threading):
    """Stands for that of Ray 2.58 and before."""
    return SimpleNamespace(**locals())


@pytest.fixture
def planned(monkeypatch):
    """`planned(plan, work)`: the recorded chain."""
    monkeypatch.setattr(ray.data, "from_blocks", RecordingDataset)
    monkeypatch.setattr(ray.data, "ActorPoolStrategy", pool)
    monkeypatch.setattr(ray, "init", lambda *a, **k: pytest.fail("Ray was started"))

    def chain(plan, work, first=()):
        run = RunContext({}, plan, "run-x", 1, "f", None, PinnedModels())
        return dataset(run, work, first), run

    return chain


WORK = [f"00000-{i:06d}" for i in range(10)]


def test_fused_is_one_stage_that_holds_everything(planned):
    recorded, run = planned(FUSED, WORK)
    assert recorded.blocks == [[name] for name in WORK]  # a block is a shard
    [(worker, asked)] = recorded.stages
    assert worker is FusedWorker and asked["fn_constructor_args"] == (run,)
    assert (asked["batch_size"], asked["batch_format"], asked["zero_copy_batch"]) == (1, "pyarrow", True)
    assert (asked["num_cpus"], asked["num_gpus"]) == (1.0, None)
    pool = asked["compute"]
    assert (pool.min_size, pool.initial_size, pool.max_size) == (2, 4, 4)  # all are asked for, two are waited for
    assert (pool.max_concurrent_calls_per_actor, pool.max_tasks_in_flight_per_actor) == (2, 3)
    assert pool.enable_true_multi_threading
    lives = asked["ray_remote_args_fn"]()
    assert lives["max_restarts"] == -1 and lives["max_task_retries"] >= 50  # a poison row costs three


@pytest.mark.parametrize("plan", [FUSED, STAGED])
def test_an_older_ray_is_told_of_calls_at_once_as_of_other_arguments_of_actors(planned, plan, monkeypatch):
    def told(stages):
        return [(a["compute"].max_tasks_in_flight_per_actor, a.get("max_concurrency")) for _, a in stages]

    assert all(calls is None for _, calls in told(planned(plan, WORK)[0].stages))
    monkeypatch.setattr(ray.data, "ActorPoolStrategy", older_pool)
    stages = planned(plan._replace(shards_in_flight=5), WORK)[0].stages
    assert told(stages) == ([(6, 5)] if plan is FUSED else [(3, 2), (6, 5)])
    assert all(a["compute"].enable_true_multi_threading for _, a in stages)


def test_staged_fetches_on_cpus_and_encodes_on_gpus(planned):
    recorded, run = planned(STAGED, WORK)
    (fetcher, fetch), (encoder, encode) = recorded.stages
    assert (fetcher, encoder) == (FetchWorker, EncodeWorker)
    assert fetch["fn_constructor_args"] == encode["fn_constructor_args"] == (run,)
    assert (fetch["num_cpus"], fetch.get("num_gpus")) == (1.5, None)
    assert (encode["num_cpus"], encode["num_gpus"]) == (0.5, 1.0)
    assert (fetch["compute"].min_size, fetch["compute"].max_size) == (3, 6)
    assert (encode["compute"].min_size, encode["compute"].max_size) == (1, 2)
    assert fetch["batch_size"] == encode["batch_size"] == 1  # one shard at a time
    assert fetch["ray_remote_args_fn"]() == encode["ray_remote_args_fn"]()


@pytest.mark.parametrize(("shards", "pool"), [(1, (1, 1)), (3, (2, 3)), (10, (2, 4))])
def test_there_are_no_more_actors_than_shards(planned, shards, pool):
    [(_, asked)] = planned(FUSED, WORK[:shards])[0].stages
    assert (asked["compute"].min_size, asked["compute"].max_size) == pool


def test_without_a_least_number_every_actor_is_waited_for(planned):
    [(_, asked)] = planned(FUSED._replace(min_actors=0), WORK)[0].stages
    assert asked["compute"].min_size == asked["compute"].max_size == 4


def test_no_work_starts_no_actor(planned):
    recorded, _ = planned(FUSED, [])
    assert recorded.stages == [] and recorded.blocks == [[]]


def test_shards_drawn_first_come_first_and_a_huge_run_has_few_blocks():
    blocks = work_blocks(WORK, first=[WORK[7], WORK[2]])
    assert blocks[:2] == [[WORK[7]], [WORK[2]]]
    assert sorted(name for block in blocks for name in block) == WORK
    many = [str(i) for i in range(3 * pipeline_dataset._MAX_BLOCKS + 1)]
    blocks = work_blocks(many)
    assert len(blocks) <= pipeline_dataset._MAX_BLOCKS and [n for b in blocks for n in b] == many
