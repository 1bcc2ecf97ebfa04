"""Image hosts on 127.0.0.2 and on, which answer so many requests a second and at once; the rest get 429.

    python benchmarks/_limited_host.py HOSTS RATE AT_ONCE LATENCY_S

A process of its own, so that its time is not the downloaders'. Prints `address:port` of each host as a JSON list; a
line on standard input is answered with what each host has met since the last one; the end of it ends the process.
"""

import asyncio
import io
import json
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

BODY_BYTES = 8_000


class Met(NamedTuple):
    """What hosts have met together. `seconds`: from the first good answer to the last one."""

    answered: int
    refused: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.answered / max(self.seconds, 1e-9)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.answered + self.refused)


class Hosts:
    """The process."""

    def __init__(self, num: int, rate: float, at_once: int, latency_s: float) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), *map(str, (num, rate, at_once, latency_s))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.places: list[str] = self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def met(self) -> Met:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Met(*self._line())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Host:
    """One of them."""

    def __init__(self, rate: float, at_once: int, latency_s: float) -> None:
        self.rate, self.at_once, self.latency_s = rate, at_once, latency_s
        self.recent: deque[float] = deque()  # answers of the last second
        self.busy = 0
        self.reset()

    def reset(self) -> None:
        self.answered = self.refused = 0
        self.first_s, self.last_s = float("inf"), 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        now = time.monotonic()
        while self.recent and self.recent[0] <= now - 1:
            self.recent.popleft()
        if len(self.recent) >= self.rate or self.busy >= self.at_once:
            self.refused += 1
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
            return
        self.recent.append(now)
        self.busy, self.answered = self.busy + 1, self.answered + 1
        await asyncio.sleep(self.latency_s)
        self.busy -= 1
        self.first_s, self.last_s = min(self.first_s, now), time.monotonic()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)


def body() -> bytes:
    """A JPEG of BODY_BYTES bytes."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 140, 60)).save(out, "JPEG")
    return out.getvalue().ljust(BODY_BYTES, b"\0")


BODY = body()


async def serve(hosts: list[Host]) -> None:
    servers = [await asyncio.start_server(h.serve, f"127.0.0.{i + 2}", 0) for i, h in enumerate(hosts)]
    print(json.dumps(["{}:{}".format(*server.sockets[0].getsockname()) for server in servers]), flush=True)
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while await lines.get():
        answered, refused = sum(h.answered for h in hosts), sum(h.refused for h in hosts)
        seconds = max(h.last_s for h in hosts) - min(h.first_s for h in hosts) if answered else 0.0
        print(json.dumps([answered, refused, seconds]), flush=True)
        for host in hosts:
            host.reset()


if __name__ == "__main__":
    asyncio.run(
        serve([Host(float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])) for _ in range(int(sys.argv[1]))])
    )
