"""aistudio/search/pace.py: lines on a clock of the test's own."""

import io

import pytest

from aistudio.search import pace as _aggregate_pace
from aistudio.search.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_aggregate_pace.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds_with_the_time_left(clock):
    out = io.StringIO()
    pace = Pace(1000, 50, out)
    for _ in range(4):
        clock[0] += 6
        pace.add(200, 50)
    assert out.getvalue().splitlines() == [
        "search: 50 queries in 1,000 images, 40%, 18 s left",
        "search: 50 queries in 1,000 images, 80%, 6 s left",
    ]


def test_a_short_search_says_nothing(clock):
    out = io.StringIO()
    pace = Pace(1000, 50, out)
    clock[0] += 9
    pace.add(1000, 50)
    assert out.getvalue() == ""


def test_a_long_search_names_the_setting_once(clock):
    out = io.StringIO()
    pace = Pace(1_000_000, 100_000, out)
    for _ in range(2):
        clock[0] += 20
        pace.add(10_000, 100_000)
    first, second = out.getvalue().splitlines()
    assert first.endswith("a sample would take about 100 s: --set metrics.max_queries=5000")
    assert "max_queries" not in second
