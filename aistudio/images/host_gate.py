"""A worker's door to one host: who may ask now, who waits, what is reported of it. No I/O and no clock of its own."""

from aistudio.images.host_limits import EXCHANGE_S, Allotment, Report
from aistudio.schema import Status

_TOO_MANY, _UNAVAILABLE = 429, 503
_LOST = frozenset({Status.TIMEOUT, Status.CONNECTION_ERROR, Status.DNS_ERROR})
_BURST = 2  # requests that may follow at once after a quiet moment


class Gate:
    """Counts and spaces the requests of one worker to one host."""

    def __init__(self, first: Allotment) -> None:
        """`first`: holds until the first exchange."""
        self.allotment = first
        self.users = 0  # waiting or under way; forgotten at 0, since a run may meet a million hosts
        self._under_way = 0
        self._earliest_s = 0.0  # of the next request, by the rate
        self._paused_until_s = 0.0
        self._window: int | None = None  # after a complaint: requests at once, one more for each good answer
        self._report = Report()

    def enter(self, now: float) -> float | None:
        """Return 0 when a request may go (it counts as under way then), seconds to wait, or None: until one is back."""
        if (wait := max(self._paused_until_s, self._earliest_s) - now) > 0:
            return wait
        most = self.allotment.concurrency
        if self._under_way >= (most if self._window is None else min(self._window, most)):
            return None
        rate = self.allotment.rate_per_s
        if rate is not None:
            self._earliest_s = max(self._earliest_s, now - (_BURST - 1) / rate) + 1 / rate
        self._under_way += 1
        self._report = self._report._replace(most=max(self._report.most, self._under_way))
        return 0.0

    def leave(self) -> None:
        """A request that entered is back."""
        self._under_way -= 1

    def note(
        self,
        now: float,
        seconds: float,
        status: Status,
        http_status: int | None,
        retry_after_s: float,
        text: str,
    ) -> None:
        """Count what a request met: how long it took and its outcome."""
        r = self._report
        if http_status == _TOO_MANY or (http_status == _UNAVAILABLE and retry_after_s):
            # Stop at once: the others' part is only known after the next exchange.
            self._paused_until_s = max(self._paused_until_s, now + EXCHANGE_S, now + retry_after_s)
            self._window = 1
            retry = max(r.retry_after_s, retry_after_s)
            self._report = r._replace(throttled=r.throttled + 1, retry_after_s=retry)
        elif http_status == _UNAVAILABLE:  # the host's fault, or this one picture's: how many there are decides
            self._report = r._replace(unwell=r.unwell + 1)
        elif http_status is None and status in _LOST:
            self._report = r._replace(lost=r.lost + 1, last_loss=f"{status}: {text}")
        else:
            if self._window is not None:
                self._window = self._window + 1 if self._window < self.allotment.concurrency else None
            self._report = r._replace(ok=r.ok + 1, latency_s=r.latency_s + seconds)

    def take_report(self) -> Report:
        """Return what happened since the last report, and begin the next."""
        report = self._report._replace(wanted=self.users, under_way=self._under_way)
        self._report = Report(most=self._under_way)
        return report

    def set(self, allotment: Allotment, now: float) -> None:
        """Take what the exchange gave."""
        self.allotment = allotment
        if allotment.pause_s:
            self._paused_until_s = max(self._paused_until_s, now + allotment.pause_s)
