"""Reading a response body within `max_bytes`, counted on the wire and after decompression.

Decompression is done here and not by aiohttp, piece by piece with a cap on each piece, so that a bomb costs no more
memory than the limit.
"""

import zlib

import aiohttp

from aistudio.images._fetched import FetchFailed
from aistudio.schema import Status
from aistudio.storable import error_text

ACCEPT_ENCODING = "gzip, deflate"  # what `_Inflater` can undo with a bound; brotli and zstd are not asked for
_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})
_FOREIGN = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz", "pack200-gzip", "exi"})  # IANA's others
_MAX_CODINGS = 5  # as curl


class _Inflater:
    """Incremental gzip (several members) and deflate (zlib-wrapped or raw, as some servers send it)."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding in ("gzip", "x-gzip")
        self._stream: zlib._Decompress | None = None
        self._member_ended = False

    def feed(self, data: bytes, limit: int) -> bytes:
        """Up to `limit` bytes of output; a longer output means "too large" and the stream is not used again."""
        out = bytearray()
        while data and len(out) < limit:
            if self._stream is None or self._stream.eof:
                if self._stream is not None and not (self._gzip and data[:1] == b"\x1f"):
                    break  # padding after the end; gzip itself ignores it, too
                self._stream = zlib.decompressobj(self._wbits(data))
            out += self._stream.decompress(data, limit - len(out))
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return bytes(out)

    def _wbits(self, data: bytes) -> int:
        if self._gzip:
            return 31
        return 15 if data[0] & 0x0F == 8 else -15

    def complete(self) -> bool:
        return self._stream is not None and self._stream.eof


def codings(response: aiohttp.ClientResponse) -> list[str]:
    """Return the codings of a body in the order in which they are to be undone: the last applied first.

    Raises:
        FetchFailed: one that was not asked for (br, zstd, ...), or too many.
    """
    header = ",".join(response.headers.getall("Content-Encoding", []))
    words = [w for w in (word.strip().lower() for word in header.split(",")) if w]
    foreign = next((w for w in words if w in _FOREIGN), None)
    if foreign is not None:
        raise FetchFailed(Status.CONNECTION_ERROR, f"the server answered in {foreign!r}, which was not asked for")
    names = [w for w in reversed(words) if w in _KNOWN]
    if len(names) > _MAX_CODINGS:
        raise FetchFailed(Status.CONNECTION_ERROR, f"the body is compressed {len(names)} times over")
    return names


class _Codings:
    """The codings of a body, undone from the last applied to the first, each within `max_bytes`.

    Words that are no coding (`aws-chunked`, `UTF-8`, `identity`) are passed over, as browsers and curl do.
    """

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        self._names = codings(response)
        self._steps = [_Inflater(name) for name in self._names]
        self._room = [max_bytes + 1] * len(self._steps)

    def __str__(self) -> str:
        return ", ".join(self._names)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def feed(self, data: bytes) -> bytes:
        """The plain bytes of the next piece. Raises FetchFailed: damaged, or more than max_bytes after some step."""
        for number, step in enumerate(self._steps):
            data = _inflate(step, data, self._room[number])
            self._room[number] -= len(data)
            if self._room[number] == 0:
                raise _Overflow
        return data

    def complete(self) -> bool:
        return all(step.complete() for step in self._steps)


class _Overflow(Exception):
    """More than max_bytes came out of a step."""


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The decompressed body.

    Raises:
        FetchFailed: too_large, empty, connection_error (damaged or unknown compression).
        aiohttp.ClientError: the connection was lost.
    """
    if (response.content_length or 0) > max_bytes:
        raise _too_large(f"the server announced {response.content_length:,} bytes", max_bytes)
    inflater = _Codings(response, max_bytes)
    wire = 0
    body = bytearray()
    async for chunk in response.content.iter_any():
        wire += len(chunk)
        if wire > max_bytes:
            raise _too_large(f"more than {max_bytes:,} bytes came", max_bytes)
        try:
            body += inflater.feed(chunk)
        except _Overflow:
            raise _too_large(f"{wire:,} bytes inflate to more than {max_bytes:,}", max_bytes) from None
    if wire == 0:
        raise FetchFailed(Status.EMPTY, "the server answered without a body", http_status=response.status)
    if inflater and not inflater.complete():
        raise FetchFailed(Status.CONNECTION_ERROR, f"the {inflater} body ends early", retry=True)
    if not body:
        raise FetchFailed(Status.EMPTY, f"the {inflater} body is empty", http_status=response.status)
    return bytes(body)


def _inflate(inflater: _Inflater, chunk: bytes, limit: int) -> bytes:
    try:
        return inflater.feed(chunk, limit)
    except zlib.error as e:
        text = f"the compressed body is damaged: {error_text(e)}"
        raise FetchFailed(Status.CONNECTION_ERROR, text, retry=True) from None


def _too_large(what: str, max_bytes: int) -> FetchFailed:
    return FetchFailed(Status.TOO_LARGE, f"{what}; download.max_bytes is {max_bytes:,}")
