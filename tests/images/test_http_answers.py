"""Answers that are unusual but occur: reason phrases, codings, long and raw header fields, "come again"."""

import gzip
import zlib

import pytest

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images._http import _field_limit
from aistudio.images._retry import parse_retry_after
from aistudio.images.download import Downloader, Fetched
from aistudio.schema import Status


def _fetch(*urls: str, **changes) -> list[Fetched]:
    base = {"retries": 2, "backoff_s": 0.01, "backoff_max_s": 0.1, "allow_private_addresses": True, "timeout_s": 20}
    with Downloader(DownloadSettings.model_validate(base | changes), StoreSettings()) as downloader:
        got = dict(downloader.stream([(url, None) for url in urls]))
    return [got[i] for i in range(len(urls))]


def _answer(status: bytes, fields: bytes = b"", body: bytes = b"", length: int | None = None) -> bytes:
    size = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return b"HTTP/1.1 " + status + b"\r\n" + size + fields + b"Connection: close\r\n\r\n" + body


@pytest.mark.parametrize(
    ("phrase", "want"),
    [
        ("Página não encontrada".encode("latin-1"), "Página não encontrada"),
        ("页面未找到".encode(), "页面未找到"),
        ("页面未找到".encode("gbk"), "Ò³ÃæÎ´ÕÒµ½"),
        (b"\xed\xa0\x80", "í \\x80"),
        (b"x" * 5000, "x" * 100),
        (b"a \x1b[31mred", "a"),  # refused by the parser, or without the control character
        (b"", ""),
    ],
)
def test_reason_phrases(image_server, phrase: bytes, want: str) -> None:
    (got,) = _fetch(image_server.add_raw("reason/x", _answer(b"404 " + phrase)), retries=0)
    if b"\x1b" in phrase:
        assert "\x1b" not in (got.error or "")
        return
    assert (got.status, got.http_status) == (Status.HTTP_ERROR, 404)
    assert (got.error or "").startswith(f"the server answered 404 {want}".rstrip())
    assert len(got.error or "") <= 200


def _gzip(data):
    """Of no time: bytes become names of tests, which must be the same in every process."""
    return gzip.compress(data, mtime=0)


def _deflate(data: bytes) -> bytes:
    return zlib.compress(data)


@pytest.mark.parametrize(
    ("coding", "steps"),
    [
        ("aws-chunked", []),
        ("UTF-8", []),
        ("none", []),
        ("identity, binary", []),
        ("aws-chunked,gzip", [gzip.compress]),
        ("gzip, aws-chunked", [gzip.compress]),
        (" GZIP ,, X-GZIP", [gzip.compress, gzip.compress]),
        ("gzip, deflate", [gzip.compress, _deflate]),
        ("deflate, identity, gzip", [_deflate, gzip.compress]),
        ("gzip\r\nContent-Encoding: deflate", [gzip.compress, _deflate]),
    ],
)
def test_codings_are_undone_from_the_last_to_the_first(image_server, coding: str, steps: list) -> None:
    body = image_server.image
    for step in steps:
        body = step(body)
    (got,) = _fetch(image_server.add("coded/x", body, headers=f"Content-Encoding: {coding}\r\n"))
    assert got.status is Status.OK, got.error
    assert got.body == image_server.image


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", b"x", Status.CONNECTION_ERROR),
        ("gzip, zstd", b"x", Status.CONNECTION_ERROR),
        ("gzip, " * 6, _gzip(b"x"), Status.CONNECTION_ERROR),
        ("gzip, gzip", _gzip(_gzip(b"x" * 100)[:-4]), Status.CONNECTION_ERROR),
        ("gzip, gzip", _gzip(_gzip(bytes(5_000_000))), Status.TOO_LARGE),
        ("gzip, deflate", zlib.compress(bytes(5_000_000)), Status.TOO_LARGE),  # already the first step is a bomb
        ("gzip, gzip", _gzip(_gzip(b"")), Status.EMPTY),
    ],
)
def test_codings_that_cannot_be_undone(image_server, coding: str, body: bytes, status: Status) -> None:
    url = image_server.add("coded/y", body, headers=f"Content-Encoding: {coding}\r\n")
    (got,) = _fetch(url, retries=0, max_bytes=1_000_000)
    assert got.status is status, got.error


def test_the_limit_holds_exactly_behind_codings(image_server) -> None:
    body = gzip.compress(_deflate(bytes(10_000)))
    url = image_server.add("coded/z", body, headers="Content-Encoding: deflate, gzip\r\n")
    assert _fetch(url, max_bytes=10_000)[0].num_bytes == 10_000
    assert _fetch(url, max_bytes=9_999)[0].status is Status.TOO_LARGE


def test_long_header_fields(image_server) -> None:
    image = image_server.image
    policy = b"Content-Security-Policy: " + b"img-src a.example; " * 12_000 + b"\r\n"
    many = b"".join(b"X-Field-%d: %s\r\n" % (i, b"v" * 500) for i in range(200))
    token = b"t" * 30_000
    urls = [
        image_server.add_raw("long/policy", _answer(b"200 OK", policy, image)),
        image_server.add_raw("long/many", _answer(b"200 OK", many, image)),
        image_server.add_raw("long/location", _answer(b"302 Found", b"Location: /ok/a.jpg?token=" + token + b"\r\n")),
        image_server.add_raw("long/reason", _answer(b"200 " + b"r" * 50_000, b"", image)),
    ]
    got = _fetch(*urls)
    assert [g.status for g in got] == [Status.OK] * 4, [g.error for g in got]
    assert any(path.endswith("t" * 30_000) for path in image_server.hits)
    assert (got[2].final_url or "").endswith("/ok/a.jpg?token=***")  # asked for with it, stored without
    beyond = _answer(b"302 Found", b"Location: /ok/a.jpg?token=" + b"t" * 70_000 + b"\r\n")
    endless = _answer(b"200 OK", b"X-Field: " + b"v" * 3_000_000 + b"\r\n", image)
    far, never = _fetch(
        image_server.add_raw("long/far", beyond), image_server.add_raw("long/never", endless), retries=0
    )
    assert far.status is Status.BAD_URL
    assert never.status is Status.CONNECTION_ERROR
    assert max(len(far.error or ""), len(never.error or "")) < 2_000


@pytest.mark.parametrize(
    ("location", "end"),
    [
        ("/ok/café".encode("latin-1"), "/ok/caf%E9"),
        ("/ok/café".encode(), "/ok/caf%C3%A9"),
        ("/ok/图片?q=图".encode("gbk"), "/ok/%CD%BC%C6%AC?q=%CD%BC"),
        (b"/ok/\xff\xfe%20", "/ok/%FF%FE%20"),
        (b"caf\xe9.jpg", "/raw/caf%E9.jpg"),
    ],
)
def test_raw_bytes_of_a_location_are_sent_as_they_came(image_server, location: bytes, end: str) -> None:
    url = image_server.add_raw("raw/x", _answer(b"302 Found", b"Location: " + location + b"\r\n"))
    (got,) = _fetch(url)
    assert got.status is Status.OK, got.error
    assert (got.final_url or "").endswith(end)
    assert any(path.endswith(end) for path in image_server.hits)


def test_a_location_whose_host_is_no_host(image_server) -> None:
    url = image_server.add_raw("raw/y", _answer(b"302 Found", b"Location: http://\xe9\xff.example/x\r\n"))
    assert _fetch(url)[0].status is Status.BAD_URL


@pytest.mark.parametrize("code", [408, 425, 429, 500, 503, 599])
def test_answers_that_deserve_another_try(image_server, code: int) -> None:
    path = f"again/{code}"
    url = image_server.add_raw(path, _answer(b"%d Text" % code), _answer(b"200 OK", b"", image_server.image))
    assert _fetch(url)[0].status is Status.OK
    assert image_server.hits["/" + path] == 2


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 423, 451])
def test_answers_that_do_not(image_server, code: int) -> None:
    path = f"never/{code}"
    url = image_server.add_raw(path, _answer(b"%d Text" % code), _answer(b"200 OK", b"", image_server.image))
    assert _fetch(url)[0].http_status == code
    assert image_server.hits["/" + path] == 1


def test_accepted_without_a_body_means_come_again(image_server) -> None:
    accepted, image = _answer(b"202 Accepted", b"Retry-After: 0\r\n"), image_server.image
    later = image_server.add_raw("accepted/x", accepted, accepted, _answer(b"200 OK", b"", image))
    never = image_server.add_raw("accepted/y", accepted)
    at_once = image_server.add_raw("accepted/z", _answer(b"202 Accepted", b"", image))
    none = image_server.add_raw("accepted/n", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    got = _fetch(later, never, at_once, none)
    assert [g.status for g in got] == [Status.OK, Status.EMPTY, Status.OK, Status.EMPTY]
    assert [g.http_status for g in got] == [200, 202, 202, 204]
    assert [image_server.hits[f"/accepted/{x}"] for x in "xyzn"] == [3, 3, 1, 1]


def test_two_lengths_are_no_http(image_server) -> None:
    """What several readers may take for different answers is refused (RFC 9112, 6.3 and 11.2); docs/images.md."""
    image = image_server.image
    double = _answer(b"200 OK", b"Content-Length: %d\r\n" % len(image), image)
    chunked = _answer(b"200 OK", b"Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(image), image))
    got = _fetch(image_server.add_raw("double/x", double), image_server.add_raw("double/y", chunked), retries=0)
    assert [g.status for g in got] == [Status.CONNECTION_ERROR] * 2
    assert all("not valid HTTP" in (g.error or "") for g in got)


@pytest.mark.parametrize(
    "value", ["Fri, 31 Dec 9999 23:59:59 -2359", "Sat, 01 Jan 0001 00:00:00 +2359", "9" * 400, "½"]
)
def test_odd_retry_after(value: str) -> None:
    got = parse_retry_after(value)
    assert got is None or got >= 0


def test_an_aiohttp_that_cannot_bound_the_number_of_fields_is_used_all_the_same():
    """The lowest one that pyproject.toml allows knows no max_headers."""

    class Older:
        def __init__(self, *, max_field_size=8190):
            pass

    class Newer(Older):
        def __init__(self, *, max_field_size=8190, max_headers=128):
            pass

    assert _field_limit(Older) == {} and _field_limit(Newer) == {"max_headers": 256}
