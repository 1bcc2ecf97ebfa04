"""Distinct image references of a shard -> downloaded, decoded images, streamed in completion order.

Memory is bounded: the downloader holds back when decoding lags, decoding when the model lags. Nothing here
knows a model; pixel sizes come in as image specifications.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from aistudio.config import ImageSpec, JobConfig
from aistudio.images.decode import decode
from aistudio.images.download import Downloader, Fetched
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


class ImageSource:
    """Downloads and decodes. One per actor; `images` may be called from several threads at once."""

    def __init__(self, config: JobConfig, specs: Sequence[ImageSpec]) -> None:
        self._config, self._specs = config, tuple(specs)
        self._downloader = Downloader(config.download, config.store)
        self._pool = ThreadPoolExecutor(config.engine.decode_threads, thread_name_prefix="decode")
        self._window = 4 * config.engine.decode_threads + 16  # decoded images waiting for the model, per call

    def images(self, requests: Sequence[Request]) -> Iterator[ImageRow]:
        """Every request's outcome, once each, in completion order."""
        waiting: deque[tuple[int, Future[ImageRow]]] = deque()
        for number, fetched in self._downloader.stream(requests):
            waiting.append((number, self._pool.submit(self._decode, number, fetched)))
            while waiting and (waiting[0][1].done() or len(waiting) >= self._window):
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def images_one_by_one(
        self, requests: Sequence[Request], poison: Collection[int], in_hand: Callable[[int | None], None]
    ) -> Iterator[ImageRow]:
        """As `images`, but announces each image before it is decoded and leaves the poisonous ones alone.

        The consumer must be done with an image when it asks for the next one.
        """
        for number, fetched in self._downloader.stream(requests):
            if number in poison:
                yield ImageRow(number, Status.UNSUPPORTED_IMAGE, "this image killed its worker twice; left alone")
                continue
            in_hand(number)
            yield self._decode(number, fetched)
        in_hand(None)

    def close(self) -> None:
        self._downloader.close()
        self._pool.shutdown(cancel_futures=True)

    def _result(self, number: int, future: Future[ImageRow]) -> ImageRow:
        limit_s = self._config.images.decode_timeout_s
        try:
            return future.result(timeout=limit_s)
        except TimeoutError:
            # A thread cannot be stopped: it is left behind and the next images get fresh ones.
            self._pool.shutdown(wait=False)
            self._pool = ThreadPoolExecutor(self._config.engine.decode_threads, thread_name_prefix="decode")
            return ImageRow(number, Status.UNSUPPORTED_IMAGE, f"decoding took longer than {limit_s:g} s")

    def _decode(self, number: int, fetched: Fetched) -> ImageRow:
        about = (fetched.http_status, fetched.num_bytes, fetched.final_url)
        if fetched.status != Status.OK or fetched.body is None:
            return ImageRow(number, fetched.status, fetched.error, *about)
        started = time.perf_counter()
        image = decode(fetched.body, self._specs, self._config.images)
        return ImageRow(
            number,
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
