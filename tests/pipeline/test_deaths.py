"""Workers that die before any row is done end the run; workers that die later, or rarely, do not."""

import os
import threading
import time

import pytest
import ray

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline.coordinator import Coordinator
from aistudio.pipeline.deaths import DeathWatch, death_text, deaths_allowed, num_worker_deaths
from aistudio.pipeline.limits import MemoryLimit
from aistudio.pipeline.plan import Resources, make_plan, needed_bytes

PLAN = make_plan(EngineSettings(), Resources(2, 0, 1))


def wait(seconds: float = 60) -> None:
    """As the main thread waits inside Ray: for a lock, with the interpreter's lock released."""
    threading.Event().wait(seconds)


def test_deaths_without_a_row_end_the_block_with_the_reason():
    deaths = iter([0, 2, 3, 4, 9])
    watch = DeathWatch(lambda: False, 4, lambda n: f"{n} died", num_deaths=lambda: next(deaths), poll_s=0.05)
    with pytest.raises(AIStudioError, match=r"^4 died$") as e, watch:
        wait()
    assert e.value.exit_code == 1


def test_one_row_is_enough_to_go_on():
    rows = iter([False, True])
    asked = []
    watch = DeathWatch(lambda: next(rows), 4, str, num_deaths=lambda: asked.append(1) or 3, poll_s=0.05)
    with watch:
        wait(0.5)
    assert len(asked) == 1  # after the first row nobody asks any more


def test_a_coordinator_that_does_not_answer_is_asked_again():
    answers = iter([RuntimeError("busy"), RuntimeError("busy"), 7])

    def num_deaths() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(AIStudioError, match="7"), DeathWatch(lambda: False, 4, str, num_deaths, 0.05):
        wait()


def test_ctrl_c_and_errors_of_the_block_stay_what_they_are():
    with pytest.raises(KeyboardInterrupt), DeathWatch(lambda: False, 4, str, lambda: 0, 0.05):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="mine"), DeathWatch(lambda: False, 4, str, lambda: 0, 0.05):
        raise ValueError("mine")


def test_the_message_tells_what_there_is_what_is_needed_and_what_to_lower():
    needed = needed_bytes(PLAN, 700_000_000)
    assert needed == 1_000_000_000 + 2 * (550_000_000 + 700_000_000)
    text = death_text(8, PLAN, needed, MemoryLimit(1_500_000_000, "this container"), 0)
    assert "died 8 times before a single row was done, probably killed for memory" in text
    assert "this container has 1.5 GB, this run needs about 3.5 GB" in text and "engine.num_actors (now 2)" in text
    assert "the kernel killed 3 process(es)" in death_text(8, PLAN, needed, MemoryLimit(1, "this container"), 3)
    assert "not known here" in death_text(8, PLAN, needed, None, 0)


def test_a_plan_with_more_workers_may_see_more_deaths():
    staged = make_plan(EngineSettings(), Resources(16, 1, 1))
    assert deaths_allowed(PLAN) == 4 * 2 and deaths_allowed(staged) == 4 * (1 + 8)


def test_the_coordinator_remembers_a_row_of_a_shard_that_was_lost():
    c = Coordinator()
    c.begin("a", "score", "p1")
    c.progress("a", {"bytes": 5.0, "wait_s": 1.0})
    assert not c.any_row()
    c.progress("a", {"poison_image": 1.0, "ok": 0.0, "http_error": 1.0})
    c.begin("a", "score", "p2")
    assert c.any_row() and c.snapshot() == {}


class FusedWorker:  # named as the run's own: those are counted
    def pid(self) -> int:
        return os.getpid()


class Other(FusedWorker):
    pass


def test_deaths_of_a_jobs_workers_are_counted(local_ray):
    before = num_worker_deaths()
    for kind in (FusedWorker, Other):
        actor = ray.remote(kind).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        for _ in range(2):
            pid = ray.get(actor.pid.remote(), timeout=120)
            os.kill(pid, 9)
            end = time.monotonic() + 120
            while ray.get(actor.pid.remote(), timeout=120) == pid:
                assert time.monotonic() < end
        ray.kill(actor)
    assert num_worker_deaths() - before == 2
