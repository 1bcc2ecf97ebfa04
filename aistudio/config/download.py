"""Settings of the section `download`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from aistudio.config.base import Settings
from aistudio.places import is_relative, resolve_place

_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.1


def _field_value(text: str) -> str:
    if any((c < " " and c != "\t") or c == "\x7f" for c in text):
        raise ValueError("holds a control character, which no header field may")
    return text


def _fields(headers: dict[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header field")
        if (first := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{first} and {name} are the same header field; keep one")
        _field_value(value)
    return headers


def _shared_place(place: str) -> str:
    """A place that means the same in every process: nobody knows the working directory of a worker."""
    found = place if place.startswith("~") else resolve_place(place)
    if is_relative(found):
        raise ValueError(f"{place}: expected an absolute path, one that begins with ~, or a bucket")
    return found


class HostSettings(Settings):
    """The most that all workers of a run together may ask of one host; null: as much as it bears."""

    max_concurrency: int | None = Field(None, ge=1)  # requests at once
    max_rate_per_s: float | None = Field(None, gt=0)  # requests a second


class DownloadSettings(Settings):
    """HTTP, S3 and file fetching. Times in seconds, sizes in bytes."""

    connect_timeout_s: float = Field(5.0, gt=0)
    read_timeout_s: float = Field(10.0, gt=0)  # longest silence between two chunks
    timeout_s: float = Field(20.0, gt=0)  # one try, all of it
    retries: int = Field(3, ge=0)  # further tries after a time-out, lost connection, 408, 425, 429, 5xx
    backoff_s: float = Field(0.5, ge=0)  # first wait; doubled each time, with jitter
    backoff_max_s: float = Field(10.0, ge=0)  # also the longest Retry-After that is honoured
    max_redirects: int = Field(5, ge=0)
    max_bytes: int = Field(20_000_000, ge=1)  # on the wire and after decompression
    concurrency: int = Field(64, ge=1)  # requests in flight per worker
    per_host_concurrency: int = Field(32, ge=1)  # of those, to one host
    hosts: dict[str, HostSettings] = {}  # limits of the whole run by host name, "*.domain" or "*"
    user_agent: Annotated[str, AfterValidator(_field_value)] = "aistudio/0.1"
    headers: Annotated[dict[str, str], AfterValidator(_fields)] = {}
    trust_env_proxy: bool = True  # HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY
    allow_private_addresses: bool = False  # loopback, link-local and private ranges
    url_map: dict[str, str] = {}  # prefix -> replacement, longest prefix first; http(s)://, s3://, file://
    cache: Annotated[str, AfterValidator(_shared_place)] | None = None  # folder or bucket that keeps fetched bytes
    cache_max_bytes: int = Field(10_000_000_000, ge=1_000_000)  # more: what was not asked for longest goes
    cache_max_age_s: float | None = Field(0.0, ge=0)  # younger: no request; older: asked for news; null: never
