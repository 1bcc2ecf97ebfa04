"""Whether too many rows fail for a run to end well, and when that is certain before its end.

`engine.max_failed_share` is the limit. Some shards, drawn at random from the whole work list, are scored first: a
catalogue sorted by host is not judged by its first host. After each of them the mean share of failed rows is tested
against the limit. Rows of a shard fail together, so a shard is the unit: its share lies in 0..1, and the chance that n
of them have a mean of m or more although the true share is the limit p is at most exp(-n KL(m || p)) (Hoeffding 1963,
theorem 1). Looking again after each shard is paid for: the j-th look may err with 6 alpha / (pi j)^2, alpha in all.
"""

import math
import random
from collections.abc import Mapping, Sequence

from aistudio.schema import Status

ALPHA = 0.01  # chance that a run is stopped although no more rows than the limit would have failed
FEWEST = 5  # shards before the first look
DRAWN = 40  # shards that are scored first
LONG = 2 * FEWEST  # fewer shards than this are soon scored: nothing is gained by stopping


def failed_share(counts: Mapping[str, float]) -> float:
    """Return the share of rows that are not ok, 0.0 for no rows."""
    rows = sum(counts.get(s.value, 0) for s in Status)
    return 1 - counts.get(Status.OK.value, 0) / rows if rows else 0.0


def too_many(counts: Mapping[str, float], limit: float | None) -> bool:
    """Say whether more rows failed than `limit` (engine.max_failed_share) lets."""
    return limit is not None and failed_share(counts) > limit


def drawn_first(work: Sequence[str], seed: str) -> list[str]:
    """Return the shards to score first, in random order; none of a short work list."""
    if len(work) < LONG:
        return []
    return random.Random(seed).sample(list(work), min(DRAWN, len(work) // 2))


class FailureWatch:
    """Tests the shards that are scored first against the limit; None as a limit: never says anything."""

    def __init__(self, limit: float | None, drawn: Sequence[str]) -> None:
        self._limit = limit
        self._waiting = set(drawn)
        self._shares: list[float] = []
        self._looks = 0
        self.counts: dict[str, float] = {}  # of the drawn shards so far

    def add(self, shard: str, counts: Mapping[str, float]) -> bool:
        """Take a finished shard's counts; True when it is sure that more rows than the limit will fail."""
        if self._limit is None or shard not in self._waiting:
            return False
        self._waiting.discard(shard)
        self._shares.append(failed_share(counts))
        for status in Status:
            if counts.get(status.value):
                self.counts[status.value] = self.counts.get(status.value, 0) + counts[status.value]
        if len(self._shares) < FEWEST:
            return False
        self._looks += 1
        n, mean = len(self._shares), sum(self._shares) / len(self._shares)
        allowed = 6 * ALPHA / (math.pi * self._looks) ** 2
        return mean > self._limit and n * _divergence(mean, self._limit) > -math.log(allowed)

    def message(self, num_shards: int) -> str:
        """Say why the run stops; `num_shards`: on its work list."""
        rows = int(sum(self.counts.values()))
        failed = sorted(((n, s) for s, n in self.counts.items() if s != Status.OK), reverse=True)
        kinds = ", ".join(f"{status} {n:,.0f}" for n, status in failed)
        share = failed_share(self.counts)
        return (
            f"stopped early: {share:.0%} of {rows:,} rows failed ({kinds}) in {len(self._shares)} shards "
            f"drawn at random from {num_shards:,}, and engine.max_failed_share is {self._limit:g}. What is stored is "
            "intact: mend the cause and the same command resumes, then `retry` scores the failed rows again. With "
            "--set engine.max_failed_share=null it goes on all the same"
        )


def _divergence(m: float, p: float) -> float:
    """KL divergence of two coins; infinite where the second never falls as the first does."""
    parts = ((m, p), (1 - m, 1 - p))
    if any(a > 0 and b <= 0 for a, b in parts):
        return math.inf
    return sum(a * math.log(a / b) for a, b in parts if a > 0)
