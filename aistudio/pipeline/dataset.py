"""The Ray Data plan of a scoring run: a row for each shard, a pool of actors that score them."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from inspect import signature
from typing import Any

import pyarrow as pa

from aistudio.pipeline.actors import EncodeWorker, FetchWorker, FusedWorker, RunContext
from aistudio.runs import layout

# Deaths of workers that one shard may see before the run gives up. A poisonous row costs three, seen by each of the
# shards that its process had in work, so this is room for dozens of them at once; a worker that dies of itself ends it.
_TASK_RETRIES = 100

# A block costs the driver 42 to 50 kB (benchmarks/resume_memory.py), so 250 MB at most: a huge run hands out several
# shards as one block. Commit and resume stay per shard.
_MAX_BLOCKS = 5_000


def work_blocks(work: list[str], first: Sequence[str] = ()) -> list[list[str]]:
    """The work list as blocks of one shard, or of several where there are very many; those of `first` come first."""
    early = set(first)
    rest = [name for name in work if name not in early]
    step = max(1, math.ceil(len(rest) / _MAX_BLOCKS))
    return [[name] for name in first] + [rest[i : i + step] for i in range(0, len(rest), step)]


def scored_shards(run: RunContext, work: list[str], first: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Score shards; yield each with its counts as it is stored.

    Those of frequent addresses are scored before the others begin, which take over what came of them.
    """
    frequent = [name for name in work if layout.is_frequent(name)]
    others = [name for name in work if not layout.is_frequent(name)]
    for names in (frequent, others) if frequent else (others,):
        early = set(names).intersection(first)
        plan = dataset(run, names, [name for name in first if name in early])
        for batch in plan.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for shard, counts in zip(batch["shard"].to_pylist(), batch["counts"].to_pylist(), strict=True):
                yield shard, dict(counts)


def dataset(run: RunContext, work: list[str], first: Sequence[str]) -> Any:
    """The Ray Data plan: one row per shard; a block is one shard, or several where there are very many."""
    import ray.data

    plan = run.plan
    if not work:
        none = pa.table({"shard": pa.array([], pa.string()), "counts": pa.array([], pa.null())})
        return ray.data.from_blocks([none])
    # Not from_arrow, which has each block looked at by a task: two processes that import Ray Data, and a wait for them.
    names = ray.data.from_blocks([pa.table({"shard": block}) for block in work_blocks(work, first)])
    common: dict[str, Any] = {
        "batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True, "ray_remote_args_fn": _lives
    }  # fmt: skip
    encode = common | _pool(plan.min_actors, plan.num_actors, len(work), plan.shards_in_flight) | {
        "num_cpus": plan.cpus_per_actor,
        "num_gpus": plan.gpus_per_actor or None,
        "fn_constructor_args": (run,),
    }  # fmt: skip
    if plan.kind == "fused":
        return names.map_batches(FusedWorker, **encode)
    pool = _pool(plan.min_fetchers, plan.num_fetchers, len(work), 2)
    fetch = common | pool | {"num_cpus": plan.cpus_per_fetcher}
    return names.map_batches(FetchWorker, fn_constructor_args=(run,), **fetch).map_batches(EncodeWorker, **encode)


def _lives() -> dict[str, int]:
    return {"max_restarts": -1, "max_task_retries": _TASK_RETRIES}


def _pool(least: int, most: int, num_shards: int, calls: int) -> dict[str, Any]:
    """Arguments of map_batches for a pool of actors, each with so many calls at once.

    All actors are asked for at once, which makes a cluster grow; those that never come are not waited for.
    """
    from ray.data import ActorPoolStrategy

    most = min(most, num_shards)
    least = min(least, most) or most
    strategy = partial(
        ActorPoolStrategy,
        min_size=least,
        max_size=most,
        initial_size=most,
        max_tasks_in_flight_per_actor=calls + 1,
        enable_true_multi_threading=True,
    )
    if "max_concurrent_calls_per_actor" in signature(ActorPoolStrategy).parameters:
        return {"compute": strategy(max_concurrent_calls_per_actor=calls)}
    return {"compute": strategy(), "max_concurrency": calls}  # Ray 2.58 and before: an argument of the actors
