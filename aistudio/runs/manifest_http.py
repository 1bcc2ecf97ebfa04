"""Fetches a manifest by HTTP into a temporary file, whole or not at all, with the rules of the image downloads.

One GET per try: no HEAD, which signed addresses refuse. Redirects, proxies, `download.user_agent`, `download.headers`,
time-outs and retries are those of images/_http.py. Two rules differ. Private addresses are allowed, because the user
wrote this address, nobody else's data did. `download.timeout_s` and `download.max_bytes` do not hold: they are meant
for one picture.
"""

import asyncio
import gzip
import hashlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

import aiohttp

from aistudio.catalogue.lines import plain_name
from aistudio.config import DownloadSettings
from aistudio.errors import ManifestError
from aistudio.images._body import codings
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._http import HttpClient, reason_phrase
from aistudio.images._retry import backoff_s, parse_retry_after
from aistudio.images.urls import BadURL, parse_http_url
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import error_text

_LONGEST_S = 6 * 3600.0  # one try, however large the file; silence is bounded by download.read_timeout_s
_PIECE_BYTES = 1 << 20
_WHOLE = (200, 203)
_TRY_AGAIN = (202, 408, 425, 429)  # and all of 500 to 599
_GZIP = b"\x1f\x8b"


class Download(NamedTuple):
    """A manifest that arrived whole. The caller closes `stream`."""

    stream: BinaryIO  # a temporary file at its start
    size: int  # bytes in `stream`
    version: str  # the server's (ETag, else date, else length); the content's checksum where it names none
    sha256: str  # of the bytes in `stream`, hex


class Announced(NamedTuple):
    """What a server says of a file before it sends it."""

    size: int  # bytes
    version: str  # ETag, else date


def look_at(url: str, settings: DownloadSettings) -> Announced | None:
    """Ask for a file and take the answer's head alone; None where it does not name size and version.

    Raises:
        ManifestError: as fetch_manifest.
    """
    with _said_as_manifest_error(url):
        return asyncio.run(_looked(url, _rules(settings)))


def fetch_manifest(url: str, settings: DownloadSettings) -> Download:
    """Fetch all bytes of an http(s) address.

    Args:
        url: blanks and other signs that no address may hold are encoded as browsers do.
        settings: the section `download`.

    Raises:
        ManifestError: not an address, refused, out of reach, or cut off at every try; names address and sizes.
    """
    into = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    try:
        with _said_as_manifest_error(url):
            return asyncio.run(_fetch(url, _rules(settings), into))
    except BaseException:
        into.close()
        raise


def _rules(settings: DownloadSettings) -> DownloadSettings:
    """The settings with the rules that differ for a manifest."""
    headers = {"Accept-Encoding": "identity", **settings.headers}
    return settings.model_copy(update={"allow_private_addresses": True, "timeout_s": _LONGEST_S, "headers": headers})


@contextmanager
def _said_as_manifest_error(url: str) -> Iterator[None]:
    try:
        yield
    except (BadURL, FetchFailed) as e:
        reason = error_text(e.error if isinstance(e, FetchFailed) else e, 1000)
        raise ManifestError(f"manifest.path: {redact(url)}: cannot be read: {redact(reason)}") from None


async def _tried(client: HttpClient, url: str, settings: DownloadSettings) -> None:
    """Fetch an address, some times where another try may help."""
    target = parse_http_url(url.strip(), quote_spaces=True)
    async with client:
        for attempt in range(settings.retries + 1):
            try:
                await client.fetch(target)
                return
            except FetchFailed as e:
                if not e.retry or attempt == settings.retries:
                    e.error += f" ({attempt + 1} tries)" if attempt else ""
                    raise
                wait = backoff_s(settings, attempt, e.retry_after_s)
            await asyncio.sleep(wait)


async def _looked(url: str, settings: DownloadSettings) -> Announced | None:
    client = _HeadClient(settings)
    await _tried(client, url, settings)
    return client.said


async def _fetch(url: str, settings: DownloadSettings, into: BinaryIO) -> Download:
    client = _FileClient(settings, into, keep_gzip=plain_name(url).endswith(".gz"))
    await _tried(client, url, settings)
    digest = hashlib.file_digest(client.into, "sha256").hexdigest()  # type: ignore[arg-type]  # a file
    size = client.into.seek(0, io.SEEK_END)
    client.into.seek(0)
    return Download(client.into, size, client.version or f"sha256:{digest}", digest)


class _HeadClient(HttpClient):
    """Looks at a good answer's headers; the body is not read, which ends the connection."""

    said: Announced | None = None

    async def _finish(self, response: aiohttp.ClientResponse, final_url: str | None) -> Fetched:
        _refuse_bad_answer(response)
        named = response.headers.get("ETag") or response.headers.get("Last-Modified")
        length = None if "Transfer-Encoding" in response.headers else response.content_length
        if named and length is not None and not codings(response):
            self.said = Announced(length, named)
        return Fetched(Status.OK, final_url=final_url)


class _FileClient(HttpClient):
    """Writes the body of a good answer into `into`, from its start at each try."""

    def __init__(self, settings: DownloadSettings, into: BinaryIO, *, keep_gzip: bool) -> None:
        super().__init__(settings)
        self.into, self.version = into, ""
        self._keep_gzip = keep_gzip

    async def _finish(self, response: aiohttp.ClientResponse, final_url: str | None) -> Fetched:
        _refuse_bad_answer(response)
        announced = None if "Transfer-Encoding" in response.headers else response.content_length
        self.into.seek(0)
        self.into.truncate()
        came = 0
        try:
            async for chunk in response.content.iter_any():
                came += len(chunk)
                _write(self.into, chunk)
        except aiohttp.ClientPayloadError:
            raise _cut(came, announced) from None
        if announced is not None and came != announced:
            raise _cut(came, announced)
        if came == 0:
            raise FetchFailed(Status.EMPTY, "the server answered without a body")
        named = response.headers.get("ETag") or response.headers.get("Last-Modified")
        self.version = named or ("" if announced is None else str(announced))
        self.into = _decoded(self.into, codings(response), self._keep_gzip)
        return Fetched(Status.OK, num_bytes=came, final_url=final_url)


def _refuse_bad_answer(response: aiohttp.ClientResponse) -> None:
    code, length = response.status, response.headers.get("Content-Length", "")
    whole = code == 206 and response.headers.get("Content-Range", "").startswith("bytes 0-")
    if code in _WHOLE or (whole and response.headers["Content-Range"].endswith(f"/{length}")):
        return
    raise FetchFailed(
        Status.HTTP_ERROR,
        error_text(f"the server answered {code} {reason_phrase(response)}", 200),
        http_status=code,
        retry=code in _TRY_AGAIN or code >= 500,
        retry_after_s=parse_retry_after(response.headers.get("Retry-After")),
    )


def _cut(came: int, announced: int | None) -> FetchFailed:
    of = "" if announced is None else f" of {announced:,}"
    return FetchFailed(Status.CONNECTION_ERROR, f"the body ended early: {came:,}{of} bytes came", retry=True)


def _write(into: BinaryIO, data: bytes) -> None:
    try:
        into.write(data)
    except OSError as e:
        raise ManifestError(
            f"manifest.path: no room for a copy of the manifest in {tempfile.gettempdir()} ({e.strerror or e}); "
            "set TMPDIR to a folder on a larger disk"
        ) from None


def _decoded(body: BinaryIO, encodings: list[str], keep_gzip: bool) -> BinaryIO:
    """The body with the transport's compression undone.

    Servers mark stored .gz files as `Content-Encoding: gzip`, too: with `keep_gzip` one that holds no further gzip
    stays as it is.
    """
    for encoding in encodings:
        body.seek(0)
        plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        try:
            if encoding == "deflate":
                for piece in _inflated(body):
                    _write(plain, piece)
            else:
                with gzip.GzipFile(fileobj=body) as source:
                    shutil.copyfileobj(source, plain, _PIECE_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            plain.close()
            raise FetchFailed(Status.CONNECTION_ERROR, f"the {encoding} body is damaged: {e}", retry=True) from None
        plain.seek(0)
        if keep_gzip and encoding != "deflate" and plain.read(2) != _GZIP:
            plain.close()
            continue
        body.close()
        body = plain
    body.seek(0)
    return body


def _inflated(body: BinaryIO) -> Iterator[bytes]:
    """The content of a deflate stream, with zlib's header or, as some servers send it, without."""
    head = body.read(1)
    body.seek(0)
    inflater = zlib.decompressobj(15 if head and head[0] & 0x0F == 8 else -15)
    while data := body.read(_PIECE_BYTES):
        while data:
            yield inflater.decompress(data, _PIECE_BYTES)
            data = inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise EOFError("it ends early")
