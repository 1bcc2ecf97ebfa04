"""A fetch by way of the byte cache: answered from it, or asked for news alone, or made and kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TypeVar

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images._fetched import Fetched
from aistudio.images.byte_cache import ByteCache, Kept, name_of
from aistudio.images.urls import Target
from aistudio.images.validators import Validators
from aistudio.schema import Status

_T = TypeVar("_T")
Ask = Callable[[Validators | None], Awaitable[Fetched]]


class CachedFetches:
    """Used in the downloader's loop; reading and writing happen in its threads."""

    def __init__(self, settings: DownloadSettings, store: StoreSettings, threads: Executor, *, anew: bool) -> None:
        """`anew`: nothing is answered from the cache, but what is fetched is kept."""
        self._settings, self._threads, self._anew = settings, threads, anew
        self._cache = ByteCache(settings, store)

    @property
    def problem(self) -> str | None:
        """Why the cache could not be read or written, the last time that it could not; None: it always could."""
        return self._cache.problem

    async def fetch(self, target: Target, known: Validators | None, ask: Ask) -> Fetched:
        """Return a target's picture.

        Args:
            known: what the server called a picture that the caller has: the question whether it is still that one goes
                to the server in any case.
            ask: tries to fetch, with validators of a picture that need not come again. Never raises.
        """
        name = name_of(target, self._settings)
        if name is None:
            return await ask(known)
        kept = None
        if known is None and not self._anew:
            kept = await self._in_thread(self._cache.find, name, self._settings.max_bytes)
        if kept is not None and self._is_young(kept):
            return _answer(kept, "hit")
        if kept is not None:
            known = Validators(kept.etag, kept.last_modified, kept.final_url)
        found = await ask(known)
        if kept is not None and found.not_modified:
            fresh = kept._replace(
                fetched_at=time.time(),
                etag=found.etag or kept.etag,
                last_modified=found.last_modified or kept.last_modified,
            )
            return _answer(fresh, "same" if await self._keep(name, fresh) else "failed")
        if found.status is not Status.OK or found.body is None:
            return found
        said = (found.http_status, found.final_url, found.etag, found.last_modified)
        kept_now = await self._keep(name, Kept(found.body, *said, time.time()))
        return replace(found, cache="miss" if kept_now else "failed")

    def _is_young(self, kept: Kept) -> bool:
        most = self._settings.cache_max_age_s
        return most is None or 0 <= time.time() - kept.fetched_at < most

    async def _keep(self, name: str, picture: Kept) -> bool:
        return bool(await self._in_thread(self._cache.keep, name, picture))

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _answer(kept: Kept, how: str) -> Fetched:
    return Fetched(
        Status.OK, None, kept.http_status, len(kept.body), kept.final_url, kept.body, etag=kept.etag,
        last_modified=kept.last_modified, cache=how,
    )  # fmt: skip
