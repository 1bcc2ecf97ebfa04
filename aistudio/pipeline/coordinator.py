"""One small Ray actor per run that the scoring actors talk to: progress, and the memory of crashes.

It holds counts per shard in work and totals of finished ones, so its size does not grow with the run. A row
that was in hand when its worker died twice is poison: `begin` tells the next worker to set it aside. Losing
this actor loses that memory and some of the display, never a row.
"""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

from aistudio.config import DownloadSettings
from aistudio.images.host_limits import Allotment, HostLimits, Report
from aistudio.pipeline.telemetry import Meters
from aistudio.schema import Status
from aistudio.storable import error_text
from aistudio.timings import Pace

if TYPE_CHECKING:  # its process starts beside the actors', and needs nothing of theirs
    from aistudio.scoring.canaries import Answers

NAMESPACE = "aistudio"
_ANSWER_S = 60  # calls are trivial: later than this it is lost
_REFERENCE_S = 600  # a large model in float32 on a CPU, on a node that has to fetch it first
POISON_DEATHS = 2  # worker deaths while processing the same row


class Start(NamedTuple):
    """The coordinator's answer when a worker begins a shard."""

    careful: bool  # an earlier worker died in this shard: announce every row before touching it
    poison: tuple[int, ...]  # rows (indexes of distinct images) not to touch


@dataclass
class _Work:
    """One stage of one shard."""

    owner: str | None  # process at work on it; None: that stage is over
    careful: bool = False
    in_hand: int | None = None
    deaths: Counter[int] = field(default_factory=Counter)  # by row


class Coordinator:
    """See the module's docstring. All calls are cheap."""

    def __init__(self, label: str | None = None, download: DownloadSettings | None = None) -> None:
        """`label`: the run's name in Prometheus metrics; None: none are kept. `download`: with the hosts' limits."""
        download = download or DownloadSettings()
        self._hosts = HostLimits(download.hosts, download.per_host_concurrency)
        self._meters: Meters | None = None
        if label:
            with suppress(Exception):  # metrics never end a run: here and below
                self._meters = Meters(label)
        self._works: dict[tuple[str, str], _Work] = {}  # by shard and stage
        self._buried: set[str] = set()
        self._counts: dict[str, dict[str, float]] = {}
        self._total: Counter[str] = Counter()
        self._facts: dict[str, str] = {}
        self._wrong: list[str] = []  # what was found, of each worker whose numbers were wrong
        self._right: list[Any] = []
        self._any_row = False
        self._born = time.monotonic()
        self._pace = Pace()

    def begin(self, shard: str, stage: str, owner: str) -> Start:
        """Process `owner` starts a stage of a shard; if another had started it, that one died."""
        self._counts[shard] = {}
        if self._meters:
            with suppress(Exception):
                self._meters.begin(shard)
        work = self._works.setdefault((shard, stage), _Work(owner))
        if work.owner is not None and work.owner != owner:
            self._bury(work.owner)
            work.careful = True
        work.owner, work.in_hand = owner, None
        return Start(work.careful, tuple(sorted(i for i, n in work.deaths.items() if n >= POISON_DEATHS)))

    def _bury(self, owner: str) -> None:
        """Blame the current row for its process's death, unless another shard there may have caused it."""
        if owner in self._buried:
            return
        self._buried.add(owner)
        works = [w for w in self._works.values() if w.owner == owner]
        certain = all(w.careful for w in works)
        for work in works:
            if certain and work.in_hand is not None:
                work.deaths[work.in_hand] += 1
            work.in_hand = None

    def in_hand(self, shard: str, stage: str, index: int | None) -> None:
        """Careful mode: this distinct image is about to be decoded or encoded (None: it went well)."""
        if (shard, stage) in self._works:
            self._works[shard, stage].in_hand = index

    def end(self, shard: str, stage: str) -> None:
        """A stage that another one follows is over: its process is free of the shard."""
        if (shard, stage) in self._works:
            self._works[shard, stage].owner = None

    def hosts(self, worker: str, reports: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """Take a worker's reports by host (as plain tuples), give its allotments."""
        found = {name: Report(*report) for name, report in reports.items()}
        return {n: tuple(a) for n, a in self._hosts.exchange(worker, found, time.monotonic()).items()}

    def slowest_host(self) -> str:
        """Name the host that is held back most, and by what; empty when none is."""
        return self._hosts.slowest(time.monotonic())

    def wrong(self, owner: str, node: str, what: str) -> int:
        """Process `owner` found its own numbers wrong and ends; its shards are free. Return how many did so far."""
        self._buried.add(owner)  # no row is to blame
        for work in self._works.values():
            if work.owner == owner:
                work.owner, work.in_hand = None, None
        self._wrong.append(f"{node}: {what}")
        places = ", ".join(f"{n} on {place}" for place, n in Counter(w.split(": ")[0] for w in self._wrong).items())
        self._facts["wrong_workers"] = f"{places}; the last: {what}"
        return len(self._wrong)

    def hold(self, reference: list[Any]) -> None:
        """Keep the reference (in a list, or Ray would wait for it) to the answers that canaries are judged by."""
        self._right = reference

    def right(self) -> list[Any]:
        """Return what `hold` was given."""
        return self._right

    def progress(self, shard: str, counts: dict[str, float]) -> None:
        """Counts so far of a shard in work: rows by status, `bytes`, seconds by stage."""
        if shard in self._counts:
            self._counts[shard] = counts
            self._any_row = self._any_row or any(counts.get(status.value) for status in Status)
            self._note_pace()

    def done(self, shard: str, counts: dict[str, float]) -> None:
        """Final counts of a shard whose file is stored."""
        if self._counts.pop(shard, None) is not None:
            self._total.update(counts)
            self._any_row = True
            self._note_pace()
            if self._meters:
                with suppress(Exception):
                    self._meters.done(shard, counts)
        for key in [k for k in self._works if k[0] == shard]:
            del self._works[key]

    def snapshot(self) -> dict[str, float]:
        """All counts, shards in work included."""
        total = Counter(self._total)
        for counts in self._counts.values():
            total.update(counts)
        return dict(total)

    def any_row(self) -> bool:
        """Whether any row has had an outcome, be it in a shard that was lost again."""
        return self._any_row

    def _note_pace(self) -> None:
        counts, now = self.snapshot(), time.monotonic() - self._born
        rows = int(sum(counts.get(s.value, 0) for s in Status))
        if rows:
            first_s, first_rows = self._pace[:2] if self._pace.last_rows else (now, rows)
            self._pace = Pace(first_s, first_rows, now, rows)

    def pace(self) -> Pace:
        """When the first and the last rows got their outcome, in seconds since this actor began."""
        return self._pace

    def note(self, facts: dict[str, str]) -> None:
        """Record what a worker found out about the models when it loaded them."""
        self._facts.update(facts)

    def facts(self) -> dict[str, str]:
        slowest = self.slowest_host()
        return self._facts | ({"slowest_host": slowest} if slowest else {})


def start_coordinator(name: str, label: str | None = None, download: DownloadSettings | None = None) -> Any:
    """Start the run's coordinator; `name` is unique to the run's attempt, `label` stands for the run in metrics."""
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}  # trivial code: only ever killed from outside
    return ray.remote(Coordinator).options(name=name, namespace=NAMESPACE, **options).remote(label, download)


class Bookkeeping:
    """The run's coordinator as a worker sees it: calls of it that fail are passed over, for no row depends on them."""

    def __init__(self, name: str) -> None:
        """`name`: as given to start_coordinator; an actor that cannot be found is looked for again with each call."""
        self._name = name
        self._actor: Any = None

    def begin(self, shard: str, stage: str, owner: str) -> Start:
        """See Coordinator.begin. Without an answer nothing is known of earlier deaths."""
        answer = self._call("begin", shard, stage, owner)
        return Start(False, ()) if answer is None else Start(*answer)

    def in_hand(self, shard: str, stage: str, index: int | None) -> None:
        """Return when the coordinator knows it, or cannot be reached."""
        self._call("in_hand", shard, stage, index)

    def end(self, shard: str, stage: str) -> None:
        """See Coordinator.end."""
        self._call("end", shard, stage)

    def hosts(self, worker: str, reports: Mapping[str, Report]) -> dict[str, Allotment]:
        """See Coordinator.hosts; empty without an answer."""
        answer = self._call("hosts", worker, {name: tuple(report) for name, report in reports.items()}) or {}
        return {name: Allotment(*allotment) for name, allotment in answer.items()}

    def wrong(self, owner: str, node: str, what: str) -> int:
        """See Coordinator.wrong; 0 without an answer."""
        return self._call("wrong", owner, node, what) or 0

    def right(self) -> "Answers | None":
        """Return the answers that canaries are judged by, waiting for them. None: there are none, as a fact says."""
        found = self._call("right")
        try:
            return ray.get(found[0], timeout=_REFERENCE_S) if found else None
        except Exception as e:  # noqa: BLE001 - a run without canaries is as good as all runs before there were any
            self.note({"canaries": f"off, for no reference could be made: {error_text(e, 300)}"})
            return None

    def done(self, shard: str, counts: dict[str, float]) -> None:
        """See Coordinator.done."""
        self._call("done", shard, counts)

    def progress(self, shard: str, counts: dict[str, float]) -> None:
        """Tell, and do not wait."""
        self._call("progress", shard, counts, wait=False)

    def note(self, facts: dict[str, str]) -> None:
        """Tell, and do not wait."""
        self._call("note", facts, wait=False)

    def _call(self, method: str, *arguments: Any, wait: bool = True) -> Any:
        try:
            if self._actor is None:
                self._actor = ray.get_actor(self._name, namespace=NAMESPACE)
            reference = getattr(self._actor, method).remote(*arguments)
            return ray.get(reference, timeout=_ANSWER_S) if wait else None
        except Exception:  # noqa: BLE001 - see the class: whatever it is, rows go on
            self._actor = None
            return None
