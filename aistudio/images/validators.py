"""Validators: what a server calls the version of a picture that it sent, and the question whether it is still that one.

RFC 9110, 8.8 and 13.1. What is stored is what may be sent: a server's text becomes a field of a later request, so
whatever is no entity tag or no date, by the letter of the RFC, counts as none, when it is stored and when it is sent.
"""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')  # without the bytes above ASCII, which proxies change
_MAX_ETAG = 1_000  # characters
_MAX_DATE = 100
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_AS_SENT = re.compile(
    rf"({'|'.join(_DAYS)}), ([0-9][0-9]) ({'|'.join(_MONTHS)}) ([1-9][0-9]{{3}}) "
    r"([0-9][0-9]):([0-9][0-9]):([0-9][0-9]) GMT"
)


class Validators(NamedTuple):
    """A picture's ETag and date from an earlier fetch."""

    etag: str | None = None
    last_modified: str | None = None
    final_url: str | None = None  # the address that gave them, as it is stored; None: the row's own

    def questions(self, taken: Collection[str] = ()) -> dict[str, str]:
        """Return the fields of a conditional request, {} where nothing can be asked.

        Args:
            taken: names of fields, in lower case, that the user has set: those are left alone.
        """
        fields = {"If-None-Match": entity_tag(self.etag), "If-Modified-Since": http_date(self.last_modified)}
        if any(name.lower() in taken for name in fields):
            return {}
        return {name: value for name, value in fields.items() if value is not None}


def entity_tag(value: object) -> str | None:
    """Return an entity tag that may be stored and sent, None for anything else.

    >>> [entity_tag(v) for v in ('"33a6"', 'W/"x"', '33a6', '*', '"a", "b"', '"a"\\r\\nCookie: b')]
    ['"33a6"', 'W/"x"', None, None, None, None]
    """
    text = value if isinstance(value, str) else ""
    return text if len(text) <= _MAX_ETAG and _ETAG.fullmatch(text) else None


def http_date(value: object) -> str | None:
    """Return a date (text of HTTP, or a datetime) in the one form that HTTP sends, None for anything else.

    >>> http_date("Sunday, 06-Nov-94 08:49:37 GMT"), http_date("yesterday")
    ('Sun, 06 Nov 1994 08:49:37 GMT', None)
    """
    try:
        if isinstance(value, str) and _is_as_sent(value):
            return value
        if isinstance(value, str) and len(value) <= _MAX_DATE:
            value = parsedate_to_datetime(value)
        if not isinstance(value, datetime):
            return None
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return format_datetime(aware, usegmt=True)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _is_as_sent(text: str) -> bool:
    """Whether a date has the form in which it is sent, weekday included: reading and writing it takes ten times longer.

    Raises:
        ValueError: it has that form, and there is no such day or time.
    """
    found = _AS_SENT.fullmatch(text)
    if found is None:
        return False
    weekday, day, month, year, hour, minute, second = found.groups()
    date = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    return _DAYS[date.weekday()] == weekday
