"""Opens the runs that a server offers: checked and measured first, all together, then loaded."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from aistudio.config import JobConfig, ServeSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.runs import layout
from aistudio.runs.record import stored_settings
from aistudio.scoring.query_vectors import QueryEncoder
from aistudio.scoring.run_models import RunModel, pin_run_model, run_models
from aistudio.search.local_copy import copies_folder
from aistudio.search.searcher import Searcher, SearcherPlan, available_bytes, plan_searcher
from aistudio.serving.engine import Engine, Engines, load_encoder
from aistudio.serving.thumbnails import PICTURES, Thumbnails
from aistudio.store import open_store


@dataclass(frozen=True)
class Planned:
    """One index to be loaded."""

    name: str
    run: str
    model: RunModel
    plan: SearcherPlan


@dataclass(frozen=True)
class ServePlan:
    """All that a server will hold."""

    settings: ServeSettings
    config: JobConfig  # of the first run
    indexes: list[Planned]

    @property
    def memory_bytes(self) -> int:
        """Return the bytes that all indexes take; models and the program come on top."""
        return sum(one.plan.memory_bytes for one in self.indexes)


def plan_serve(
    runs: Sequence[str], overrides: Sequence[str] = (), *, models: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
) -> ServePlan:  # fmt: skip
    """Look what would be served, without reading vectors.

    Args:
        models: names of encoders, or `recall`; empty: every model that has vectors.
        where: column -> values that a row must have to be held.

    Raises:
        ConfigError: no such run, model or column, or all together do not fit into memory. StoreError: no scores.
    """
    configs = [stored_settings(run, overrides) for run in runs]
    settings = configs[0].serve
    limit = settings.memory_mib * 2**20 if settings.memory_mib else available_bytes()
    indexes = []
    for label, run, config in zip(_labels(runs), runs, configs, strict=True):
        store = open_store(run, config.store)
        keys = layout.score_keys(store)
        if not keys:
            raise StoreError(f"{store.root}: no stored scores there; run jobs.score first")
        found = run_models(store, store.read_metadata(keys[0])[0].names)
        chosen = [one for one in found if not models or one.name in models]
        if not chosen:
            known = ", ".join(one.name for one in found)
            raise ConfigError(f"--model {', '.join(models)}: {store.root} has vectors of {known or 'no model'}")
        for model in chosen:
            plan = plan_searcher(
                run, overrides, model=model.name, where=where, columns=settings.columns, cache=settings.cache,
                memory_bytes=limit,
            )  # fmt: skip
            indexes.append(Planned(f"{label}:{model.name}", label, model, plan))
    made = ServePlan(settings, configs[0], indexes)
    if limit is not None and made.memory_bytes > limit:
        raise ConfigError(
            f"{len(indexes)} indexes need {made.memory_bytes / 2**20:,.0f} MiB of memory together, "
            f"{limit / 2**20:,.0f} MiB are there; choose with --model, or hold fewer rows with --where"
        )
    return made


def open_engines(plan: ServePlan, say: Callable[[str], None]) -> Engines:
    """Load everything; `say` gets a line for each index. If a model cannot be loaded, only its questions fail."""
    engines: Engines = {}
    pictures: dict[str, Thumbnails] = {}
    for one in plan.indexes:
        searcher = Searcher(one.plan)
        encoder, why = load_encoder(lambda one=one: _encoder(one))  # type: ignore[misc]
        if one.run not in pictures:  # the models of a run share its pictures
            copies = copies_folder(plan.settings.cache) / PICTURES / searcher.copy.folder.name
            pictures[one.run] = Thumbnails(searcher.store, copies, plan.settings.picture_cache_bytes)
        engines[one.name] = Engine(one.name, one.run, one.model, searcher, encoder, why, pictures[one.run])
        size, disk = searcher.copy.memory_bytes / 2**20, searcher.copy.disk_bytes / 2**20
        say(f"{one.name}: {len(searcher):,} rows, {size:,.0f} MiB of memory, local copy {disk:,.0f} MiB")
        if why is not None:
            say(f"{one.name}: its model cannot be asked, only what it has stored: {why}")
    return engines


def visitors_token(settings: ServeSettings, *, always: bool = False) -> str | None:
    """Return the token that visitors must give: `serve.token`, else $AISTUDIO_SERVE_TOKEN.

    Raises:
        ConfigError: it is too short or not ASCII, or there is none where others could come in (`always`: at any host).
    """
    token = settings.token or os.environ.get("AISTUDIO_SERVE_TOKEN") or None
    if token is not None and len(token) < 16:
        raise ConfigError("AISTUDIO_SERVE_TOKEN: expected at least 16 characters")
    if token is None and (always or not settings.is_local):
        raise ConfigError(
            f"serve.host {settings.host} lets others in: set AISTUDIO_SERVE_TOKEN to at least 16 characters, e.g. "
            "`export AISTUDIO_SERVE_TOKEN=$(openssl rand -hex 16)`"
        )
    if token is not None and not token.isascii():
        raise ConfigError("the token may have ASCII characters only: browsers send no others")
    return token


def _encoder(one: Planned) -> QueryEncoder:
    config = one.plan.config
    pinned = pin_run_model(one.model, config, one.plan.gallery.store.root)
    return QueryEncoder(config, pinned, "cuda" if config.engine.device == "cuda" else "cpu")


def _labels(runs: Sequence[str]) -> list[str]:
    """A short name for each run: its folder's, with a number where two have the same."""
    labels: list[str] = []
    for run in runs:
        base = PurePosixPath(run.rstrip("/")).name or "run"
        base = "".join(c if c.isalnum() or c in "._-" else "_" for c in base)[:60]
        number, label = 2, base
        while label in labels:
            label, number = f"{base}-{number}", number + 1
        labels.append(label)
    return labels
