"""Limits of image hosts over many workers, in simulated time: a host that refuses, one that is dead, the user's own."""

import heapq
import random

import pytest

from aistudio.config import HostSettings
from aistudio.images.host_gate import Gate
from aistudio.images.host_limits import EXCHANGE_S, Allotment, HostLimits, Report, first_allotment
from aistudio.schema import Status

STEP_S = 0.002


class Host:
    """Answers `rate` requests a second and `at_once` at a time; 429 beyond, at once."""

    def __init__(self, rate=10**9, at_once=10**9, latency_s=0.05, retry_after_s=0.0):
        self.rate, self.at_once, self.latency_s, self.retry_after_s = rate, at_once, latency_s, retry_after_s
        self.busy = self.most_at_once = self.asked = 0
        self.begun: list[float] = []
        self.refused: list[float] = []

    def ask(self, now: float) -> bool:
        self.asked += 1
        lately = sum(1 for t in self.begun[-int(min(self.rate, 10**6)) :] if t > now - 1)
        if lately >= self.rate or self.busy >= self.at_once:
            self.refused.append(now)
            return False
        self.begun.append(now)
        self.busy += 1
        self.most_at_once = max(self.most_at_once, self.busy)
        return True


def run(host, seconds=20.0, workers=8, per_worker=32, settings=None, seed=0):
    """Let workers with endless work ask a host; return the limits and the workers' gates."""
    rng, settings = random.Random(seed), settings or {}
    limits = HostLimits(settings, per_worker)
    gates = [Gate(first_allotment(settings, per_worker)) for _ in range(workers)]
    for gate in gates:
        gate.users = 4 * per_worker
    exchange_at = [rng.random() * EXCHANGE_S for _ in gates]
    under_way: list[tuple[float, int, int, bool, float]] = []
    now, serial = 0.0, 0
    while now < seconds:
        while under_way and under_way[0][0] <= now:
            _, _, i, good, began = heapq.heappop(under_way)
            gates[i].leave()
            host.busy -= good
            code = 200 if good else 429
            gates[i].note(now, now - began, Status.OK, code, 0.0 if good else host.retry_after_s, "")
        for i, gate in enumerate(gates):
            if exchange_at[i] <= now:
                exchange_at[i] += EXCHANGE_S
                gate.set(limits.exchange(str(i), {"h": gate.take_report()}, now)["h"], now)
            while gate.enter(now) == 0.0:
                good = host.ask(now)
                serial += 1
                took = host.latency_s * rng.uniform(0.5, 1.5) if good else 0.005
                heapq.heappush(under_way, (now + took, serial, i, good, now))
        now += STEP_S
    return limits, gates


def rate_of(host, since, until):
    return sum(since <= t < until for t in host.begun) / (until - since)


def refused_share(host, since=0.0):
    refused, begun = sum(t >= since for t in host.refused), sum(t >= since for t in host.begun)
    return refused / max(1, refused + begun)


@pytest.mark.parametrize(("workers", "latency_s"), [(8, 0.05), (8, 0.02), (24, 0.05), (3, 0.1)])
def test_a_host_that_refuses_is_used_to_nine_tenths_and_seldom_refuses(workers, latency_s):
    host = Host(rate=200, at_once=40, latency_s=latency_s)
    run(host, seconds=30, workers=workers)
    assert rate_of(host, 10, 30) >= 0.9 * 200
    assert refused_share(host, 10) < 0.01


def test_what_the_host_asks_for_is_kept_by_all_workers():
    host = Host(rate=100, latency_s=0.02, retry_after_s=1.0)
    run(host, seconds=10)
    first = host.refused[0]
    # Requests under way and the others' next exchange apart, nobody asks before the second is over.
    quiet = [t for t in host.begun + host.refused if first + 2 * EXCHANGE_S < t < first + 0.95]
    assert not quiet
    assert rate_of(host, 5, 10) > 50


def test_a_host_without_complaint_gets_all_that_the_workers_may():
    host = Host(latency_s=0.1)
    limits, gates = run(host, seconds=5)
    assert host.most_at_once == 8 * 32 and all(g.allotment == Allotment(32) for g in gates)
    assert limits.slowest(5.0) == ""


@pytest.mark.parametrize("most", [3, 8, 20])
def test_the_users_limit_of_requests_at_once_holds_for_all_workers_together(most):
    host = Host(latency_s=0.1)
    run(host, seconds=20, settings={"*": HostSettings(max_concurrency=most)})
    assert host.most_at_once <= most
    assert rate_of(host, 5, 20) >= 0.6 * most / host.latency_s  # and is made use of


def test_the_users_rate_holds_for_all_workers_together():
    host = Host(latency_s=0.02)
    run(host, seconds=20, settings={"h": HostSettings(max_rate_per_s=60)})
    assert 0.9 * 60 <= rate_of(host, 5, 20) <= 1.02 * 60


def test_places_never_sum_to_more_than_the_limit():
    rng = random.Random(3)
    limits = HostLimits({"*": HostSettings(max_concurrency=7)}, 32)
    given = dict.fromkeys("abcde", 0)
    now = 0.0
    for _ in range(2_000):
        now += rng.random() * 0.2
        worker = rng.choice("abcde")
        report = Report(wanted=rng.randrange(1, 50), under_way=rng.randrange(given[worker] + 1), ok=3, latency_s=0.1)
        given[worker] = limits.exchange(worker, {"h": report}, now)["h"].concurrency
        assert sum(given.values()) <= 7


def test_a_host_that_answers_nobody_is_left_alone_and_asked_again_by_one():
    limits = HostLimits({}, 32)
    lost = Report(wanted=9, most=5, lost=10, last_loss="timeout: no connection within 5 s")
    assert not limits.exchange("a", {"h": lost}, 1.0)["h"].dead
    found = limits.exchange("b", {"h": lost}, 1.2)["h"]
    assert found.dead == "" and found.concurrency == 1  # the one that asks again
    assert limits.exchange("a", {"h": Report(wanted=9)}, 1.3)["h"] == Allotment(0, dead=lost.last_loss)
    assert "does not answer" in limits.slowest(2.0)
    again = limits.exchange("a", {"h": Report(wanted=9)}, 40.0)["h"]
    assert not again.dead and again.concurrency == 1
    assert limits.exchange("b", {"h": Report(wanted=9)}, 40.1)["h"].dead
    back = limits.exchange("a", {"h": Report(wanted=9, ok=1, latency_s=0.1)}, 40.3)["h"]
    assert not back.dead and limits.exchange("b", {"h": Report(wanted=9)}, 40.4)["h"].concurrency > 0


def test_time_outs_among_answers_lower_the_requests_at_once_and_other_hosts_stay():
    limits = HostLimits({}, 32)
    for i in range(20):
        for worker in "ab":
            fine = Report(wanted=64, under_way=32, most=32, ok=20, latency_s=2.0)
            limits.exchange(worker, {"h": fine, "other": fine}, i * EXCHANGE_S)
    assert limits.exchange("a", {"h": fine}, 6.0)["h"].concurrency == 32
    bad = fine._replace(ok=10, lost=9, latency_s=1.0, last_loss="timeout: x")
    assert limits.exchange("a", {"h": bad}, 6.5)["h"].concurrency < 32
    assert limits.exchange("a", {"other": fine}, 6.5)["other"] == Allotment(32)


def test_answers_that_become_slow_lower_the_requests_at_once():
    limits = HostLimits({}, 32)
    for i in range(20):
        limits.exchange("a", {"h": Report(wanted=64, under_way=32, most=32, ok=20, latency_s=2.0)}, i * EXCHANGE_S)
    slow = Report(wanted=64, under_way=32, most=32, ok=10, latency_s=30.0)
    assert limits.exchange("a", {"h": slow}, 6.0)["h"].concurrency < 32


@pytest.mark.parametrize(
    ("host", "most"), [("img.shop.com", 1), ("IMG.shop.com", 1), ("b.shop.com", 2), ("a.b.shop.com", 2), ("x.org", 3)]
)
def test_the_most_special_settings_count(host, most):
    settings = {"img.shop.com": 1, "*.shop.com": 2, "*": 3}
    limits = HostLimits({k: HostSettings(max_concurrency=n) for k, n in settings.items()}, 32)
    limits.exchange("a", {host: Report(wanted=64)}, 0.0)
    assert limits.exchange("a", {host: Report(wanted=64)}, 9.0)[host].concurrency == most


def test_a_worker_that_is_gone_takes_no_part_and_hosts_are_forgotten():
    limits = HostLimits({"*": HostSettings(max_concurrency=4)}, 32)
    for now in (0.0, 1.0):
        given = [limits.exchange(worker, {"h": Report(wanted=9)}, now)["h"].concurrency for worker in "ab"]
    assert given == [2, 2]
    assert limits.exchange("a", {"h": Report(wanted=9)}, 60.0)["h"].concurrency == 4
    for i in range(30_000):
        limits.exchange("a", {f"h{i}": Report(wanted=1)}, 100.0 + i)
    assert len(limits._hosts) <= 10_001


def test_the_slowest_host_is_named_with_its_limit():
    host = Host(rate=50, latency_s=0.02)
    limits, _ = run(host, seconds=10)
    text = limits.slowest(10.0)
    assert text.startswith("h: ") and "answers/s, at most" in text and "asked for less" in text


def test_one_bad_picture_is_no_trouble_of_its_host_and_many_are():
    limits = HostLimits({}, 32)
    fine = Report(wanted=64, under_way=32, most=32, ok=20, latency_s=2.0)
    for i in range(20):
        limits.exchange("a", {"h": fine}, i * EXCHANGE_S)
    once = fine._replace(unwell=1, lost=1, last_loss="timeout: x")
    assert limits.exchange("a", {"h": once}, 6.0)["h"] == Allotment(32)
    assert limits.exchange("a", {"h": fine._replace(ok=0, latency_s=0.0, unwell=1)}, 9.0)["h"] == Allotment(32)
    assert limits.exchange("a", {"h": fine._replace(unwell=9)}, 12.0)["h"].concurrency < 32


def test_a_gate_goes_on_after_an_unavailable_picture_and_stops_after_a_complaint():
    gate = Gate(Allotment(32))
    for status, retry_after_s, wait in ((503, 0.0, 0.0), (404, 0.0, 0.0), (429, 0.0, 0.25), (503, 2.0, 2.0)):
        gate = Gate(Allotment(32))
        assert gate.enter(1.0) == 0.0
        gate.note(1.0, 0.1, Status.HTTP_ERROR, status, retry_after_s, "")
        gate.leave()
        assert gate.enter(1.0) == wait
    assert gate.take_report().throttled == 1
