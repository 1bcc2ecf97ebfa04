"""How a scoring run uses its cluster: which plan, how many actors, how many threads and images each.

`fused` (CPU): one actor pool; a call downloads, decodes, encodes and stores a shard, so pixels stay in the
actor. `staged` (GPU): CPU actors download and decode, pixels travel as one tensor to the GPU actors.
"""

import math
import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

from aistudio.config import EngineSettings
from aistudio.errors import ConfigError
from aistudio.pipeline.limits import usable_cpus, usable_memory

_CPU_BATCH = 16  # measured: reports/bench
_FETCH_CPUS_PER_GPU = 8  # decode of 400 px photos for a B3 on a current GPU; more do not hurt
# Memory of a run's processes, measured with the demo's models (private pages; reports/bench/environments_2026-11.md).
_BASE_BYTES = 1_000_000_000  # driver 0.5 GB, Ray's own processes 0.35 GB and what it keeps idle
_ACTOR_BYTES = 550_000_000  # torch, a decoder's buffers and one shard; the weights come on top
_ENCODE_CPUS = 0.5  # of a GPU's model actor: two CPUs still leave room for a fetcher
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # NVIDIA, its driver in WSL, AMD


Bundle = dict[str, float]  # what one actor asks for, e.g. {"CPU": 0.5, "GPU": 1.0}


class Resources(NamedTuple):
    """What the cluster has now (not what this machine has), and what it can grow to."""

    cpus: float
    gpus: float
    nodes: int
    max_cpus: float = 0.0  # with every node that the autoscaler may add; 0: what it has now
    max_gpus: float = 0.0
    memory: int = 0  # bytes that all processes of a local run may use together; 0: not known, as of a cluster

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
        memory = f", {self.memory / 1e9:.1f} GB of memory" if self.memory else ""
        return f"{self.nodes} node(s), {self.cpus:g} CPUs, {self.gpus:g} GPUs{memory}{grows}"


class Plan(NamedTuple):
    """Everything that the engine is asked for."""

    kind: str  # "fused" or "staged"
    device: str  # "cpu", "cuda" or "mps"
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
    return Resources(float(usable_cpus()), float(_num_gpus()), 1, memory=local_memory())


def _num_gpus() -> int:
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return 0  # torch, which takes seconds to import, would say the same
    import torch

    return torch.cuda.device_count()


def local_memory() -> int:
    """Return the bytes that a local run may use; 0 where the system does not say."""
    limit = usable_memory()
    return 0 if limit is None else limit.total


def make_plan(settings: EngineSettings, resources: Resources, weights_bytes: int = 0) -> Plan:
    """Fit the settings to the cluster, as it is now and as it can become.

    Args:
        weights_bytes: size of the models' files: each model actor holds them once more.

    Raises:
        ConfigError: the settings ask for more than the cluster can ever have, which would wait for ever.
    """
    most = resources.grown
    if most.cpus <= 0:
        raise ConfigError(f"engine: the cluster has no CPUs for tasks: {resources}; start worker nodes")
    kind = settings.plan if settings.plan != "auto" else ("staged" if most.gpus > 0 else "fused")
    if kind == "fused":
        least, num_actors = (_fused(settings, r, weights_bytes) for r in (resources, most))
        cpus, gpus, min_fetchers, fetchers = min(1.0, most.cpus), 0.0, 0, 0
    else:
        gpus = settings.num_gpus_per_actor if most.gpus else 0.0
        (least, min_fetchers), (num_actors, fetchers) = (
            _staged(settings, r, gpus, weights_bytes) for r in (resources, most)
        )
        cpus = _ENCODE_CPUS
    fetcher_cpus = _fetcher_cpus(most)
    _refuse_impossible(num_actors * gpus, cpus * num_actors + fetcher_cpus * fetchers, most)
    device = _device(settings, gpus)
    batch = settings.batch_size if settings.batch_size != "auto" else (0 if device == "cuda" else _CPU_BATCH)
    threads = _threads(most, num_actors) if kind == "fused" else 1
    return Plan(
        kind, device, num_actors, cpus, gpus, fetchers, threads, batch, settings.shards_in_flight,
        min(least, num_actors), min(min_fetchers, fetchers), fetcher_cpus,
    )  # fmt: skip


def _device(settings: EngineSettings, gpus: float) -> str:
    """Choose where models run: on CUDA, else on a Mac's GPU, else on the CPU."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if gpus else "mps" if _metal(settings) else "cpu"


def _metal(settings: EngineSettings) -> bool:
    """Whether this is a Mac with a GPU that a local run would use."""
    if platform.system() != "Darwin" or settings.address or os.environ.get("RAY_ADDRESS"):
        return False
    import torch

    return bool(torch.backends.mps.is_available())


def needed_bytes(plan: Plan, weights_bytes: int) -> int:
    """Memory that a plan's processes need together, roughly."""
    return _BASE_BYTES + plan.num_actors * (_ACTOR_BYTES + weights_bytes) + plan.num_fetchers * _ACTOR_BYTES


def memory_warning(plan: Plan, resources: Resources, weights_bytes: int) -> str | None:
    """A sentence where a local run will hardly have the memory that it needs; None where it will."""
    needed = needed_bytes(plan, weights_bytes)
    if not resources.memory or needed <= resources.memory:
        return None
    return (
        f"this run needs about {needed / 1e9:.1f} GB of memory, {resources.memory / 1e9:.1f} GB is what it may use: "
        "workers may be killed; lower engine.num_actors or give it more memory"
    )


def warn_of_memory(plan: Plan, resources: Resources, weights_bytes: int) -> None:
    """Print `memory_warning` to standard error, if there is one."""
    if warning := memory_warning(plan, resources, weights_bytes):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _fused(settings: EngineSettings, has: Resources, weights_bytes: int) -> int:
    if settings.num_actors != "auto":
        return settings.num_actors
    if settings.device == "mps" or (settings.device == "auto" and _metal(settings)):
        return 1  # a Mac has one GPU
    return max(1, min(int(has.cpus), _room_for(has, _ACTOR_BYTES + weights_bytes)))


def _room_for(has: Resources, bytes_each: int, taken: int = 0) -> int:
    """How many processes of this size the memory has room for, beside the run's own and what is `taken`."""
    return max(0, has.memory - _BASE_BYTES - taken) // bytes_each if has.memory else sys.maxsize


def _staged(settings: EngineSettings, has: Resources, gpus: float, weights_bytes: int) -> tuple[int, int]:
    """Model actors and fetchers that have room side by side; at least one of each."""
    by_gpu = int(has.gpus / gpus + 1e-6) if gpus else max(1, int(has.cpus) // 2)
    by_cpu = int((has.cpus - _fetcher_cpus(has)) / _ENCODE_CPUS)  # one fetcher must fit beside them
    by_memory = _room_for(has, _ACTOR_BYTES + weights_bytes, taken=_ACTOR_BYTES)
    actors = max(1, min(by_gpu, by_cpu, by_memory)) if settings.num_actors == "auto" else settings.num_actors
    left = int((has.cpus - _ENCODE_CPUS * actors) / _fetcher_cpus(has))
    left = min(left, _room_for(has, _ACTOR_BYTES, taken=actors * (_ACTOR_BYTES + weights_bytes)))
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
