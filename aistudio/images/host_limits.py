"""How hard each image host may be asked, decided once for all workers of a run. No I/O.

A few times a second every worker reports how a host answered it, and gets its share of what that host may be asked.
Without a sign of trouble a host is asked as fast as the workers can, up to the limits that the user set. 429, 503,
lost connections and answers that become slow lower the limits at once; without trouble they rise again, slowly near
what was refused last and ever faster beyond it, along the cubic curve by which TCP finds its rate (RFC 9438). A host
that answers nothing at all is left alone for a while.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aistudio.config import DownloadSettings, HostSettings

EXCHANGE_S = 0.25  # between two reports of a worker
_GONE_S = 3.0  # a worker that has not reported for so long takes no part
_WINDOW_S = 1.0  # over which the rate of answers is measured: servers count by the second
_COOL_S = 1.0  # after a decrease: what is under way was sent before it
_START = 4  # requests of a worker at once to a host of which nothing is known
_START_MORE = 4  # more, with each report of success
_CUT_RATE, _CUT = 0.95, 0.8  # what is left of the rate that was answered, and of the requests that were under way
_BACK_S = 15.0  # until a rate is again what it was when it was cut
_FIRST_BACK_S = 4.0  # the same of the first cut, whose measure is the roughest
_PLACES_BACK_S = 2.0  # the same of the requests at once
_BY_RATE = 0.85  # of the allowed rate was answered: it is the rate that was too much
_TURN_S = 3.0  # where a host bears fewer requests than there are workers, they take turns of this length
_BAD_SHARE, _BAD = 0.1, 3  # share and least number of answers that never came or were 503: the host is in trouble
_BAD_WINDOW_S = 2.0  # lately: one bad picture is no trouble of its host
_SLOW = 4.0  # times the quickest that its answers have been
_SLOW_S = 1.0  # and at least so long
_DEAD_AFTER = 20  # requests in a row without any answer
_DEAD_S = 30.0  # until one request asks again


_MOST_HOSTS = 10_000  # remembered at once, but for those that were asked lately
_FORGOTTEN_S = 60.0


class Report(NamedTuple):
    """What a worker's requests to one host met since its last report."""

    wanted: int = 0  # requests waiting or under way now
    under_way: int = 0  # of these
    most: int = 0  # that were under way at once
    ok: int = 0  # answers that are no complaint; a 404 is one
    throttled: int = 0  # 429, and 503 that says when to come back
    unwell: int = 0  # other 503
    lost: int = 0  # no answer: time-outs, refused and lost connections, unknown names
    latency_s: float = 0.0  # sum over `ok`
    retry_after_s: float = 0.0  # the longest that was asked for
    last_loss: str = ""  # what the last lost one was, as `status: text`


class Allotment(NamedTuple):
    """What a worker may do to one host until its next report."""

    concurrency: int
    rate_per_s: float | None = None  # None: as fast as `concurrency` lets it
    pause_s: float = 0.0  # no request for so long
    dead: str = ""  # the host does not answer: why, as `status: text`; rows end with it


Exchange = Callable[[Mapping[str, Report]], Mapping[str, Allotment]]


class _Limit:
    """A number that is cut when it was too much and grows back along a cubic curve."""

    def __init__(self, most: float) -> None:
        """`most`: the user's own limit."""
        self.value, self._most = most, most
        self._refused, self._left, self._since_s, self._back_s = math.inf, 0.0, 0.0, 1.0

    def cut(self, refused: float, left: float, back_s: float, now: float) -> None:
        """`refused` was too much: go on with the part `left` of it, and be back at all of it after `back_s`."""
        self._refused, self._left, self._since_s, self._back_s = max(refused, 1.0), left, now, back_s
        self.value = min(self._most, max(1.0, left * refused))

    def grow(self, now: float) -> None:
        if math.isfinite(self._refused):
            ahead = (now - self._since_s) / self._back_s - 1
            self.value = min(self._most, max(1.0, self._refused * (1 + (1 - self._left) * ahead**3)))

    def forget(self) -> None:
        """Nothing but the user's own limit holds any more."""
        self.value, self._refused = self._most, math.inf


class _Worker:
    def __init__(self, granted: int) -> None:
        self.seen_s, self.wanted, self.under_way, self.granted = 0.0, 1, 0, granted
        self.most = float(_START)  # until there was trouble; more with each report of success


class _Host:
    def __init__(self, settings: HostSettings, per_worker: int, first: int, now: float) -> None:
        self._per_worker, self._first, self.first_s, self.seen_s = per_worker, first, now, now
        self.concurrency = _Limit(float(settings.max_concurrency or math.inf))
        self.rate = _Limit(float(settings.max_rate_per_s or math.inf))
        self._started = False  # there was trouble: from then on the limits say it all
        self._workers: dict[str, _Worker] = {}
        self._answers: list[tuple[float, int]] = []  # when, how many, within the window
        self._lately: list[tuple[float, int, int]] = []  # when, answers, bad ones
        self._cool_until = self._pause_until = self._asked_again_s = -math.inf
        self._best_answers = 0.0  # a second, since the last decrease was over
        self._best_latency_s = math.inf
        self._lost_in_a_row, self._last_loss = 0, ""
        self.ok = self.throttled = self.lost = 0

    @property
    def dead(self) -> bool:
        return self._lost_in_a_row >= _DEAD_AFTER

    def report(self, name: str, report: Report, now: float) -> None:
        self._workers = {n: w for n, w in self._workers.items() if now - w.seen_s <= _GONE_S or n == name}
        worker = self._workers.setdefault(name, _Worker(self._first))
        self.seen_s = now
        worker.seen_s, worker.wanted, worker.under_way = now, max(1, report.wanted), report.under_way
        self._answers = [(t, n) for t, n in self._answers if now - t < _WINDOW_S] + [(now, report.ok)]
        if now - self.first_s >= _WINDOW_S:
            self._best_answers = max(self._best_answers, sum(n for _, n in self._answers) / _WINDOW_S)
        self.ok, self.throttled, self.lost = (
            self.ok + report.ok, self.throttled + report.throttled, self.lost + report.lost
        )  # fmt: skip
        if report.ok or report.throttled or report.unwell:
            self._lost_in_a_row = 0
        if report.ok:
            worker.most += _START_MORE
        if report.lost:
            self._lost_in_a_row += report.lost
            self._last_loss = report.last_loss
        if report.retry_after_s:
            self._pause_until = max(self._pause_until, now + report.retry_after_s)
        self._adapt(report, now)

    def _adapt(self, report: Report, now: float) -> None:
        answers, bad = report.ok + report.throttled + report.unwell + report.lost, report.unwell + report.lost
        self._lately = [x for x in self._lately if now - x[0] < _BAD_WINDOW_S] + [(now, answers, bad)]
        num_bad = sum(x[2] for x in self._lately)
        latency_s = report.latency_s / report.ok if report.ok else 0.0
        if report.ok:
            self._best_latency_s = min(self._best_latency_s, latency_s)
        share = num_bad / max(1, sum(x[1] for x in self._lately))
        in_trouble = bad > 0 and num_bad >= _BAD and share > _BAD_SHARE and not self.dead
        slow = latency_s > max(_SLOW_S, _SLOW * self._best_latency_s)
        if report.throttled or in_trouble or slow:
            if now >= self._cool_until:
                self._decrease(report, now)
                self._cool_until = now + _COOL_S
        elif report.ok:
            self.concurrency.grow(now)
            self.rate.grow(now)
            if self.concurrency.value >= 2 * self._per_worker * len(self._workers):
                self.concurrency.forget()

    def _decrease(self, report: Report, now: float) -> None:
        """Lower what the trouble points to: the rate if it was reached, else the requests at once."""
        self._started = True
        answered, self._best_answers = self._best_answers, 0.0
        unlimited = math.isinf(self.rate.value)
        if report.throttled and answered > 0 and (unlimited or answered >= _BY_RATE * self.rate.value):
            self.rate.cut(answered, _CUT_RATE, _FIRST_BACK_S if unlimited else _BACK_S, now)
            return
        under_way = sum(max(w.under_way, min(w.granted, w.wanted)) for w in self._workers.values())
        self.concurrency.cut(min(self.concurrency.value, max(report.most, under_way)), _CUT, _PLACES_BACK_S, now)

    def allot(self, name: str, now: float) -> Allotment:
        worker = self._workers[name]
        if self.dead:
            worker.granted = 0
            if now - self._asked_again_s < _DEAD_S:
                return Allotment(0, dead=self._last_loss)
            self._asked_again_s = now  # one worker tries one request
            return Allotment(1, rate_per_s=1 / _DEAD_S)
        part = worker.wanted / sum(w.wanted for w in self._workers.values())
        rate = None if math.isinf(self.rate.value) else self.rate.value * part
        most = math.inf if self._started else worker.most
        worker.granted = int(min(self._per_worker, most, self._places(name, now)))
        return Allotment(worker.granted, rate, max(0.0, self._pause_until - now))

    def _places(self, name: str, now: float) -> float:
        """Divide the requests at once: never more in sum, although each worker hears of its part at another time."""
        if math.isinf(self.concurrency.value):
            return math.inf
        places = math.floor(self.concurrency.value)
        names = sorted(self._workers)
        if places < len(names):
            first = int(now / _TURN_S) * places
            target = int((names.index(name) - first) % len(names) < places)
        else:
            wanted = [self._workers[n].wanted for n in names]
            edges = [0.0]
            for n in wanted:  # one each, the rest by what they want
                edges.append(edges[-1] + 1 + (places - len(names)) * n / sum(wanted))
            at = names.index(name)
            target = math.floor(edges[at + 1] + 1e-9) - math.floor(edges[at] + 1e-9)
        others = sum(max(w.granted, w.under_way) for n, w in self._workers.items() if n != name)
        return max(0, min(target, places - others))

    def limit_text(self) -> str:
        """Say what holds the host back, empty when nothing does."""
        if self.dead:
            return "it does not answer"
        parts = [] if math.isinf(self.rate.value) else [f"{self.rate.value:.0f} requests/s"]
        parts += [] if math.isinf(self.concurrency.value) else [f"{self.concurrency.value:.0f} at once"]
        return f"at most {' and '.join(parts)}" if parts else ""


def first_allotment(settings: Mapping[str, HostSettings], per_worker: int) -> Allotment:
    """Return what a worker may do to a host before its first exchange; nothing, where the user has set limits."""
    return Allotment(0 if settings else min(_START, per_worker))


def exchange_alone(settings: DownloadSettings) -> Exchange:
    """Return an exchange with nobody else: this process has the hosts to itself."""
    limits = HostLimits(settings.hosts, settings.per_host_concurrency)
    return lambda reports: limits.exchange("", reports, time.monotonic())


class HostLimits:
    """All hosts of a run."""

    def __init__(self, settings: Mapping[str, HostSettings], per_worker: int) -> None:
        """`settings`: by host name, `*.domain` or `*`; `per_worker`: the most requests of one worker to one host."""
        self._settings, self._per_worker = {name.lower(): s for name, s in settings.items()}, per_worker
        self._first = first_allotment(settings, per_worker).concurrency
        self._hosts: dict[str, _Host] = {}

    def exchange(self, worker: str, reports: Mapping[str, Report], now: float) -> dict[str, Allotment]:
        """Take a worker's reports, give its allotments for the same hosts. `now`: seconds of a monotonic clock."""
        if len(self._hosts) + len(reports) > _MOST_HOSTS:
            self._hosts = {name: host for name, host in self._hosts.items() if now - host.seen_s < _FORGOTTEN_S}
        for name, report in reports.items():
            if name not in self._hosts:
                self._hosts[name] = _Host(self._of(name), self._per_worker, self._first, now)
            self._hosts[name].report(worker, report, now)
        return {name: self._hosts[name].allot(worker, now) for name in reports}

    def _of(self, name: str) -> HostSettings:
        """The most special settings that fit a host."""
        name = name.lower()
        parents = [f"*.{name.split('.', n)[-1]}" for n in range(1, name.count(".") + 1)]
        return next((self._settings[key] for key in (name, *parents, "*") if key in self._settings), HostSettings())

    def slowest(self, now: float) -> str:
        """Name the host that was held back at the lowest rate, and by what; empty when none was."""
        held = {name: host for name, host in self._hosts.items() if host.limit_text()}
        if not held:
            return ""

        def rate(host: _Host) -> float:
            return (host.ok + host.throttled) / max(now - host.first_s, EXCHANGE_S)

        name = min(held, key=lambda n: (not held[n].dead, rate(held[n])))
        host = held[name]
        share = host.throttled / max(1, host.ok + host.throttled + host.lost)
        refused = f", {share:.1%} of its answers asked for less" if host.throttled else ""
        return f"{name}: {rate(host):.0f} answers/s, {host.limit_text()}{refused}"
