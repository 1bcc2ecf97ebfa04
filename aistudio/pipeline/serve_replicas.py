"""What runs on Ray Serve: shards of an index, and the front that answers visitors from them.

    front      the same ASGI app as `serve` has; models, pages, rules; no index
    shard_0 .. each holds 1/N of the rows and makes passes over them (serve_shards.py)

The front asks all shards and merges what they found (serve_front.py). A shard that was killed is started again by Ray
Serve and loads its part anew; until then questions are answered with 503. Every `serve.reload_s` seconds the front
looks whether the runs were replaced: the shards load the new generation beside the old one, the front changes over, and
the old one is let go. Leaves out: starting and stopping them (serve_cluster.py).
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ray.serve.handle import DeploymentHandle

from aistudio.config import ServeSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline.serve_front import Generation, Shard, ShardedSearcher, ShardsError, explained
from aistudio.pipeline.serve_shards import NotHereError, ShardIndexes, Spec, generation_of
from aistudio.runs.record import recorded
from aistudio.scoring.query_vectors import QueryEncoder
from aistudio.scoring.run_models import pin_run_model
from aistudio.search.local_copy import copies_folder
from aistudio.serving.app import make_app
from aistudio.serving.engine import Engine, Engines, load_encoder
from aistudio.serving.opening import Planned, ServePlan
from aistudio.serving.thumbnails import PICTURES, Thumbnails

LOAD_S = 3_600.0  # for a shard to make and load its part
GRACE_S = 60.0  # that an old generation is kept for questions under way
NOT_WHOLE = ("running", "incomplete", "stopped", "failed")  # states of a run that is being replaced


class ShardReplica:
    """One shard as Ray Serve runs it. Work is done on threads, so that health checks are answered meanwhile."""

    def __init__(self, spec: Spec, number: int) -> None:
        self._indexes = ShardIndexes(spec, number)

    async def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method of `ShardIndexes`."""
        return await asyncio.to_thread(getattr(self._indexes, method), *args)


class RemoteShard(Shard):
    """Calls a shard's deployment from the front's threads."""

    def __init__(self, handle: DeploymentHandle, number: int, timeout_s: float) -> None:
        self.handle, self.number, self.timeout_s = handle, number, timeout_s

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Return what a method of `ShardIndexes` returns. Raises as `Shard.call`."""
        try:
            return self.handle.call.remote(method, args).result(timeout_s=timeout_s or self.timeout_s)
        except Exception as e:  # noqa: BLE001 - a dead process, a time limit, our own error: Ray wraps each in its own way
            raise explained(self.number, e) from None


class Front:
    """The ingress: the app over sharded engines, and the thread that follows the runs."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, spec: Spec, token: str | None, *handles: DeploymentHandle
    ) -> None:  # fmt: skip
        self._spec, self._token = spec, token
        self._plan = await asyncio.to_thread(spec.plan)
        settings = self._plan.settings
        self._shards = [RemoteShard(handle, i, settings.answer_timeout_s) for i, handle in enumerate(handles)]
        self._pool = ThreadPoolExecutor(len(handles) * (settings.workers + 1), thread_name_prefix="shards")
        self._models: dict[str, tuple[str | None, QueryEncoder | None, str | None]] = {}
        self._generation, self._engines = await asyncio.to_thread(self._open)
        threading.Thread(target=self._follow, args=(settings,), daemon=True).start()

    def __serve_build_asgi_app__(self) -> Any:
        """Return the app, once everything is loaded."""
        return make_app(self._plan.settings, self._plan.config, self._engines, token=self._token)

    def _open(self) -> tuple[str, Engines]:
        """Have the shards load the present generation, and make engines of it."""
        plan = self._spec.plan()
        name = generation_of(plan, self._spec.shards)
        facts = list(self._pool.map(lambda shard: shard.call("load", name, timeout_s=LOAD_S), self._shards))
        return name, {one.name: self._engine(plan, one, name, [own[one.name] for own in facts]) for one in plan.indexes}

    def _engine(self, plan: ServePlan, one: Planned, generation: str, facts: Sequence[Any]) -> Engine:
        root = hashlib.sha256(f"{one.plan.gallery.store.root} {generation}".encode()).hexdigest()[:32]
        folder = copies_folder(plan.settings.cache) / PICTURES / root
        searcher = ShardedSearcher(one.plan, Generation(self._shards, generation, one.name, self._pool), facts, folder)
        encoder, why = self._encoder(one)
        pictures = Thumbnails(searcher.store, folder, plan.settings.picture_cache_bytes)
        return Engine(one.name, one.run, one.model, searcher, encoder, why, pictures)

    def _encoder(self, one: Planned) -> tuple[QueryEncoder | None, str | None]:
        """The model of an index; loaded again only when the run was scored with another one."""
        known = self._models.get(one.name)
        if known is None or known[0] != one.model.facts.fingerprint or known[1] is None:
            config = one.plan.config
            device = "cuda" if config.engine.device == "cuda" else "cpu"
            root = one.plan.gallery.store.root
            loaded = load_encoder(lambda: QueryEncoder(config, pin_run_model(one.model, config, root), device))
            self._models[one.name] = known = (one.model.facts.fingerprint, *loaded)
        return known[1], known[2]

    def _follow(self, settings: ServeSettings) -> None:
        while True:
            time.sleep(settings.reload_s)
            try:
                self._reload()
            except NotHereError:
                continue  # the run is still changing
            except AIStudioError as e:
                print(f"the present generation stays: {e}", flush=True)
            except Exception as e:  # noqa: BLE001 - whatever it is, what is loaded answers on
                print(f"the present generation stays: {type(e).__name__}: {e}", flush=True)

    def _reload(self) -> None:
        plan = self._spec.plan()
        if generation_of(plan, self._spec.shards) == self._generation:
            return
        if any(recorded(one.plan.gallery.store).state in NOT_WHOLE for one in plan.indexes):
            return
        generation, engines = self._open()
        for name, engine in engines.items():  # one by one, each at once: a question keeps the engine that it has
            self._engines[name] = engine
        for name in self._engines.keys() - engines.keys():
            del self._engines[name]
        self._generation = generation
        print(f"generation {generation} is served now", flush=True)
        time.sleep(GRACE_S)
        for shard in self._shards:
            with suppress(ShardsError):  # one that is started again holds no other
                shard.call("keep", generation)
