"""Arbitrary bytes and lone surrogates through all places of aistudio/images that make a status: each is storable."""

import json
from collections.abc import Iterator

import aiohttp
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aistudio.config import DownloadSettings, ImageSpec, ImagesSettings, StoreSettings
from aistudio.images._blocking import _s3_failure, _s3_refusal, read_file
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._http import _failure
from aistudio.images.decode import Decoded, decode
from aistudio.images.download import Downloader
from aistudio.schema import Status

_FUZZ = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)  # lone surrogates included
_OUTSIDE = _TEXT | st.binary(max_size=80).map(lambda b: b.decode("utf-8", "surrogateescape"))
_FIELD = st.binary(max_size=60).map(lambda b: b.translate(None, b"\r\n\0"))


def _storable(*outcomes: Fetched | Decoded) -> None:
    for one in outcomes:
        texts = [one.error, one.final_url] if isinstance(one, Fetched) else [one.error]
        assert pa.array(texts, pa.string()).to_pylist() == texts
        assert json.loads(json.dumps(texts)) == texts
        assert all("\0" not in t and len(t) <= 65_536 for t in texts if t is not None)
        assert len(one.error or "") <= 2_000
        assert (one.status is Status.OK) == (one.error is None)
        if isinstance(one, Fetched):
            assert pa.array([one.http_status], pa.int32()).to_pylist() == [one.http_status]
            assert pa.array([one.num_bytes], pa.int64()).to_pylist() == [one.num_bytes]
        else:
            assert pa.array([one.width, one.height], pa.int32()).to_pylist() == [one.width, one.height]


def _downloader() -> Downloader:
    allowed = DownloadSettings(allow_private_addresses=True, retries=1, backoff_s=0, backoff_max_s=0, timeout_s=20)
    return Downloader(allowed, StoreSettings(retries=0, timeout_s=1))


@pytest.fixture
def downloader() -> Iterator[Downloader]:
    with _downloader() as one:
        yield one


@_FUZZ
@given(
    code=st.sampled_from([200, 202, 302, 404, 429, 503]) | st.integers(100, 999),
    reason=_FIELD,
    fields=st.lists(
        st.tuples(
            st.sampled_from([b"Location", b"Content-Encoding", b"Retry-After", b"Set-Cookie", b"Content-Type", b"X"]),
            _FIELD,
        ),
        max_size=4,
    ),
    body=st.binary(max_size=40),
)
def test_any_answer(image_server, code: int, reason: bytes, fields: list, body: bytes) -> None:
    head = b"HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: close\r\n" % (code, reason, len(body))
    answer = head + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body
    image_server.add_raw("odd/x", answer)
    image_server.hits.clear()
    with _downloader() as downloader:  # one that remembers 429 and 503 would wait for its host
        got = dict(downloader.stream([(image_server.url("odd/x"), None)]))[0]
    _storable(got)
    if got.status is Status.OK:
        _storable(decode(got.body or b"", [], ImagesSettings()))


@_FUZZ
@given(first=st.binary(max_size=300))
def test_any_bytes_as_an_answer(image_server, downloader: Downloader, first: bytes) -> None:
    image_server.add_raw("odd/y", first)
    _storable(*dict(downloader.stream([(image_server.url("odd/y"), None)])).values())


@settings(_FUZZ, max_examples=60)
@given(
    prefix=st.sampled_from(["", "/", "file:///", "file://", "http://", "https://[", "http://u:p@", "http:", "s3:"]),
    text=_OUTSIDE,
    tail=_OUTSIDE,
)
def test_any_text_as_an_address(monkeypatch: pytest.MonkeyPatch, prefix: str, text: str, tail: str) -> None:
    for name in ("http_proxy", "https_proxy"):  # no name is looked up, no host is asked
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    where = f"{prefix}{text}.invalid/{tail}" if prefix.startswith("http") else f"{prefix}{text}{tail}"
    blocked = DownloadSettings(retries=0, timeout_s=5)
    nowhere = StoreSettings(endpoint_url="http://127.0.0.1:9", retries=0, timeout_s=1)
    with Downloader(blocked, nowhere) as downloader:
        _storable(*dict(downloader.stream([(where, None), ("/nonexistent", where)])).values())


@_FUZZ
@given(text=_OUTSIDE)
def test_any_file_name(text: str) -> None:
    try:
        outcome = read_file("/nonexistent/" + text, 10)
    except FetchFailed as e:
        outcome = e.outcome(2)
    _storable(outcome)


@_FUZZ
@given(text=_OUTSIDE, code=_OUTSIDE, status=st.integers() | st.none())
def test_any_refusal_of_s3_and_any_error_of_a_library(text: str, code: str, status: int | None) -> None:
    response = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}
    _storable(_s3_refusal(code, text, response).outcome(), _s3_refusal(code, text, None).outcome())
    for error in (
        OSError(text), ValueError(text), aiohttp.ClientError(text), aiohttp.ClientPayloadError(text),
        aiohttp.InvalidURL(text), aiohttp.ServerDisconnectedError(text), OSError(5, text), TimeoutError(text),
    ):  # fmt: skip
        _storable(_failure(error, DownloadSettings()).outcome(3), _s3_failure(error).outcome())


@_FUZZ
@given(text=_OUTSIDE, number=st.integers())
def test_outcomes_themselves(text: str, number: int) -> None:
    _storable(Fetched(Status.HTTP_ERROR, text, number, number, text), FetchFailed(Status.TIMEOUT, text * 100).outcome())
    _storable(Decoded(Status.UNSUPPORTED_IMAGE, text * 100, number, -number))


@settings(max_examples=400, deadline=None)
@given(
    head=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBPVP8X", b"GIF89a", b"BM", b"II*\0", b"MM\0+",
         b"\0\0\0\x1cftypavif", b"\0\0\2\0", b"<html>", b"{", b"P5 ", b"%PDF"]
    ),
    body=st.binary(max_size=200) | _OUTSIDE.map(lambda t: t.encode("utf-8", "surrogatepass")),
)  # fmt: skip
def test_any_bytes_as_an_image(head: bytes, body: bytes) -> None:
    _storable(decode(head + body, [ImageSpec(size=16)], ImagesSettings(max_pixels=1_000_000)))
