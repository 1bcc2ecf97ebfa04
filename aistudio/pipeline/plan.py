"""How a scoring run uses its cluster: which plan, how many actors, how many threads and images each.

`fused` (CPU): one actor pool; a call downloads, decodes, encodes and stores a shard, so pixels stay in the
actor. `staged` (GPU): CPU actors download and decode, pixels travel as one tensor to the GPU actors.
"""

import os
from typing import NamedTuple

from aistudio.config import EngineSettings
from aistudio.errors import ConfigError
from aistudio.pipeline.engine import Resources

_CPU_BATCH, _GPU_BATCH = 16, 256  # measured: reports/bench
_FETCH_CPUS_PER_GPU = 8  # decode of 400 px photos for a B3 on a current GPU; more do not hurt


class Plan(NamedTuple):
    """Everything that the engine is asked for."""

    kind: str  # "fused" or "staged"
    device: str  # "cpu" or "cuda"
    num_actors: int  # model actors
    cpus_per_actor: float
    gpus_per_actor: float
    num_fetchers: int  # download + decode actors; 0 in the fused plan
    torch_threads: int
    batch_size: int
    shards_in_flight: int  # per model actor

    def lines(self) -> list[str]:
        """The plan in words, for --dry-run."""
        model = (
            f"{self.num_actors} model actor(s) on {self.device}, each {self.cpus_per_actor:g} CPU"
            + (f" + {self.gpus_per_actor:g} GPU" if self.gpus_per_actor else "")
            + f", {self.torch_threads} model thread(s), batches of {self.batch_size}, "
            + f"{self.shards_in_flight} shard(s) in flight"
        )
        if self.kind == "fused":
            return [f"download > decode > encode > store, in one pool: {model}"]
        return [f"download > decode: {self.num_fetchers} actor(s), 1 CPU each", f"encode > store: {model}"]


def local_resources() -> Resources:
    """This machine, without starting Ray: what a local run would get."""
    import torch

    return Resources(float(len(os.sched_getaffinity(0))), float(torch.cuda.device_count()), 1)


def make_plan(settings: EngineSettings, resources: Resources) -> Plan:
    """Fit the settings to the cluster.

    Raises:
        ConfigError: the settings ask for more than the cluster has, which would wait for ever.
    """
    kind = settings.plan if settings.plan != "auto" else ("staged" if resources.gpus >= 1 else "fused")
    if kind == "fused":
        num_actors = max(1, int(resources.cpus)) if settings.num_actors == "auto" else settings.num_actors
        cpus, gpus, fetchers = min(1.0, resources.cpus), 0.0, 0
    else:
        gpus = settings.num_gpus_per_actor if resources.gpus else 0.0
        auto = int(resources.gpus / gpus) if gpus else max(1, int(resources.cpus) // 2)
        num_actors = max(1, auto) if settings.num_actors == "auto" else settings.num_actors
        # The model actor takes half a CPU so that two CPUs still leave room for a fetcher.
        cpus = 0.5
        left = int(resources.cpus - cpus * num_actors)
        wanted = min(left, _FETCH_CPUS_PER_GPU * num_actors)
        fetchers = max(1, wanted) if settings.num_fetchers == "auto" else settings.num_fetchers
    _refuse_impossible(num_actors * gpus, cpus * num_actors + fetchers, resources)
    threads = max(1, int(resources.cpus // (num_actors * max(1, resources.nodes)))) if kind == "fused" else 1
    batch = settings.batch_size if settings.batch_size != "auto" else (_GPU_BATCH if gpus else _CPU_BATCH)
    device = settings.device if settings.device != "auto" else ("cuda" if gpus else "cpu")
    return Plan(kind, device, num_actors, cpus, gpus, fetchers, threads, batch, settings.shards_in_flight)


def _refuse_impossible(gpus: float, cpus: float, resources: Resources) -> None:
    if gpus > resources.gpus or cpus > resources.cpus + 1e-6:
        raise ConfigError(
            f"engine: the settings need {cpus:g} CPUs and {gpus:g} GPUs at once, the cluster has {resources}; "
            "lower engine.num_actors, engine.num_fetchers or engine.num_gpus_per_actor"
        )
