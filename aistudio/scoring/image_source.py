"""Distinct image references of a shard -> downloaded, decoded images, streamed in completion order.

Pictures that a base run knows (base_rows.py) come out as they are there, with its vectors for pixels, once the server's
word or their bytes have shown that they are the same; where their addresses are trusted they do not pass here. Those
that other shards of this run have (frequent_images.py) come at once.

Memory is bounded: the downloader holds back when decoding lags, decoding when the model lags. Nothing here
knows a model; pixel sizes come in as image specifications.
"""

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from aistudio.config import DetectorSettings, ImageSpec, JobConfig, Trust
from aistudio.images.crop import Cropper
from aistudio.images.decode import decode
from aistudio.images.download import Downloader, Fetched
from aistudio.images.host_limits import Exchange
from aistudio.images.validators import Validators
from aistudio.schema import Crop, Reused, Status
from aistudio.scoring.core_lock import CoreLock
from aistudio.scoring.decoding import Decoders, Group
from aistudio.scoring.isolate import described, raise_if_stopped
from aistudio.secrets import redact
from aistudio.storable import MAX_CHARS, error_text, storable_int, storable_text

Request = tuple[str, str | None]  # image_url, fallback_url
OneRow = Callable[[int], AbstractContextManager[None]]
_INT32, _HASH = 1 << 31, re.compile("[0-9a-f]{1,128}")
MAX_URL = 100_000  # characters of a stored address; signed ones have ten thousand
_GROUP = 8  # images for one of several decoding threads: waking it costs as much as a small part of one
_Decode = Callable[..., Iterator["ImageRow"]]  # requests, their numbers, again: the second round, with fallbacks


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
    cache: str | None = None  # as of Fetched
    crops: tuple[Crop | None, ...] = ()  # one per specification when ok; None where it does not crop
    etag: str | None = None
    last_modified: str | None = None
    reused: Reused = Reused.NO  # else there are `vectors` and no pixels
    vectors: tuple[np.ndarray, ...] = ()  # (D,) float32 each, of the base run: by Known.columns (base_rows.py)
    given: bool = False  # it came of another shard of this run (frequent_images.py); if ok it has `vectors` too

    @property
    def has_vectors(self) -> bool:
        """Whether it is ok and has vectors instead of pixels."""
        return self.status == Status.OK and (self.given or self.reused != Reused.NO)


def storable_row(row: ImageRow) -> ImageRow:
    """Return the row with texts and numbers that Arrow's columns hold, whatever a server, a file or a library gave.

    A number that does not fit its column (schema.OUTCOME_FIELDS) becomes None.
    """
    if _is_storable(row):  # as almost every row is: this is a tenth of the engine's own time
        return row
    return row._replace(
        error=None if row.error is None else error_text(row.error, MAX_CHARS),
        http_status=storable_int(row.http_status, 32),
        num_bytes=storable_int(row.num_bytes, 64),
        final_url=None if row.final_url is None else storable_text(str(row.final_url), MAX_URL),
        width=storable_int(row.width, 32),
        height=storable_int(row.height, 32),
        content_hash=None if row.content_hash is None else storable_text(str(row.content_hash)),
        thumbnail=row.thumbnail if isinstance(row.thumbnail, bytes) else None,
    )


def _is_storable(row: ImageRow) -> bool:
    """Whether a row is one of those that need no second look: no message, no address, small numbers, a hash."""
    return (
        row.error is None
        and row.final_url is None
        and _is_small(row.http_status)
        and _is_small(row.num_bytes)
        and _is_small(row.width)
        and _is_small(row.height)
        and (
            row.content_hash is None
            or (type(row.content_hash) is str and _HASH.fullmatch(row.content_hash) is not None)
        )
        and (row.thumbnail is None or type(row.thumbnail) is bytes)
    )


def _is_small(value: object) -> bool:
    return value is None or (type(value) is int and -_INT32 <= value < _INT32)


Base = Mapping[int, ImageRow]  # by number of the distinct image: as the base run has it
Given = Mapping[int, ImageRow]  # likewise: as another shard of this run has it


class _Job(NamedTuple):
    """One image to decode."""

    number: int
    fetched: Fetched
    base: ImageRow | None = None  # what it is if its bytes are the same


class ImageSource:
    """Downloads and decodes. One per actor; `images` may be called from several threads at once.

    With `core_lock`, images are decoded `batch_size` at a time by whoever holds it: in an actor that has one core,
    decoding beside the model only costs both their caches. Without, `engine.decode_threads` decode ahead of who asks.
    """

    def __init__(
        self,
        config: JobConfig,
        specs: Sequence[ImageSpec],
        core_lock: CoreLock | None = None,
        batch_size: int = 1,
        detectors: Mapping[DetectorSettings, Cropper] | None = None,
        exchange: Exchange | None = None,
        *,
        anew: bool = False,
    ) -> None:
        """Start downloading and decoding threads.

        Args:
            detectors: what crops for specifications with `crop: model` (scoring/cropping.py).
            exchange: agrees on each host's limits with the other workers (images/host_limits.py).
            anew: fetches what the byte cache has, too.
        """
        self._config, self._specs, self._core_lock, self._detectors = config, tuple(specs), core_lock, detectors or {}
        self._group = batch_size if core_lock is not None else _GROUP
        self._downloader = Downloader(config.download, config.store, exchange=exchange, anew=anew)
        threads = config.engine.decode_threads if core_lock is None else 1
        limit_s = config.images.decode_timeout_s
        self._decoders = Decoders(lambda job: self._decode(job), _too_slow(limit_s), threads, limit_s)
        self._ahead = threads + 1  # groups, per call

    def images(
        self,
        requests: Sequence[Request],
        base: Base | None = None,
        trust: Trust = "content",
        given: Given | None = None,
    ) -> Iterator[ImageRow]:
        """Every request's outcome, once each, in completion order.

        A fallback that the downloader had no reason to try is tried when the first image does not decode.

        Args:
            base: images that the base run has.
            trust: what shows that one of them is still the same; under "url" those of the base do not come out at all.
            given: images that are known; they are not asked for.
        """
        decoded = partial(self._many, base=base or {}, ask=trust == "validators")
        return _with_given(requests, base if base and trust == "url" else (), given or {}, decoded)

    def images_one_by_one(
        self,
        requests: Sequence[Request],
        poison: Collection[int],
        row: OneRow,
        base: Base | None = None,
        trust: Trust = "content",
        given: Given | None = None,
    ) -> Iterator[ImageRow]:
        """As `images`, but each image is decoded and consumed inside `row(number)`; those of `poison` are refused."""

        base = base or {}

        def one_by_one(requests: Sequence[Request], numbers: Sequence[int], *, again: bool) -> Iterator[ImageRow]:
            known = _validators(numbers, base if trust == "validators" and not again else {})
            for position, fetched in self._downloader.stream(requests, known):
                number = numbers[position]
                if number in poison:
                    yield refused(_undecoded(number, fetched))
                    continue
                with row(number):
                    yield from self._decoders.rows(self._decoders.submit([_Job(number, fetched, base.get(number))]))

        return _with_given(requests, base if trust == "url" else (), given or {}, one_by_one)

    def _many(
        self, requests: Sequence[Request], numbers: Sequence[int], *, base: Base, ask: bool, again: bool
    ) -> Iterator[ImageRow]:
        ahead: deque[Group[_Job, ImageRow]] = deque()
        arriving = self._downloader.stream(requests, _validators(numbers, base if ask and not again else {}))
        jobs = (_Job(numbers[at], fetched, base.get(numbers[at])) for at, fetched in arriving)
        while group := list(islice(jobs, self._group)):
            if self._core_lock is not None:
                with self._core_lock:
                    rows = self._decoders.rows(self._decoders.submit(group))
                yield from rows
                continue
            ahead.append(self._decoders.submit(group))
            while ahead and (ahead[0].done or len(ahead) >= self._ahead):
                yield from self._decoders.rows(ahead.popleft())
        while ahead:
            yield from self._decoders.rows(ahead.popleft())

    @property
    def cache_problem(self) -> str | None:
        """Why the byte cache could not be read or written, the last time that it could not."""
        return self._downloader.cache_problem

    def close(self) -> None:
        self._downloader.close()
        self._decoders.close()

    def _decode(self, job: _Job) -> ImageRow:
        """Decode one image; never raises."""
        try:
            return storable_row(self._decoded(job))
        except BaseException as e:  # noqa: BLE001 - a decoder's fault belongs to the image, not to the shard
            raise_if_stopped(e)
            error = f"decoding failed: {described(e)}"
            return storable_row(
                _undecoded(job.number, job.fetched)._replace(status=Status.UNSUPPORTED_IMAGE, error=error)
            )

    def _decoded(self, job: _Job) -> ImageRow:
        started, fetched = time.monotonic(), job.fetched
        row = _undecoded(job.number, fetched)
        if job.base is not None and (same := _same_picture(row, fetched, job.base)) is not None:
            return same
        if fetched.status != Status.OK or fetched.body is None:
            return row
        image = decode(fetched.body, self._specs, self._config.images, self._detectors)
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
            crops=image.crops,
            decode_s=time.monotonic() - started,
        )


def _too_slow(limit_s: float) -> Callable[[_Job], ImageRow]:
    error = f"decoding took longer than {limit_s:g} s"
    return lambda job: _undecoded(job.number, job.fetched)._replace(status=Status.UNSUPPORTED_IMAGE, error=error)


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
        etag=fetched.etag,
        last_modified=fetched.last_modified,
        cache=fetched.cache,
    )


def _same_picture(row: ImageRow, fetched: Fetched, base: ImageRow) -> ImageRow | None:
    """The outcome of a picture that is still the base's, by its server's word or by its bytes; None where it is not."""
    if fetched.status != Status.OK:
        return None
    if fetched.not_modified:
        base = base._replace(reused=Reused.VALIDATORS, fetched=True, used_fallback=row.used_fallback)
        newer_date = fetched.last_modified or base.last_modified
        return base._replace(etag=fetched.etag or base.etag, last_modified=newer_date)
    if fetched.body is None or hashlib.sha256(fetched.body).hexdigest() != base.content_hash:
        return None
    decoded = {name: getattr(base, name) for name in ("width", "height", "content_hash", "thumbnail", "crops")}
    return row._replace(reused=Reused.CONTENT, vectors=base.vectors, **decoded)


def _validators(numbers: Sequence[int], base: Base) -> dict[int, Validators]:
    """Return the stored validators of the base's pictures, by position in `numbers`."""
    known = ((position, base.get(number)) for position, number in enumerate(numbers))
    return {p: Validators(image.etag, image.last_modified, image.final_url) for p, image in known if image is not None}


def refused(image: ImageRow) -> ImageRow:
    """The outcome of a poisonous row: nothing of it is touched."""
    error = "this image killed the process that worked on it twice; it was left alone"
    image = image._replace(pixels=(), vectors=(), reused=Reused.NO, thumbnail=None, fetched=False)
    return image._replace(status=Status.UNSUPPORTED_IMAGE, error=error)


def _with_given(
    requests: Sequence[Request], left_out: Collection[int], given: Given, decoded: _Decode
) -> Iterator[ImageRow]:
    """First the images that are given, then the outcomes of all others but those left out."""
    yield from given.values()
    asked = set(range(len(requests))).difference(left_out, given)
    yield from _with_fallbacks(requests, sorted(asked), decoded)


def _with_fallbacks(requests: Sequence[Request], numbers: Sequence[int], decoded: _Decode) -> Iterator[ImageRow]:
    """Outcomes of `decoded` for some requests; where bytes came but no image, of a second round with the fallbacks."""
    failed: dict[int, ImageRow] = {}
    for image in decoded([requests[n] for n in numbers], numbers, again=False):
        url, fallback = requests[image.number]
        if image.fetched and image.status != Status.OK and not image.used_fallback and fallback not in (None, "", url):
            failed[image.number] = image
        else:
            yield image
    if not failed:
        return
    second = [(requests[number][1] or "", None) for number in failed]
    for image in decoded(second, list(failed), again=True):
        fallback = requests[image.number][1] or ""
        if image.status == Status.OK:
            yield image._replace(final_url=image.final_url or redact(fallback), used_fallback=True)
        else:
            first = failed[image.number]
            yield first._replace(error=f"{first.error}; fallback_url: {image.status}: {image.error}")
