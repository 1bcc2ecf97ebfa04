"""Distinct image references of a shard -> downloaded, decoded images, streamed in completion order.

Memory is bounded: the downloader holds back when decoding lags, decoding when the model lags. Nothing here
knows a model; pixel sizes come in as image specifications.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aistudio.config import ImageSpec, JobConfig
from aistudio.images.decode import decode
from aistudio.images.download import Downloader, Fetched
from aistudio.images.urls import redact
from aistudio.schema import Status

Request = tuple[str, str | None]  # image_url, fallback_url


class ImageRow(NamedTuple):
    """Outcome of one distinct image; `pixels` has one uint8 (S, S, 3) array per specification when ok."""

    number: int  # among the shard's distinct images
    status: Status
    error: str | None = None
    http_status: int | None = None
    num_bytes: int | None = None
    final_url: str | None = None
    width: int | None = None
    height: int | None = None
    content_hash: str | None = None
    thumbnail: bytes | None = None
    pixels: tuple[np.ndarray, ...] = ()
    decode_s: float = 0.0
    fetched: bool = False  # bytes came
    used_fallback: bool = False  # and they are the fallback's


@dataclass
class _Job:
    """One image to decode."""

    number: int
    fetched: Fetched
    future: Future[ImageRow] | None = None
    started: float | None = None  # monotonic seconds; a job that only waits for a thread has none


class ImageSource:
    """Downloads and decodes. One per actor; `images` may be called from several threads at once."""

    def __init__(self, config: JobConfig, specs: Sequence[ImageSpec]) -> None:
        self._config, self._specs = config, tuple(specs)
        self._downloader = Downloader(config.download, config.store)
        self._pool_lock = threading.Lock()
        self._pool = self._new_pool()
        self._window = 4 * config.engine.decode_threads + 16  # decoded images waiting for the model, per call

    def images(self, requests: Sequence[Request]) -> Iterator[ImageRow]:
        """Every request's outcome, once each, in completion order."""
        waiting: deque[_Job] = deque()
        for number, fetched in self._downloader.stream(requests):
            waiting.append(self._submit(_Job(number, fetched)))
            while waiting and (_is_done(waiting[0]) or len(waiting) >= self._window):
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def images_one_by_one(self, requests: Sequence[Request], care: "Care") -> Iterator[ImageRow]:
        """As `images`, but each image is announced before it is decoded, and poisonous ones are left alone."""
        for number, fetched in self._downloader.stream(requests):
            if number in care.poison:
                about = (fetched.http_status, fetched.num_bytes, fetched.final_url)
                yield care.refuse(number)._replace(**dict(zip(("http_status", "num_bytes", "final_url"), about)))
                continue
            with care.row(number):
                yield self._result(self._submit(_Job(number, fetched)))

    def close(self) -> None:
        self._downloader.close()
        self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._config.engine.decode_threads, thread_name_prefix="decode")

    def _submit(self, job: _Job) -> _Job:
        with self._pool_lock:
            job.future = self._pool.submit(self._decode, job)
        return job

    def _result(self, job: _Job) -> ImageRow:
        limit_s = self._config.images.decode_timeout_s
        while True:
            assert job.future is not None
            left = limit_s if job.started is None else job.started + limit_s - time.monotonic()
            try:
                return job.future.result(timeout=max(left, 0.0))
            except CancelledError:
                self._submit(job)  # its pool was given up because of another image
            except TimeoutError:
                if job.started is not None and time.monotonic() - job.started >= limit_s:
                    self._give_up(job)
                    return ImageRow(job.number, Status.UNSUPPORTED_IMAGE, f"decoding took longer than {limit_s:g} s")

    def _give_up(self, job: _Job) -> None:
        # A thread cannot be stopped: it is left behind with its pool, and whatever waited there starts again elsewhere.
        with self._pool_lock:
            pool, self._pool = self._pool, self._new_pool()
        pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, job: _Job) -> ImageRow:
        job.started = time.monotonic()
        fetched = job.fetched
        about = (fetched.http_status, fetched.num_bytes, fetched.final_url)
        if fetched.status != Status.OK or fetched.body is None:
            return ImageRow(job.number, fetched.status, fetched.error, *about)
        started = time.perf_counter()
        image = decode(fetched.body, self._specs, self._config.images)
        return ImageRow(
            job.number,
            image.status,
            image.error,
            *about,
            image.width,
            image.height,
            image.content_hash,
            image.thumbnail,
            image.pixels,
            time.perf_counter() - started,
        )
