"""Fetching images: many in flight, in completion order, bounded in memory; a failed row is a row.

`Downloader` owns one thread with one event loop. Addresses as text are urls.py's, one HTTP try is _http.py's, files
and S3 are _blocking.py's, Google's and Azure's objects _objects.py's, pictures inside
files _parts.py's. Decoding is decode.py's: a body that is no image is still `ok` here.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images._blocking import S3Reader, read_file
from aistudio.images._cached import CachedFetches
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._flow import Budget, Door, Request, Stream
from aistudio.images._http import HttpClient
from aistudio.images._objects import ObjectReader
from aistudio.images._parts import PartReader
from aistudio.images._retry import backoff_s
from aistudio.images.host_gate import Gate
from aistudio.images.host_limits import EXCHANGE_S, Allotment, Exchange, exchange_alone, first_allotment
from aistudio.images.urls import BadURL, Target, parse_target
from aistudio.images.validators import Validators
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import error_text

__all__ = ["Downloader", "Fetched"]

MAX_WAITING_BYTES = 256_000_000
_WINDOW_FACTOR = 4  # rows begun per slot: the rest wait for a busy host or a back-off without blocking other rows
_BLOCKING_THREADS = 32
_CHECK_S = 5.0  # how often a waiting consumer looks whether the thread still lives


class Downloader:
    """Fetches images in the background. One per process serves any number of threads; close it, or use `with`.

    In flight are at most `concurrency` requests, `per_host_concurrency` of them to one host, over all streams; to a
    host that asks for less, or is slow, fewer (host_limits.py), which `exchange` agrees on with other processes. A
    stream keeps at most 4 x `concurrency` rows begun and not yet consumed, and begins no further one while the
    bodies that wait for consumers (plus the expected size of those under way) exceed `max_waiting_bytes`; bodies
    already under way may go beyond it by their difference from the mean size so far.
    """

    def __init__(
        self,
        settings: DownloadSettings,
        store: StoreSettings,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        exchange: Exchange | None = None,
        anew: bool = False,
    ) -> None:
        """Start the thread.

        Args:
            exchange: takes reports by host, gives allotments (none: it cannot be asked); None: this process alone.
            anew: no picture is answered from the byte cache (download.cache); what is fetched is kept there.
        """
        self._settings = settings
        self._exchange = exchange or exchange_alone(settings)
        self._budget = Budget(max_waiting_bytes)
        self._s3 = S3Reader(store)
        self._objects = ObjectReader(store)
        self._parts = PartReader(store)
        self._threads = ThreadPoolExecutor(min(_BLOCKING_THREADS, settings.concurrency), "images-blocking")
        cached = settings.cache is not None
        self._cached = CachedFetches(settings, store, self._threads, anew=anew) if cached else None
        self._streams: set[Stream] = set()
        self._doors: dict[str, Door] = {}
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="images-download", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stream(
        self, requests: Sequence[Request], known: Mapping[int, Validators] | None = None
    ) -> Iterator[tuple[int, Fetched]]:
        """Yields (position in `requests`, outcome) once for each request, in the order in which they complete.

        Nothing raises for a bad row. When `fallback_url` is given it is tried once `image_url` has failed for good;
        if both fail, the outcome is the first's and the error names both. Stopping early (break, close()) cancels
        what is under way. Empty input: nothing is yielded.

        Args:
            known: by position, what servers called the pictures that are here already: they are asked for news alone.

        Raises:
            RuntimeError: the downloader is or was closed.
        """
        stream = Stream(requests, _WINDOW_FACTOR * self._settings.concurrency, known)
        self._call(self._open, stream)
        try:
            for _ in range(len(requests)):
                if stream.results.empty() or stream.owed_rows * 4 >= stream.window:
                    self._settle(stream)
                index, outcome = self._next(stream)
                if isinstance(outcome, BaseException):
                    raise outcome
                stream.owed_rows += 1
                stream.owed_bytes += outcome.num_bytes or 0
                yield index, outcome
        finally:
            with suppress(RuntimeError):  # closed meanwhile: nothing is left to end
                self._call(self._end, stream)

    @property
    def cache_problem(self) -> str | None:
        """Why the byte cache could not be read or written, the last time that it could not."""
        return None if self._cached is None else self._cached.problem

    def close(self) -> None:
        """Cancels what is under way and ends the thread; streams still being consumed raise RuntimeError."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, function: Callable[[Stream], None], stream: Stream) -> None:
        try:
            self._loop.call_soon_threadsafe(function, stream)
        except RuntimeError:
            raise RuntimeError("the downloader is closed") from None

    def _next(self, stream: Stream) -> tuple[int, Fetched | BaseException]:
        while True:
            try:
                return stream.results.get(timeout=_CHECK_S)
            except queue.Empty:
                if not self._thread.is_alive():
                    raise RuntimeError("the downloader is closed") from None

    def _settle(self, stream: Stream) -> None:
        """Tells the loop what was consumed, so that it begins further rows."""
        if stream.owed_rows:
            rows, size = stream.owed_rows, stream.owed_bytes
            stream.owed_rows = stream.owed_bytes = 0
            with suppress(RuntimeError):  # closed meanwhile: _next reports it
                self._loop.call_soon_threadsafe(self._consumed, stream, rows, size)

    # Everything below runs in the loop's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as e:  # noqa: BLE001 - raised where the downloader is made, not lost in a thread
            self._failure = e
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        async with HttpClient(self._settings) as self._http:
            self._ready.set()
            exchanging = self._loop.create_task(self._exchange_often())
            await self._stop.wait()
            exchanging.cancel()
            for stream in list(self._streams):
                tasks = list(stream.tasks)
                self._end(stream)
                await asyncio.gather(*tasks, return_exceptions=True)
                stream.results.put((-1, RuntimeError("the downloader was closed")))

    def _open(self, stream: Stream) -> None:
        self._streams.add(stream)
        self._begin(stream, stream.window)

    def _begin(self, stream: Stream, num_rows: int) -> None:
        for index in range(stream.begun, min(stream.begun + num_rows, len(stream.requests))):
            task = self._loop.create_task(self._row(stream, index))
            stream.tasks.add(task)
            task.add_done_callback(stream.tasks.discard)
            stream.begun = index + 1

    def _consumed(self, stream: Stream, num_rows: int, num_bytes: int) -> None:
        self._budget.consumed(stream, num_rows, num_bytes)
        if stream in self._streams:
            stream.held_bytes -= num_bytes
            self._begin(stream, num_rows)

    def _end(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            for task in stream.tasks:
                task.cancel()
            self._budget.release(stream.held_bytes)

    async def _row(self, stream: Stream, index: int) -> None:
        reserved = await self._budget.reserve(stream)
        kept = 0
        try:
            outcome = await self._fetch(*stream.requests[index], stream.known.get(index))
            kept = outcome.num_bytes or 0
        except Exception as e:  # noqa: BLE001 - a mistake of ours costs the row that it met, and nobody waits for ever
            outcome = Fetched(
                Status.CONNECTION_ERROR, f"internal error, please report: {type(e).__name__}: {error_text(e)}"
            )
        finally:
            self._budget.settle(reserved, kept)
        if stream not in self._streams:
            self._budget.release(kept)
            return
        stream.held_bytes += kept
        stream.results.put((index, outcome))

    async def _fetch(self, url: str, fallback_url: str | None, known: Validators | None) -> Fetched:
        first = await self._fetch_one(url, known)
        if first.status is Status.OK or not fallback_url or fallback_url == url:
            return first
        second = await self._fetch_one(fallback_url, known, own=False)
        if second.status is Status.OK:
            return replace(second, final_url=second.final_url or redact(fallback_url), instead_of=first)
        return replace(first, error=f"{first.error}; fallback_url: {second.status}: {second.error}")

    async def _fetch_one(self, url: str, known: Validators | None, *, own: bool = True) -> Fetched:
        try:
            target = parse_target(url, self._settings.url_map)
        except BadURL as e:
            return FetchFailed(Status.BAD_URL, str(e)).outcome()
        if self._cached is None or target.path is not None:
            return await self._tries(target, url, known, own)
        # What the cache knows was given by this very address, whether that is the row's own or its fallback.
        mine = _asked(target, url, known, own)
        return await self._cached.fetch(
            target, mine, lambda asked: self._tries(target, url, asked, own or asked is not mine)
        )

    async def _tries(self, target: Target, url: str, known: Validators | None, own: bool) -> Fetched:
        for attempt in range(self._settings.retries + 1):
            try:
                async with self._slot(target) as door:
                    return await self._noted(target, door, _asked(target, url, known, own), own)
            except FetchFailed as e:
                if not e.retry or attempt == self._settings.retries:
                    return e.outcome(attempt + 1)
                wait = backoff_s(self._settings, attempt, e.retry_after_s)
            except Exception as e:  # noqa: BLE001 - what nobody foresaw of one address costs its row, not the shard
                text = f"internal error: {type(e).__name__}: {error_text(redact(str(e)))}; please report"
                return FetchFailed(Status.CONNECTION_ERROR, text).outcome()
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last try returns")

    async def _try(self, target: Target, known: Validators | None, own: bool) -> Fetched:
        if target.url is not None:
            return await self._http.fetch(target.url, known, own=own)
        max_bytes = self._settings.max_bytes
        if target.part is not None:
            place = target.path or ""
            return await self._loop.run_in_executor(self._threads, self._parts.read, place, target.part, max_bytes)
        if target.object is not None:
            read = self._s3.read if target.scheme == "s3" else partial(self._objects.read, target.scheme)
            etag = known.etag if known else None
            return await self._loop.run_in_executor(self._threads, read, *target.object, max_bytes, etag)
        assert target.path is not None
        return await self._loop.run_in_executor(self._threads, read_file, target.path, max_bytes)

    async def _noted(self, target: Target, door: Door, known: Validators | None, own: bool) -> Fetched:
        """Try, and count what it met for the host's limits."""
        started, gate = self._loop.time(), door.gate
        try:
            found = await self._try(target, known, own)
        except FetchFailed as e:
            now, asked_for = self._loop.time(), min(e.retry_after_s or 0.0, self._settings.backoff_max_s)
            gate.note(now, now - started, e.status, e.http_status, asked_for, e.error)
            raise
        now = self._loop.time()
        gate.note(now, now - started, found.status, found.http_status, 0.0, "")
        return found

    @asynccontextmanager
    async def _slot(self, target: Target) -> AsyncIterator[Door]:
        """First the host's turn, then one of all: a row that waits for a busy host holds up nobody else."""
        name = target.url.raw_host or "" if target.url is not None else target.scheme
        door = self._door(name, shared=target.url is not None)
        door.gate.users += 1
        try:
            await door.enter()
            try:
                async with self._slots:
                    yield door
            finally:
                door.leave()
        finally:
            door.gate.users -= 1
            if not door.gate.users and not door.shared:
                self._doors.pop(name, None)

    def _door(self, name: str, *, shared: bool) -> Door:
        if name not in self._doors:
            most = self._settings.per_host_concurrency
            first = first_allotment(self._settings.hosts, most) if shared else Allotment(most)
            self._doors[name] = Door(Gate(first), shared=shared)
        return self._doors[name]

    async def _exchange_often(self) -> None:
        """Report what the hosts' requests met and take their limits, as long as the downloader lives."""
        while True:
            await asyncio.sleep(EXCHANGE_S)
            doors = {name: door for name, door in self._doors.items() if door.shared}
            if not doors:
                continue
            reports = {name: door.gate.take_report() for name, door in doors.items()}
            found: Mapping[str, Allotment] = {}
            with suppress(Exception):  # whatever it is: the limits stay as they are
                found = await self._loop.run_in_executor(self._threads, self._exchange, reports)
            for name, door in doors.items():
                known = door.gate.allotment
                door.set(found.get(name) or known._replace(concurrency=max(1, known.concurrency), dead="", pause_s=0.0))
                if not door.gate.users and self._doors.get(name) is door:
                    del self._doors[name]  # a run may meet a million hosts


def _asked(target: Target, url: str, known: Validators | None, own: bool) -> Validators | None:
    """Return the validators that may be sent to a target. HTTP decides at each redirect; objects are at their own."""
    if known is None or target.url is not None:
        return known
    return known if known.final_url == (None if own else redact(url)) else None
