"""Reading a response body within `max_bytes`, counted on the wire and after decompression.

Decompression is done here and not by aiohttp, piece by piece with a cap on each piece, so that a bomb costs no more
memory than the limit.
"""

import zlib

import aiohttp

from aistudio.images._fetched import FetchFailed
from aistudio.schema import Status

ACCEPT_ENCODING = "gzip, deflate"  # what `_Inflater` can undo with a bound; brotli and zstd are not asked for


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


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The decompressed body.

    Raises:
        FetchFailed: too_large, empty, connection_error (damaged or unknown compression).
        aiohttp.ClientError: the connection was lost.
    """
    if (response.content_length or 0) > max_bytes:
        raise _too_large(f"the server announced {response.content_length:,} bytes", max_bytes)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise FetchFailed(Status.CONNECTION_ERROR, f"the server answered in {encoding[:40]!r}, which was not asked for")
    inflater = _Inflater(encoding) if encoding not in ("", "identity") else None
    wire = 0
    body = bytearray()
    async for chunk in response.content.iter_any():
        wire += len(chunk)
        if wire > max_bytes:
            raise _too_large(f"more than {max_bytes:,} bytes came", max_bytes)
        body += chunk if inflater is None else _inflate(inflater, chunk, max_bytes + 1 - len(body))
        if len(body) > max_bytes:
            raise _too_large(f"{wire:,} bytes inflate to more than {max_bytes:,}", max_bytes)
    if wire == 0:
        raise FetchFailed(Status.EMPTY, "the server answered without a body", http_status=response.status)
    if inflater is not None and not inflater.complete():
        raise FetchFailed(Status.CONNECTION_ERROR, f"the {encoding} body ends early", retry=True)
    if not body:
        raise FetchFailed(Status.EMPTY, f"the {encoding} body is empty", http_status=response.status)
    return bytes(body)


def _inflate(inflater: _Inflater, chunk: bytes, limit: int) -> bytes:
    try:
        return inflater.feed(chunk, limit)
    except zlib.error as e:
        raise FetchFailed(Status.CONNECTION_ERROR, f"the compressed body is damaged: {e}", retry=True) from None


def _too_large(what: str, max_bytes: int) -> FetchFailed:
    return FetchFailed(Status.TOO_LARGE, f"{what}; download.max_bytes is {max_bytes:,}")
