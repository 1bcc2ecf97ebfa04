"""Distinct image references of a shard -> downloaded, decoded images, streamed in completion order.

Memory is bounded: the downloader holds back when decoding lags, decoding when the model lags. Nothing here
knows a model; pixel sizes come in as image specifications.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aistudio.config import ImageSpec, JobConfig
from aistudio.images.decode import decode
from aistudio.images.download import Downloader, Fetched
from aistudio.images.urls import redact
from aistudio.schema import Status

Request = tuple[str, str | None]  # image_url, fallback_url
OneRow = Callable[[int], AbstractContextManager[None]]
_Decode = Callable[[Sequence[Request], Sequence[int]], Iterator["ImageRow"]]  # requests and their numbers


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
    pool: ThreadPoolExecutor | None = None
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
        """Every request's outcome, once each, in completion order.

        A fallback that the downloader had no reason to try is tried when the first image does not decode.
        """
        return _with_fallbacks(requests, self._many)

    def images_one_by_one(
        self, requests: Sequence[Request], poison: Collection[int], row: OneRow
    ) -> Iterator[ImageRow]:
        """As `images`, but each image is decoded and consumed inside `row(number)`; those of `poison` are refused."""

        def one_by_one(requests: Sequence[Request], numbers: Sequence[int]) -> Iterator[ImageRow]:
            for position, fetched in self._downloader.stream(requests):
                number = numbers[position]
                if number in poison:
                    yield refused(_undecoded(number, fetched))
                    continue
                with row(number):
                    yield self._result(self._submit(_Job(number, fetched)))

        return _with_fallbacks(requests, one_by_one)

    def _many(self, requests: Sequence[Request], numbers: Sequence[int]) -> Iterator[ImageRow]:
        waiting: deque[_Job] = deque()
        for position, fetched in self._downloader.stream(requests):
            waiting.append(self._submit(_Job(numbers[position], fetched)))
            while waiting and (_is_done(waiting[0]) or len(waiting) >= self._window):
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def close(self) -> None:
        self._downloader.close()
        self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._config.engine.decode_threads, thread_name_prefix="decode")

    def _submit(self, job: _Job) -> _Job:
        with self._pool_lock:
            job.pool, job.future = self._pool, self._pool.submit(self._decode, job)
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
        # A thread cannot be stopped: it is left behind with its pool, and what waited there starts again in a new one.
        with self._pool_lock:
            if job.pool is self._pool:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = self._new_pool()

    def _decode(self, job: _Job) -> ImageRow:
        job.started = time.monotonic()
        fetched = job.fetched
        row = _undecoded(job.number, fetched)
        if fetched.status != Status.OK or fetched.body is None:
            return row
        image = decode(fetched.body, self._specs, self._config.images)
        if image.status != Status.OK and fetched.instead_of is not None:
            first = _undecoded(job.number, fetched.instead_of)
            return first._replace(error=f"{first.error}; fallback_url: {image.status}: {image.error}")
        return row._replace(
            status=image.status,
            error=image.error,
            width=image.width,
            height=image.height,
            content_hash=image.content_hash,
            thumbnail=image.thumbnail,
            pixels=image.pixels,
            decode_s=time.monotonic() - job.started,
        )


def _is_done(job: _Job) -> bool:
    return job.future is not None and job.future.done()


def _undecoded(number: int, fetched: Fetched) -> ImageRow:
    return ImageRow(
        number,
        fetched.status,
        fetched.error,
        fetched.http_status,
        fetched.num_bytes,
        fetched.final_url,
        fetched=fetched.status == Status.OK,
        used_fallback=fetched.instead_of is not None,
    )


def refused(image: ImageRow) -> ImageRow:
    """The outcome of a poisonous row: nothing of it is touched."""
    error = "this image killed the process that worked on it twice; it was left alone"
    return image._replace(status=Status.UNSUPPORTED_IMAGE, error=error, pixels=(), thumbnail=None, fetched=False)


def _with_fallbacks(requests: Sequence[Request], decoded: _Decode) -> Iterator[ImageRow]:
    """Outcomes of `decoded`; where bytes came but no image, those of a second round with the fallbacks."""
    failed: dict[int, ImageRow] = {}
    for image in decoded(requests, range(len(requests))):
        url, fallback = requests[image.number]
        if image.fetched and image.status != Status.OK and not image.used_fallback and fallback not in (None, "", url):
            failed[image.number] = image
        else:
            yield image
    if not failed:
        return
    second = [(requests[number][1] or "", None) for number in failed]
    for image in decoded(second, list(failed)):
        fallback = requests[image.number][1] or ""
        if image.status == Status.OK:
            yield image._replace(final_url=image.final_url or redact(fallback), used_fallback=True)
        else:
            first = failed[image.number]
            yield first._replace(error=f"{first.error}; fallback_url: {image.status}: {image.error}")
