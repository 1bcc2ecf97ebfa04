"""What --status means, and what it refuses before anything starts."""

import pyarrow as pa
import pytest

from aistudio.errors import ConfigError
from aistudio.status_filter import failed_rows, parse_status


def test_failed_rows_all_or_by_status_and_code():
    scores = pa.table(
        {
            "status": ["ok", "timeout", "http_error", "http_error", "http_error", "dns_error"],
            "http_status": pa.array([200, None, 404, 500, 503, None], pa.int32()),
        }
    )
    rows = lambda *texts: list(failed_rows(scores, tuple(parse_status(t) for t in texts)))  # noqa: E731
    assert rows() == [1, 2, 3, 4, 5]
    assert rows("timeout") == [1]
    assert rows("http_error") == [2, 3, 4]
    assert rows("http_error:404") == [2]
    assert rows("http_error:5xx", "dns_error") == [3, 4, 5]
    assert rows("empty") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http_error:abc", "'abc' is no HTTP status; write http_error:404 or http_error:5xx"),
        ("http_error:", "'' is no HTTP status"),
        ("http_error:40", "'40' is no HTTP status"),
        ("http_error:4XX", "'4XX' is no HTTP status"),
        ("http_error:999", "'999' is no HTTP status"),
        ("timeout:503", "only http_error has codes; write --status timeout"),
        ("ok", "not a failure status"),
        ("tiemout", "not a failure status; known: "),
        ("", "not a failure status"),
    ],
)
def test_a_status_that_means_nothing_is_refused(text, message):
    with pytest.raises(ConfigError) as e:
        parse_status(text)
    assert message in str(e.value)
