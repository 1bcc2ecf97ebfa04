"""Workers that write down what they ask of the models and when, for delta.py; and a server of a shop's pictures.

    python benchmarks/_delta_workers.py PX      (the server; prints its port, ends when its standard input does)

`/<n>.jpg` is a picture of its own for each n, PX pixels wide, with an entity tag; after `/_day2` every hundredth has
other bytes. A conditional request that names the tag is answered with 304. `/_counts` tells what was asked since the
last `/_reset`.
"""

import asyncio
import hashlib
import io
import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHANGED_EVERY, CHANGED = 100, 7  # 1 % of the pictures


@cache
def drawn(number: int, version: int, px: int) -> bytes:
    """A JPEG, `px` wide and three quarters of that high; soft shapes, as in a photograph."""
    rng = np.random.default_rng([number, version])
    small = Image.fromarray(rng.integers(0, 256, (px // 16, px // 12, 3), np.uint8))
    out = io.BytesIO()
    small.resize((px, px * 3 // 4), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()


def body_of(number: int, version: int, px: int) -> bytes:
    """One of 200 pictures, made unlike all others by a comment: the server's time should not count."""
    body, comment = drawn(number % 200, version, px), f"{number}-{version}".encode()
    return body[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + body[2:]


class Shop:
    """The server."""

    def __init__(self, px: int) -> None:
        self._px = px
        self.version, self.hits, self.unchanged = 1, 0, 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                writer.write(self.answer(head.split(" ", 2)[1], head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, path: str, head: str) -> bytes:
        if path.startswith("/_"):
            self.version = 2 if path == "/_day2" else self.version
            if path == "/_reset":
                self.hits = self.unchanged = 0
            return whole(json.dumps({"hits": self.hits, "unchanged": self.unchanged}).encode(), "")
        self.hits += 1
        number = int(path.strip("/").split(".")[0])
        version = self.version if number % CHANGED_EVERY == CHANGED else 1
        etag = f'"{hashlib.sha256(f"{number} {version}".encode()).hexdigest()[:16]}"'
        if f"If-None-Match: {etag}\r\n" in head:
            self.unchanged += 1
            return f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode()
        return whole(body_of(number, version, self._px), f"ETag: {etag}\r\n")


def whole(body: bytes, fields: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


async def serve() -> None:
    server = await asyncio.start_server(Shop(int(sys.argv[1])).handle, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
    sys.exit()

from _stub_workers import DIM, StubEncoders, StubModel  # noqa: E402 - the server needs none of it

from aistudio.pipeline.actors import FusedWorker, RunContext  # noqa: E402


class CountingFused(FusedWorker):
    """The run's own worker; `<output>.passes` gets a line for each call of a model and for each shard."""

    def load(self) -> None:
        super().load()
        self._count()

    def _count(self) -> None:
        note = Path(f"{self.config.output}.passes")
        for kind in ("encode", "texts", "rank"):
            whole_call = getattr(self.encoders, kind)

            def counted(first: Sequence[Any], *rest: Any, _call: Any = whole_call, _kind: str = kind) -> Any:
                with note.open("a") as f:
                    f.write(f"{_kind} {len(first)}\n")
                return _call(first, *rest)

            setattr(self.encoders, kind, counted)

    def shard(self, name: str) -> Any:
        begun = time.time()
        found = super().shard(name)
        with Path(f"{self.config.output}.passes").open("a") as f:
            f.write(f"shard {begun} {time.time()}\n")
        return found


class StubModelFused(CountingFused):
    """The run's own downloads and decoding, and a model that costs nothing."""

    def __init__(self, run: RunContext) -> None:
        pinned = run.models.recall
        assert pinned is not None
        run = run._replace(models=run.models._replace(recall=pinned._replace(image_spec=StubModel.image_spec, dim=DIM)))
        if run.delta is not None:
            run = run._replace(delta=run.delta._replace(dims={"embedding": DIM}, text_dim=DIM))
        super().__init__(run)

    def load(self) -> None:
        self.encoders = StubEncoders(self.run.plan.batch_size)
        self._count()
