"""Decoding in groups: order, the time limit of one image, and who holds the lock on the core."""

import threading
import time

import pytest

from aistudio.config import ImageSpec
from aistudio.schema import Status
from aistudio.scoring import core_lock as _core_lock
from aistudio.scoring import image_source as sources
from aistudio.scoring.core_lock import CoreLock
from aistudio.scoring.decoding import Decoders
from aistudio.scoring.image_source import ImageSource

LIMIT_S = 0.3
SLOW = 3


@pytest.fixture
def release():
    """Set: jobs that hang may end."""
    event = threading.Event()
    yield event
    event.set()


def decoders(release: threading.Event, num_threads: int = 1) -> Decoders[int, str]:
    def do(job: int) -> str:
        if job == SLOW:
            release.wait(30)
        return f"row {job}"

    return Decoders(do, lambda job: f"too slow {job}", num_threads, LIMIT_S)


def rows(jobs) -> list[str]:
    return [f"too slow {j}" if j == SLOW else f"row {j}" for j in jobs]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_rows_come_in_the_order_of_their_jobs(release, num_threads):
    made = decoders(release, num_threads)
    groups = [made.submit(range(first, first + 7)) for first in range(10, 80, 7)]
    assert [r for g in groups for r in made.rows(g)] == rows(range(10, 80))
    assert made.rows(made.submit([])) == []


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_job_that_hangs_costs_itself_and_nobody_else(release, at):
    made = decoders(release)
    jobs = [10, 11, 12, 13]
    jobs.insert(at, SLOW)
    hangs, waits = made.submit(jobs), made.submit([20, 21])  # the one thread is taken: the second group waits
    assert made.rows(hangs) == rows(jobs)
    assert made.rows(waits) == rows([20, 21])
    assert made.rows(made.submit([30, 31])) == rows([30, 31])


def test_a_thread_that_wakes_up_after_all_changes_nothing(release):
    made = decoders(release)
    group = made.submit([SLOW, 10])
    found = made.rows(group)
    release.set()
    assert made.rows(made.submit([20])) == ["row 20"]
    assert found == ["too slow 3", "row 10"] and group.rows == []


def test_an_error_that_nobody_foresaw_reaches_the_caller():
    made: Decoders[int, float] = Decoders(lambda job: 1 / job, lambda job: 0.0, 1, LIMIT_S)
    with pytest.raises(ZeroDivisionError):
        made.rows(made.submit([1, 0]))


class WatchedLock(CoreLock):
    """Knows whether it is held, and how often it was taken."""

    held, times = False, 0

    def __enter__(self):
        super().__enter__()
        self.held, self.times = True, self.times + 1

    def __exit__(self, *_):
        self.held = False
        super().__exit__()


def test_the_clock_of_a_turn_stands_still_in_the_queue(monkeypatch):
    time_s, asked = [0.0], []
    lock, clocks = CoreLock(), []

    def now():
        value = time_s[0]
        asked.append(threading.get_ident())
        return value

    monkeypatch.setattr(_core_lock.time, "perf_counter", now)

    def second():
        clocks.append(lock.clock())
        with lock:
            clocks.append(lock.clock())
            time_s[0] += 5
            clocks.append(lock.clock())

    with lock:
        thread = threading.Thread(target=second)
        thread.start()
        while asked.count(thread.ident) < 2:  # until it has come to the queue
            time.sleep(0.001)
        time_s[0] += 100  # the second thread waits all the while
        assert lock.clock() == 100  # the first does not
    thread.join(20)
    assert clocks == [0, 0, 5]


@pytest.mark.parametrize("batch_size", [6, 0])
def test_who_has_no_turn_needs_no_batch_size(requests, make_config, batch_size):
    source = ImageSource(make_config("m.csv"), [ImageSpec(size=8)], None, batch_size)
    assert sorted(i.number for i in source.images(requests)) == list(range(20))
    source.close()


@pytest.fixture
def requests(image_server):
    urls = [image_server.url(f"{'404' if i % 5 == 4 else 'ok'}/{i}.jpg") for i in range(20)]
    return [(url, None) for url in urls]


@pytest.mark.parametrize("hangs", [False, True])
def test_with_a_turn_images_are_decoded_group_by_group_while_it_is_held(
    requests, make_config, monkeypatch, release, hangs
):
    lock, decode, sizes = WatchedLock(), sources.decode, []

    def watched(body, specs, settings, detectors):
        assert lock.held
        sizes.append(len(body))
        if hangs and len(sizes) == 3:
            release.wait(30)
        return decode(body, specs, settings, detectors)

    monkeypatch.setattr(sources, "decode", watched)
    config = make_config("m.csv", images={"decode_timeout_s": 0.5})
    source = ImageSource(config, [ImageSpec(size=8)], lock, batch_size=6)
    found = sorted(source.images(requests))
    assert [i.number for i in found] == list(range(20)) and lock.times == 4 and not lock.held  # 6 + 6 + 6 + 2
    failed = [i for i in found if i.status != Status.OK and i.number % 5 != 4]
    assert len(failed) == hangs and all("took longer than 0.5 s" in (i.error or "") for i in failed)
    assert all(i.status == Status.HTTP_ERROR for i in found if i.number % 5 == 4)
    release.set()
    source.close()


def test_without_a_turn_threads_decode_ahead_of_who_asks(requests, make_config, monkeypatch):
    config = make_config("m.csv", engine={"decode_threads": 2})
    source = ImageSource(config, [ImageSpec(size=8)])
    both = threading.Barrier(2, timeout=20)
    decode, calls = sources.decode, iter(range(1000))

    def side_by_side(body, specs, settings, detectors):
        if next(calls) < 2:
            both.wait()  # breaks when the first two images are not decoded at the same time
        return decode(body, specs, settings, detectors)

    monkeypatch.setattr(sources, "decode", side_by_side)
    found = sorted(source.images(requests))
    assert [i.number for i in found] == list(range(20)) and sum(i.status == Status.OK for i in found) == 16
    source.close()
