"""Image addresses as text: what is a usable URL and where `url_map` sends it.

Nothing here touches the network; which IP addresses may be connected to is decided in _addresses.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from yarl import URL

from aistudio.parts import Part, split_part

MAX_URL_LENGTH = 8192  # bytes; common servers refuse longer request lines (nginx and Apache: 8 kB)
MAX_LOCATION_CHARS = 65_536  # of a redirect: signed addresses of 8 kB and more occur, and are stored as final_url

# Everything that RFC 3986 allows in a path or query, and "%": what is valid already must reach the server byte for
# byte, because CDNs have keys such as `TB2_!!0-alitrip.jpg` and sign paths. [ ] | ^ ` { } \ are sent raw by common
# clients too, and servers take them.
_KEEP = "%!$&'()*+,;=:@/?-._~[]|^`{}\\\"<>"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BUCKETS: dict[str, Literal["s3", "gs", "az"]] = {"s3": "s3", "gs": "gs", "az": "az"}
_SPACE = re.compile(r"\s")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Scheme, host, port, and path with query of an address that needs no encoding, as almost all are; without a fragment.
_PLAIN = re.compile(
    r"(https?)://([A-Za-z0-9_.-]+)(:[1-9][0-9]{0,4})?(/[A-Za-z0-9_.~!$&'()*+,;=:@/%-]*(?:\?[A-Za-z0-9_.~!$&'()*+,;=:@/%?-]+)?)"
)


class BadURL(ValueError):
    """The text is not an address that can be fetched; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where to fetch from: `url` for http, `path` for a file, `object` (bucket, key) for s3, gs and az.

    With `part`, it is a picture inside a file, and `path` is that file's place, wherever it is (parts.py).
    """

    scheme: Literal["http", "file", "s3", "gs", "az", "hf"]
    url: URL | None = None
    path: str | None = None
    object: tuple[str, str] | None = None
    part: Part | None = None


def map_url(url: str, url_map: Mapping[str, str]) -> str:
    """`url` with its longest prefix in `url_map` replaced; unchanged when there is none."""
    prefix = max((p for p in url_map if p and url.startswith(p)), key=len, default=None)
    return url if prefix is None else url_map[prefix] + url[len(prefix) :]


def parse_target(text: str, url_map: Mapping[str, str] | None = None) -> Target:
    """Where `text` (a URL or a plain local path), rewritten by `url_map`, is to be fetched from.

    Blanks around it are dropped. A plain path is taken literally; a file:// URL is percent-decoded and loses its
    query. What `url_map` turns into a file may not climb out of its folder with "..".

    Raises:
        BadURL: with the reason.
    """
    text = text.strip()
    if not text:
        raise BadURL("the URL is empty")
    if len(text.encode(errors="replace")) > MAX_URL_LENGTH:
        raise BadURL(f"the URL is longer than {MAX_URL_LENGTH:,} bytes")
    mapped = map_url(text, url_map or {})
    match = _SCHEME.match(mapped)
    scheme = match.group(1).lower() if match else ""
    place, part = split_part(mapped)
    if part is not None and scheme not in ("http", "https"):
        return _inside(scheme or "file", place, part, climbs=mapped != text and ".." in Path(place).parts)
    if scheme in ("http", "https"):
        return Target("http", url=parse_http_url(mapped))
    if in_bucket := _BUCKETS.get(scheme):
        bucket, _, key = mapped[5:].partition("/")
        if mapped[2:5] != "://" or not bucket or not key:
            raise BadURL(f"expected {scheme}://{'container' if scheme == 'az' else 'bucket'}/key")
        return Target(in_bucket, object=(bucket, key))
    if scheme and scheme != "file":
        raise BadURL(f"the scheme {scheme}: is not fetched; use http, https, s3, gs, az, file or a plain path")
    path = _file_url_path(mapped) if scheme == "file" else mapped
    if "\0" in path:
        raise BadURL("the path holds a NUL character")
    if mapped != text and ".." in Path(path).parts:
        raise BadURL("the URL climbs out of the mapped folder with '..'")
    return Target("file", path=path)


def _inside(scheme: str, place: str, part: Part, *, climbs: bool) -> Target:
    """A picture inside a file."""
    if climbs:
        raise BadURL("the URL climbs out of the mapped folder with '..'")
    if scheme == "file":
        path = _file_url_path(place) if place[:5].lower() == "file:" else place
        if "\0" in path:
            raise BadURL("the path holds a NUL character")
        return Target("file", path=path, part=part)
    if scheme not in (*_BUCKETS, "hf") or not re.match(r"://[^/]+/.", place[len(scheme) :]):
        raise BadURL(f"{scheme}: is no place of a file with pictures inside; use s3, gs, az, hf or a path")
    return Target(cast(Literal["s3", "gs", "az", "hf"], scheme), path=place, part=part)


def parse_http_url(text: str, *, quote_spaces: bool = False) -> URL:
    """A yarl URL whose path goes over the wire as it is written; other than ASCII is IDNA- or percent-encoded.

    Args:
        text: an absolute URL.
        quote_spaces: encode blanks as browsers do (for Location headers) rather than refuse them.

    Raises:
        BadURL: with the reason.
    """
    if (plain := _PLAIN.fullmatch(text)) is not None:
        scheme, host, port, rest = plain.groups(default="")
        if not port or int(port[1:]) < 1 << 16:
            return URL(f"{scheme}://{_ascii_host(host.lower())}{port}{rest}", encoded=True)
    return _parse_any_http_url(text, quote_spaces=quote_spaces)


def _parse_any_http_url(text: str, *, quote_spaces: bool) -> URL:
    if _CONTROL.search(text):
        raise BadURL("the URL holds a control character")
    if _SURROGATE.search(text):
        raise BadURL("the URL holds a lone surrogate, which is not valid Unicode")
    if not quote_spaces and _SPACE.search(text):
        raise BadURL("the URL holds a blank; write it as %20")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        # Python's own text quotes the "port", which may be a password: http://user:secret/x@host
        raise BadURL("not a valid URL: its host or port is malformed") from None
    if parts.scheme not in ("http", "https"):
        raise BadURL(f"the scheme {parts.scheme or '(none)'}: is not http or https")
    if not host:
        raise BadURL("the URL has no host")
    user, at, _ = parts.netloc.rpartition("@")
    netloc = f"{quote(user, safe=_KEEP)}{at}{_ascii_host(host)}" + ("" if port is None else f":{port}")
    path, query = quote(parts.path or "/", safe=_KEEP), quote(parts.query, safe=_KEEP)
    try:
        return URL(urlunsplit((parts.scheme, netloc, path, query, "")), encoded=True)
    except (ValueError, TypeError) as e:
        raise BadURL(f"not a valid URL: {e}") from None


@lru_cache(4096)
def _ascii_host(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    try:
        ascii_host = URL.build(scheme="http", host=host).raw_host or ""  # yarl applies IDNA 2008, then 2003
    except (ValueError, UnicodeError) as e:
        raise BadURL(f"not a valid host name: {e}") from None
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", ascii_host) or ".." in ascii_host or len(ascii_host) > 255:
        raise BadURL(f"not a valid host name: {host[:80]!r}")
    return ascii_host


def _file_url_path(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadURL("not a valid file URL: its host is malformed") from None
    if parts.netloc not in ("", "localhost"):
        raise BadURL(f"file://{parts.netloc}/...: a file URL has no host; write file:///path")
    if not parts.path:
        raise BadURL("the file URL has no path")
    return unquote(parts.path, errors="surrogateescape")  # as Python names files whose bytes are not UTF-8
