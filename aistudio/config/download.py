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

    max_concurrency: int | None = Field(None, ge=1)  # requests of all workers to the host at once
    max_rate_per_s: float | None = Field(None, gt=0)  # requests of all workers to the host in a second


class DownloadSettings(Settings):
    """HTTP, S3 and file fetching. Times in seconds, sizes in bytes."""

    connect_timeout_s: float = Field(5.0, gt=0)
    """Longest time until a connection to the host stands; then the row's try ends as a time-out."""
    read_timeout_s: float = Field(10.0, gt=0)
    """Longest silence between two pieces of an answer."""
    timeout_s: float = Field(20.0, gt=0)
    """Longest time for one try, from the connection to the last byte."""
    retries: int = Field(3, ge=0)
    """Further tries after a time-out, a lost connection or the answers 408, 425, 429 and 5xx; 0: none."""
    backoff_s: float = Field(0.5, ge=0)
    """Wait before the second try; doubled before each further one, with some chance in it."""
    backoff_max_s: float = Field(10.0, ge=0)
    """Longest wait between two tries; also the longest Retry-After that is honoured."""
    max_redirects: int = Field(5, ge=0)
    """How many redirects of one picture are followed; more are the status `too_many_redirects`."""
    max_bytes: int = Field(20_000_000, ge=1)
    """Largest picture, on the wire and after decompression; more is the status `too_large`."""
    concurrency: int = Field(64, ge=1)
    """How many requests one worker has under way at once."""
    per_host_concurrency: int = Field(32, ge=1)
    """How many of a worker's requests go to one host at once."""
    hosts: dict[str, HostSettings] = {}
    """Limits of the whole run by host name, `*.domain` or `*`: `max_concurrency` (requests at once) and
    `max_rate_per_s`. Example: `{"*.cdn.example": {max_rate_per_s: 50}}`
    """
    user_agent: Annotated[str, AfterValidator(_field_value)] = "aistudio/0.1"
    """What requests call themselves."""
    headers: Annotated[dict[str, str], AfterValidator(_fields)] = {}
    """Further header fields of every HTTP request. Example: `{Referer: "https://shop.example/"}`"""
    trust_env_proxy: bool = True
    """Whether the proxies in HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are used."""
    allow_private_addresses: bool = False
    """Whether pictures may come from loopback, link-local and private addresses; else they are refused, after
    redirects too.
    """
    url_map: dict[str, str] = {}
    """Beginnings of addresses and what they are replaced by, longest first. Example: `{"https://img.example/":
    "file:///mnt/images/"}`
    """
    cache: Annotated[str, AfterValidator(_shared_place)] | None = None
    """Folder or bucket that keeps fetched bytes, so that later runs need not fetch them; null: none."""
    cache_max_bytes: int = Field(10_000_000_000, ge=1_000_000)
    """Largest size of the cache; beyond it goes what was not asked for longest."""
    cache_max_age_s: float | None = Field(0.0, ge=0)
    """Up to which age a kept picture is taken without a request; older ones are asked about by their validators; null:
    taken at any age.
    """
