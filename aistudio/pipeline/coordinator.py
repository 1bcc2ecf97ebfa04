"""One small Ray actor per run that the scoring actors talk to: progress, and the memory of crashes.

It holds counts per shard in work and totals of finished ones, so its size does not grow with the run. A row
that was in hand when its worker died twice is poison: `begin` tells the next worker to set it aside.
"""

from collections import Counter
from typing import Any, NamedTuple

import ray

NAMESPACE = "aistudio"
POISON_DEATHS = 2  # worker deaths with the same row in hand


class Start(NamedTuple):
    """What a worker is told when it begins a shard."""

    careful: bool  # an earlier worker died in this shard: announce every row before touching it
    poison: tuple[int, ...]  # rows (indexes of distinct images) not to touch


class Coordinator:
    """See the module's docstring. All calls are cheap."""

    def __init__(self) -> None:
        self._starts: Counter[str] = Counter()
        self._in_hand: dict[str, int] = {}
        self._deaths: dict[str, Counter[int]] = {}
        self._working: dict[str, dict[str, float]] = {}
        self._total: Counter[str] = Counter()
        self._pids: dict[str, int] = {}
        self._facts: dict[str, str] = {}

    def begin(self, shard: str, pid: int) -> Start:
        """A worker starts a shard; a second start means that the first one died (or was retried)."""
        self._starts[shard] += 1
        self._working[shard] = {}
        self._pids[shard] = pid
        if self._starts[shard] == 1:
            return Start(False, ())
        deaths = self._deaths.setdefault(shard, Counter())
        if shard in self._in_hand:
            deaths[self._in_hand.pop(shard)] += 1
        return Start(True, tuple(i for i, n in deaths.items() if n >= POISON_DEATHS))

    def in_hand(self, shard: str, index: int | None) -> None:
        """Careful mode: this distinct image is about to be decoded and encoded (None: it went well)."""
        if index is None:
            self._in_hand.pop(shard, None)
        else:
            self._in_hand[shard] = index

    def progress(self, shard: str, counts: dict[str, float]) -> None:
        """Counts so far of a shard in work: rows by status, `bytes`, seconds by stage."""
        if shard in self._working:
            self._working[shard] = counts

    def done(self, shard: str, counts: dict[str, float]) -> None:
        """Final counts of a shard whose file is stored."""
        if self._working.pop(shard, None) is not None:
            self._total.update(counts)
        for memory in (self._starts, self._in_hand, self._deaths, self._pids):
            memory.pop(shard, None)

    def snapshot(self) -> dict[str, float]:
        """All counts, shards in work included."""
        total = Counter(self._total)
        for counts in self._working.values():
            total.update(counts)
        return dict(total)

    def note(self, facts: dict[str, str]) -> None:
        """What a worker found out about the models when it loaded them."""
        self._facts.update(facts)

    def facts(self) -> dict[str, str]:
        return dict(self._facts)

    def pids(self) -> dict[str, int]:
        """Process that works on each shard in work; the fault campaign aims with it."""
        return dict(self._pids)


def start_coordinator(name: str) -> Any:
    """Start the run's coordinator; `name` is unique to the run's attempt."""
    return (
        ray.remote(Coordinator)
        .options(name=name, namespace=NAMESPACE, num_cpus=0, max_restarts=0, get_if_exists=True)
        .remote()
    )


def find_coordinator(name: str) -> Any:
    """The run's coordinator, from a worker."""
    return ray.get_actor(name, namespace=NAMESPACE)
