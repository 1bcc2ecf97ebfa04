"""A local HTTP server of images that misbehaves on request: `/<fault>/anything` does what the fault's name says.

Bound to 127.0.0.1 on a free port, in a thread of its own, until `close()`. Paths given to `add` answer as told; every
other path without a fault answers with one drawn JPEG. `hits` counts requests per path as it was sent, `heads` keeps
the last request head per path, `peak` is the largest number of requests being answered at once.

Faults: 404 403 410 500 503 429 (Retry-After: 1 once) 429date flaky (500 twice, then fine) timeout slow stall truncate
reset reset_once empty html garbage cut_jpeg huge redirect redirect_loop redirect_file redirect_s3 redirect_private
redirect_hex redirect_cookie gzip gzip_bomb gzip_cut gzip_bad deflate deflate_raw brotli bad_header no_length chunked
chunked_cut.
"""

import asyncio
import gzip
import io
import random
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from email.utils import formatdate

from PIL import Image, ImageDraw

SILENCE_S = 60.0  # a "timeout" ends by itself


def draw_jpeg(seed: int = 0, size: tuple[int, int] = (160, 120), quality: int = 85) -> bytes:
    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        pen.ellipse((x - 20, y - 15, x + 20, y + 15), fill=tuple(rng.randrange(256) for _ in range(3)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


class ImageServer:
    """`with ImageServer() as server: server.url("404/a.jpg")`."""

    def __init__(self, *, latency_s: float = 0.0, ssl_context: ssl.SSLContext | None = None) -> None:
        self.image = draw_jpeg()
        self.latency_s = latency_s
        self._ssl = ssl_context
        self.hits: Counter[str] = Counter()
        self.heads: dict[str, str] = {}
        self.not_modified: Counter[str] = Counter()  # answers 304 per path
        self._validators: dict[str, tuple[str | None, str | None]] = {}
        self.peak = self.active = 0
        self._pages: dict[str, tuple[int, bytes, str]] = {}
        self._raw: dict[str, tuple[bytes, ...]] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="image-server", daemon=True)
        self._thread.start()
        assert self._started.wait(10), "the image server did not start"

    def url(self, path: str = "ok/image.jpg", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path.lstrip('/')}"

    def add(
        self,
        path: str,
        body: bytes,
        *,
        status: int = 200,
        headers: str = "",
        etag: str | None = None,
        last_modified: str | None = None,
    ) -> str:
        """Answer `path` with this; `headers` are whole lines ending in CRLF. Returns the URL.

        With `etag` or `last_modified` a conditional request that names it is answered with 304.
        """
        fields = (("ETag", etag), ("Last-Modified", last_modified))
        headers += "".join(f"{name}: {value}\r\n" for name, value in fields if value is not None)
        self._pages["/" + path.lstrip("/")] = (status, body, headers)
        self._validators["/" + path.lstrip("/")] = (etag, last_modified)
        return self.url(path)

    def add_raw(self, path: str, *answers: bytes) -> str:
        """Answer `path` with these bytes as they are, the last ones for ever, and close. Returns the URL."""
        self._raw["/" + path.lstrip("/")] = answers
        return self.url(path)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> "ImageServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=512, ssl=self._ssl)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split(" ", 2)[1]
                self.hits[path] += 1
                self.heads[path] = head
                self.active += 1
                self.peak = max(self.peak, self.active)
                try:
                    await asyncio.sleep(self.latency_s)
                    keep = await self._answer(path, head, writer)
                    await writer.drain()
                finally:
                    self.active -= 1
                if not keep:
                    break
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, body: bytes, *, status=200, headers="", length=None) -> None:
        size = len(body) if length is None else length
        writer.write(f"HTTP/1.1 {status} Text\r\nContent-Length: {size}\r\n{headers}\r\n".encode("latin-1") + body)

    async def _answer(self, path: str, head: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection must close."""
        if path in self._raw:
            answers = self._raw[path]
            writer.write(answers[min(self.hits[path], len(answers)) - 1])
            return False
        if path in self._pages:
            status, body, headers = self._pages[path]
            if self._is_unchanged(path, head):
                self.not_modified[path] += 1
                status, body = 304, b""
            self._send(writer, body, status=status, headers=headers)
            return True
        fault = path.split("?")[0].split("/")[1]
        method = getattr(self, f"_fault_{fault}", None)
        if method is not None:
            return await method(path, head, writer) is not False
        if fault in ("404", "403", "410", "500", "503"):
            self._send(writer, b"no", status=int(fault))
        elif fault in ("429", "429date"):
            first = self.hits[path] == 1
            when = "1" if fault == "429" else formatdate(time.time() + 1.5, usegmt=True)
            self._send(writer, self.image, status=429 if first else 200, headers=f"Retry-After: {when}\r\n" * first)
        elif fault == "flaky":
            self._send(writer, self.image, status=200 if self.hits[path] > 2 else 500)
        elif fault in _BODIES:
            body, headers = _BODIES[fault](self.image)
            self._send(writer, body, headers=headers)
        elif fault in _REDIRECTS:
            self._send(writer, b"", status=302, headers=f"Location: {_REDIRECTS[fault].format(path=path)}\r\n")
        else:
            self._send(writer, self.image)
        return True

    def _is_unchanged(self, path: str, head: str) -> bool:
        """RFC 9110, 13.2.2: the date counts only where no entity tag is asked for."""
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        etag, last_modified = self._validators.get(path, (None, None))
        if "If-None-Match" in fields:
            return etag is not None and fields["If-None-Match"].removeprefix("W/") == etag.removeprefix("W/")
        return last_modified is not None and fields.get("If-Modified-Since") == last_modified

    async def _fault_timeout(self, path, head, writer):
        await asyncio.sleep(SILENCE_S)
        return False

    async def _fault_slow(self, path, head, writer):
        self._send(writer, b"", length=len(self.image))
        for i in range(len(self.image)):
            writer.write(self.image[i : i + 1])
            await writer.drain()
            await asyncio.sleep(0.1)
        return False

    async def _fault_stall(self, path, head, writer):
        self._send(writer, self.image[:100], length=len(self.image))
        await writer.drain()
        await asyncio.sleep(SILENCE_S)
        return False

    async def _fault_truncate(self, path, head, writer):
        self._send(writer, self.image[:100], length=len(self.image))
        return False

    async def _fault_reset(self, path, head, writer):
        self._send(writer, self.image[:100], length=len(self.image))
        await writer.drain()
        linger = struct.pack("ii", 1, 0)  # close with RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False

    async def _fault_reset_once(self, path, head, writer):
        if self.hits[path] == 1:
            return await self._fault_reset(path, head, writer)
        self._send(writer, self.image)
        return True

    async def _fault_huge(self, path, head, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1024):
            writer.write(bytes(2**20))
            await writer.drain()
        return False

    async def _fault_redirect_cookie(self, path, head, writer):
        if "Cookie: seen=1" in head:
            self._send(writer, self.image)
        else:
            self._send(writer, b"", status=302, headers=f"Set-Cookie: seen=1; Path=/\r\nLocation: {path}\r\n")
        return True

    async def _fault_bad_header(self, path, head, writer):
        writer.write(b"\x00\x01nonsense\r\n\r\n")
        return False

    async def _fault_no_length(self, path, head, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.image)
        return False

    async def _fault_chunked(self, path, head, writer):
        chunk = b"%x\r\n" % len(self.image) + self.image + b"\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        if path.startswith("/chunked/"):
            writer.write(b"0\r\n\r\n")
            return True
        return False

    _fault_chunked_cut = _fault_chunked


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


_BOMB = gzip.compress(bytes(50_000_000), 9)  # not made while the server should answer others
_GZIP, _DEFLATE = "Content-Encoding: gzip\r\n", "Content-Encoding: deflate\r\n"
_BODIES = {
    "empty": lambda image: (b"", ""),
    "html": lambda image: (b"<html><body>Please log in</body></html>", "Content-Type: text/html\r\n"),
    "garbage": lambda image: (random.Random(0).randbytes(5000), ""),
    "cut_jpeg": lambda image: (image[: len(image) // 2], ""),
    "gzip": lambda image: (gzip.compress(image[:200]) + gzip.compress(image[200:]), _GZIP),
    "gzip_bomb": lambda image: (_BOMB, _GZIP),
    "gzip_cut": lambda image: (gzip.compress(image)[:-20], _GZIP),
    "gzip_bad": lambda image: (image, _GZIP),
    "deflate": lambda image: (zlib.compress(image), _DEFLATE),
    "deflate_raw": lambda image: (_raw_deflate(image), _DEFLATE),
    "brotli": lambda image: (image, "Content-Encoding: br\r\n"),
}
_REDIRECTS = {
    "redirect": "/ok{path}",
    "redirect_loop": "{path}",
    "redirect_file": "file:///etc/passwd",
    "redirect_s3": "s3://bucket/key.jpg",
    "redirect_private": "http://169.254.169.254/latest/meta-data/",
    "redirect_hex": "http://0x7f000001/secret",
}
