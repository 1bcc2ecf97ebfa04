"""Ends a run whose workers die again and again before a single row is done, which Ray would go on with for ever.

A row that kills its worker is set aside after a few deaths (scoring/careful.py), and then there is a row. Deaths
without any row have another cause: the memory is too small for the models, a library crashes when it is loaded.
"""

import re
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import ray

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline.early_ray import cluster_address
from aistudio.pipeline.limits import MemoryLimit, num_oom_kills, usable_memory
from aistudio.pipeline.plan import Plan, needed_bytes

_POLL_S = 2.0
# A poisonous row costs three deaths, seen by every shard that its process had in work; the fourth has another cause.
_DEATHS_PER_WORKER = 4
_OURS = re.compile(r"\b(FusedWorker|FetchWorker|EncodeWorker)\b")


class DeathWatch:
    """Within the block: when workers died `limit` times and `any_row` is still false, the block ends.

    The main thread, which waits inside Ray, is woken as by Ctrl-C; what leaves the block is an AIStudioError.
    """

    def __init__(
        self,
        any_row: Callable[[], bool],
        limit: int,
        explain: Callable[[int], str],
        num_deaths: Callable[[], int] | None = None,
        poll_s: float = _POLL_S,
    ) -> None:
        """`explain`: the message for a number of deaths. `num_deaths`: by default, of this job's workers so far."""
        self._any_row, self._limit, self._explain, self._poll_s = any_row, limit, explain, poll_s
        self._num_deaths = num_deaths or num_worker_deaths
        self._reason: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deaths", daemon=True)

    def __enter__(self) -> "DeathWatch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(5)
        if self._reason is not None and isinstance(error, KeyboardInterrupt):
            raise AIStudioError(self._reason) from None

    def _watch(self) -> None:
        while not self._over.wait(self._poll_s):
            try:
                if self._any_row():
                    return
                deaths = self._num_deaths()
            except Exception:  # noqa: BLE001 - Ray is busy or going down; it reports its own failures
                continue
            if deaths >= self._limit and not self._over.is_set():
                self._reason = self._explain(deaths)
                if (ident := threading.main_thread().ident) is not None:
                    signal.pthread_kill(ident, signal.SIGINT)
                return


def deaths_allowed(plan: Plan) -> int:
    """Deaths without a row that a run of this plan may see and go on."""
    return _DEATHS_PER_WORKER * max(1, (plan.min_actors or plan.num_actors) + plan.min_fetchers)


def num_worker_deaths() -> int:
    """Return how often workers of this job were restarted after a death; 0 where this Ray does not say."""
    try:
        from ray._private.state import state  # the public way wants the dashboard, which a batch job does without
    except ImportError:
        return 0
    job = ray.JobID(bytes.fromhex(ray.get_runtime_context().get_job_id()))
    actors = state.actor_table(None, job_id=job).values()
    return sum(int(actor["NumRestarts"]) for actor in actors if _OURS.search(actor["ActorClassName"]))


def watch_workers(coordinator: Any, plan: Plan, weights_bytes: int, settings: EngineSettings) -> DeathWatch:
    """The watch over a run; made before its work, when nothing was killed yet. `coordinator`: the run's actor."""
    before = num_oom_kills()
    local = cluster_address(settings) is None

    def explain(deaths: int) -> str:
        limit = usable_memory() if local else None
        return death_text(deaths, plan, needed_bytes(plan, weights_bytes), limit, num_oom_kills() - before)

    def any_row() -> bool:
        return bool(ray.get(coordinator.any_row.remote(), timeout=10))

    return DeathWatch(any_row, deaths_allowed(plan), explain)


def death_text(deaths: int, plan: Plan, needed: int, limit: MemoryLimit | None, kills: int) -> str:
    """Explain a death: what happened, how much memory there is and is needed, and what to lower.

    Args:
        limit: of a local run's memory; None: of a cluster's nodes, which is not known here.
        kills: processes that the kernel says it killed for memory meanwhile.
    """
    sure = f"the kernel killed {kills} process(es) for memory" if kills > 0 else "probably killed for memory"
    there = f"{limit.owner} has {limit.total / 1e9:.1f} GB" if limit else "their nodes' memory is not known here"
    return (
        f"workers died {deaths} times before a single row was done, {sure}: {there}, this run needs about "
        f"{needed / 1e9:.1f} GB; lower engine.num_actors (now {plan.num_actors}) or engine.shards_in_flight (now "
        f"{plan.shards_in_flight}), or give it more memory. If memory is not short, the workers' logs tell more "
        "(session_latest/logs in Ray's folder)"
    )
