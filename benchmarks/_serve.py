"""A local HTTP server of real photographs, in a process of its own, cheap enough not to be what is measured.

    python benchmarks/_serve.py FOLDER LATENCY_S      (prints its port)

Serves the files of a folder from memory by name, GET and HEAD, after the latency. /_reset forgets and /_first tells the
time of the first request (time.time()). Bound to 127.0.0.1; ends when its standard input does.
"""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import ClassVar


class Photographs:
    """The running server, from its client's side; a context manager."""

    def __init__(self, folder: Path, latency_s: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(latency_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.pid, self.base = self._process.pid, f"http://127.0.0.1:{int(self._process.stdout.readline())}/"

    def __enter__(self) -> "Photographs":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def reset(self) -> None:
        """Forget what was asked for so far."""
        urllib.request.urlopen(self.base + "_reset", timeout=10).close()

    def first_request_s(self) -> float | None:
        """When the first photograph was asked for since the reset, as time.time()."""
        with urllib.request.urlopen(self.base + "_first", timeout=10) as answer:
            return json.load(answer)


class _Connection(asyncio.Protocol):
    bodies: ClassVar[dict[str, bytes]] = {}
    first: float | None = None
    latency_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            verb, path, _ = head.split(b" ", 2)
            asyncio.get_running_loop().call_later(self.latency_s, self._answer, verb, path[1:].decode())

    def _answer(self, verb: bytes, name: str) -> None:
        kind = _Connection
        if name == "_reset":
            kind.first, body = None, b""
        elif name == "_first":
            body = json.dumps(kind.first).encode()
        else:
            kind.first = kind.first or time.time()
            body = self.bodies.get(name, b"")
        status = b"200 OK" if name in self.bodies or name.startswith("_") else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        assert isinstance(self.transport, asyncio.WriteTransport)
        if not self.transport.is_closing():
            self.transport.write(head if verb == b"HEAD" else head + body)


async def _serve(folder: Path, latency_s: float) -> None:
    _Connection.bodies = {p.name: p.read_bytes() for p in folder.iterdir()}
    _Connection.latency_s = latency_s
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
