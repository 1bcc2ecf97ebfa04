"""_retry.py: waits."""

from datetime import UTC, datetime

import pytest

from aistudio.config import DownloadSettings
from aistudio.images._retry import backoff_s, parse_retry_after

SETTINGS = DownloadSettings(backoff_s=0.5, backoff_max_s=4)


@pytest.mark.parametrize(("attempt", "ceiling"), [(0, 0.5), (1, 1), (2, 2), (3, 4), (10, 4), (5000, 4)])
def test_full_jitter_below_a_doubling_ceiling(attempt: int, ceiling: float) -> None:
    waits = [backoff_s(SETTINGS, attempt) for _ in range(400)]
    assert 0 <= min(waits) < 0.1 * ceiling
    assert 0.9 * ceiling < max(waits) <= ceiling


def test_retry_after_is_a_floor_and_capped() -> None:
    assert 2 <= backoff_s(SETTINGS, 0, 2) <= 2.1
    assert backoff_s(SETTINGS, 0, 3600) == 4


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        (" 120 ", 120),
        ("-3", None),
        ("soon", None),
        ("9" * 50, 999_999_999),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10),
        ("Fri, 02 Jan 2026 03:04:15 -0000", 10),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("Fri, 99 Foo 2026 03:04:15 GMT", None),
    ],
)
def test_parse_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
