"""How a scoring run uses its cluster: which plan, how many actors, how many threads and images each.

`fused` (CPU): one actor pool; a call downloads, decodes, encodes and stores a shard, so pixels stay in the
actor. `staged` (GPU): CPU actors download and decode, pixels travel as one tensor to the GPU actors.
"""

import math
import os
from typing import NamedTuple

from aistudio.config import EngineSettings
from aistudio.errors import ConfigError

_CPU_BATCH = 16  # measured: reports/bench
_FETCH_CPUS_PER_GPU = 8  # decode of 400 px photos for a B3 on a current GPU; more do not hurt
_ENCODE_CPUS = 0.5  # of a GPU's model actor: two CPUs still leave room for a fetcher


Bundle = dict[str, float]  # what one actor asks for, e.g. {"CPU": 0.5, "GPU": 1.0}


class Resources(NamedTuple):
    """What the cluster has now (not what this machine has), and what it can grow to."""

    cpus: float
    gpus: float
    nodes: int
    max_cpus: float = 0.0  # with every node that the autoscaler may add; 0: what it has now
    max_gpus: float = 0.0

    @property
    def can_grow(self) -> bool:
        return self.max_cpus > self.cpus or self.max_gpus > self.gpus

    @property
    def grown(self) -> "Resources":
        """The same cluster at its largest."""
        return self._replace(cpus=max(self.cpus, self.max_cpus), gpus=max(self.gpus, self.max_gpus))

    def __str__(self) -> str:
        most = self.grown
        grows = f", can grow to {most.cpus:g} CPUs, {most.gpus:g} GPUs" if self.can_grow else ""
        return f"{self.nodes} node(s), {self.cpus:g} CPUs, {self.gpus:g} GPUs{grows}"


class Plan(NamedTuple):
    """Everything that the engine is asked for."""

    kind: str  # "fused" or "staged"
    device: str  # "cpu" or "cuda"
    num_actors: int  # model actors, when the cluster has grown as far as it can
    cpus_per_actor: float
    gpus_per_actor: float
    num_fetchers: int  # download + decode actors, likewise; 0 in the fused plan
    torch_threads: int
    batch_size: int  # images per forward pass; 0: each GPU's actor finds its own (gpu_batch.py)
    shards_in_flight: int  # per model actor
    min_actors: int = 0  # what there is room for now, and what is kept when work runs out; 0: all
    min_fetchers: int = 0
    cpus_per_fetcher: float = 1.0

    def bundles(self) -> list[Bundle]:
        """The least that makes progress: one actor of each kind, at the same time."""
        model = {"CPU": self.cpus_per_actor} | ({"GPU": self.gpus_per_actor} if self.gpus_per_actor else {})
        return [model] if self.kind == "fused" else [model, {"CPU": self.cpus_per_fetcher}]

    @property
    def gpu_share(self) -> float:
        """Share of a GPU per model actor; actors without an explicit request share one GPU equally."""
        return min(1.0, self.gpus_per_actor or 1 / self.num_actors)

    def lines(self) -> list[str]:
        """The plan in words, for --dry-run."""
        model = (
            f"{_size(self.min_actors, self.num_actors)} model actor(s) on {self.device}, "
            + f"each {self.cpus_per_actor:g} CPU"
            + (f" + {self.gpus_per_actor:g} GPU" if self.gpus_per_actor else "")
            + f", {self.torch_threads} model thread(s), batches of {self.batch_size or 'what the GPU takes'}, "
            + f"{self.shards_in_flight} shard(s) in flight"
        )
        if self.kind == "fused":
            return [f"download > decode > encode > store, in one pool: {model}"]
        fetchers = _size(self.min_fetchers, self.num_fetchers)
        return [
            f"download > decode: {fetchers} actor(s), {self.cpus_per_fetcher:g} CPU each",
            f"encode > store: {model}",
        ]


def _size(least: int, most: int) -> str:
    return f"{least} to {most}" if 0 < least < most else str(most)


def local_resources() -> Resources:
    """This machine, without starting Ray: what a local run would get."""
    import torch

    return Resources(float(len(os.sched_getaffinity(0))), float(torch.cuda.device_count()), 1)


def make_plan(settings: EngineSettings, resources: Resources) -> Plan:
    """Fit the settings to the cluster, as it is now and as it can become.

    Raises:
        ConfigError: the settings ask for more than the cluster can ever have, which would wait for ever.
    """
    most = resources.grown
    if most.cpus <= 0:
        raise ConfigError(f"engine: the cluster has no CPUs for tasks: {resources}; start worker nodes")
    kind = settings.plan if settings.plan != "auto" else ("staged" if most.gpus > 0 else "fused")
    if kind == "fused":
        least, num_actors = (_fused(settings, r) for r in (resources, most))
        cpus, gpus, min_fetchers, fetchers = min(1.0, most.cpus), 0.0, 0, 0
    else:
        gpus = settings.num_gpus_per_actor if most.gpus else 0.0
        (least, min_fetchers), (num_actors, fetchers) = (_staged(settings, r, gpus) for r in (resources, most))
        cpus = _ENCODE_CPUS
    fetcher_cpus = _fetcher_cpus(most)
    _refuse_impossible(num_actors * gpus, cpus * num_actors + fetcher_cpus * fetchers, most)
    device = settings.device if settings.device != "auto" else ("cuda" if gpus else "cpu")
    batch = settings.batch_size if settings.batch_size != "auto" else (0 if device == "cuda" else _CPU_BATCH)
    threads = _threads(most, num_actors) if kind == "fused" else 1
    return Plan(
        kind, device, num_actors, cpus, gpus, fetchers, threads, batch, settings.shards_in_flight,
        min(least, num_actors), min(min_fetchers, fetchers), fetcher_cpus,
    )  # fmt: skip


def _fused(settings: EngineSettings, has: Resources) -> int:
    return max(1, int(has.cpus)) if settings.num_actors == "auto" else settings.num_actors


def _staged(settings: EngineSettings, has: Resources, gpus: float) -> tuple[int, int]:
    """Model actors and fetchers that have room side by side; at least one of each."""
    by_gpu = int(has.gpus / gpus + 1e-6) if gpus else max(1, int(has.cpus) // 2)
    by_cpu = int((has.cpus - _fetcher_cpus(has)) / _ENCODE_CPUS)  # one fetcher must fit beside them
    actors = max(1, min(by_gpu, by_cpu)) if settings.num_actors == "auto" else settings.num_actors
    left = int((has.cpus - _ENCODE_CPUS * actors) / _fetcher_cpus(has))
    fetchers = min(left, math.ceil(_FETCH_CPUS_PER_GPU * actors * min(1.0, gpus or 1.0)))
    return actors, max(1, fetchers) if settings.num_fetchers == "auto" else settings.num_fetchers


def _fetcher_cpus(has: Resources) -> float:
    # On a single CPU the two kinds of actors share it half and half instead of waiting for each other.
    return 1.0 if has.grown.cpus >= 1.0 + _ENCODE_CPUS else 0.5


def _threads(has: Resources, num_actors: int) -> int:
    """Threads per model actor so that the actors of one node together have as many as it has cores."""
    nodes = max(1, has.nodes)
    return max(1, int(has.cpus / nodes / math.ceil(num_actors / nodes)))


def _refuse_impossible(gpus: float, cpus: float, resources: Resources) -> None:
    if gpus > resources.gpus + 1e-6 or cpus > resources.cpus + 1e-6:
        raise ConfigError(
            f"engine: the settings need {cpus:g} CPUs and {gpus:g} GPUs at once, the cluster has {resources}; "
            "lower engine.num_actors, engine.num_fetchers or engine.num_gpus_per_actor"
        )
