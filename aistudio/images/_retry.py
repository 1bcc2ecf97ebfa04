"""How long to wait before another try. Which failures deserve one is decided where they are seen (_http.py)."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aistudio.config import DownloadSettings


def backoff_s(settings: DownloadSettings, attempt: int, retry_after_s: float | None = None) -> float:
    """Seconds to wait after try number `attempt` (0-based) failed.

    Exponential with full jitter: uniform in [0, min(backoff_max_s, backoff_s * 2**attempt)], so that many rows that
    failed together do not come back together (Brooker, "Exponential Backoff And Jitter", AWS 2015). What the server
    asked for is the least, up to backoff_max_s.
    """
    ceiling = min(settings.backoff_max_s, settings.backoff_s * 2 ** min(attempt, 30))
    wait = random.uniform(0, ceiling)
    if retry_after_s is None:
        return wait
    # Spread the rows that were all given the same second.
    return min(settings.backoff_max_s, retry_after_s + wait * 0.1)


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or an HTTP date; None when absent or not understood."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
    except OverflowError:  # a date at the end of the calendar
        return None
