"""Every status has advice; the tally counts right and stays small."""

from aistudio.reports.failures import ADVICE, FailureTally, host_of
from aistudio.schema import Status


def test_every_status_is_explained_and_every_failure_has_advice():
    assert set(ADVICE) == set(Status)
    assert all(meaning and (advice or status == "ok") for status, (meaning, advice) in ADVICE.items())


def test_host_of():
    assert host_of("https://User:x@IMG.example:8080/a") == "img.example"
    assert [host_of(u) for u in ("/local/x.jpg", "", "http://[bad")] == ["(no host)"] * 3


def _row(status: str, host: str, i: int = 0, code: int | None = None) -> dict:
    return {
        "status": status,
        "image_url": f"https://{host}/{i}",
        "error": "e",
        "http_status": code,
        "row_id": str(i),
        "item_id": "x",
    }


def test_counts_are_exact_and_samples_are_few_and_from_several_hosts():
    tally = FailureTally(samples=6, hosts=3)
    tally.add([_row("http_error", "big", i, 404) for i in range(100)])
    tally.add([_row("http_error", f"h{i}", i, 503) for i in range(10)] + [_row("timeout", "big")])
    first, second = tally.groups(top_hosts=2)
    assert (first["status"], first["rows"], second["status"], second["rows"]) == ("http_error", 110, "timeout", 1)
    assert first["hosts"] == [("big", 100), ("(other hosts)", 8)]
    assert first["other_rows"] == 2
    assert first["codes"] == [(404, 100), (503, 10)]
    assert len(first["samples"]) <= 6


def test_a_status_that_nobody_knows_is_shown_and_nothing_gives_no_groups():
    tally = FailureTally()
    assert tally.groups() == []
    tally.add([_row("brand_new", "h")])
    assert tally.groups()[0]["meaning"] == "Unknown status."
