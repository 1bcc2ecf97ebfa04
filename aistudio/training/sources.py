"""Rows to train on, from a stored run, a manifest or drawn pictures, as one stream of Arrow tables.

Nothing a row contains raises: what cannot be used has a `problem`, which is counted.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import JobConfig, ManifestSettings, ModelsSettings
from aistudio.config.train import TrainSettings
from aistudio.config.train_data import SourceSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.runs import layout as run_layout
from aistudio.runs.record import recorded, stored_settings
from aistudio.runs.snapshot import find_manifest, manifest_identity, read_input
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import storable_text
from aistudio.store import Store, open_store
from aistudio.training.composer_drawn import drawn_pictures
from aistudio.training.drawn import drawn_catalogue

TEXT_COLUMNS = ("row_id", "item_id", "text", "poi_names", "image_url", "fallback_url")
OPTIONAL = {"content_hash": pa.string(), "pair_id": pa.string(), "side": pa.string(), "ctr": pa.float64()}
THUMBNAIL = "thumbnail"


@dataclass(frozen=True)
class Source:
    """One stream of rows. `identity` differs from every other stream's and changes with the content."""

    identity: str
    name: str  # for people
    label: str | None  # passthrough column that is kept as `label`
    vectors: str | None = None  # vector column of a run

    def tables(self) -> Iterator[pa.Table]:
        """Yield tables of TEXT_COLUMNS, OPTIONAL, `label`, `problem`, and of runs `vector` and `thumbnail`."""
        raise NotImplementedError

    def count(self) -> int | None:
        """Return the number of rows where it is cheap to know."""
        return None


@dataclass(frozen=True)
class RunSource(Source):
    """The score files of a run."""

    store: Store = None  # type: ignore[assignment]  # always given; dataclasses want a default after a default

    def tables(self) -> Iterator[pa.Table]:
        wanted = [*TEXT_COLUMNS, *OPTIONAL, "status", THUMBNAIL]
        wanted += [c for c in (self.label, self.vectors) if c and c not in wanted]
        for key in run_layout.score_keys(self.store):
            table = self.store.read_table(key, wanted)
            for column in (self.label, self.vectors):
                if column and column not in table.column_names:
                    known = ", ".join(self.store.read_metadata(key)[0].names)
                    raise ConfigError(f"{self.store.path(key)}: column {column} is missing; found {known}")
            status = table["status"].to_pylist()
            problem = [None if s == Status.OK else f"the image failed: {s}" for s in status]
            yield _completed(table, problem, self.label, self.vectors)

    def count(self) -> int | None:
        return sum(self.store.read_metadata(key)[1] for key in run_layout.score_keys(self.store))


@dataclass(frozen=True)
class ManifestSource(Source):
    """A manifest's candidate rows; their images are still to be fetched."""

    config: JobConfig = None  # type: ignore[assignment]

    def tables(self) -> Iterator[pa.Table]:
        left = self.config.manifest.limit
        for batch in self._batches():
            if batch.rejected.num_rows:
                reasons: list[str | None] = [
                    f"a manifest line was rejected: {_kind(r)}" for r in batch.rejected["reason"].to_pylist()
                ]
                empty = pa.table({c: pa.array([""] * len(reasons), pa.string()) for c in TEXT_COLUMNS})
                yield _completed(empty, reasons, None, None)
            rows = batch.candidates if left is None else batch.candidates.slice(0, left)
            if self.label and self.label not in rows.column_names:
                raise ConfigError(f"{self.name}: column {self.label} is missing; found {', '.join(rows.column_names)}")
            yield _completed(rows, [None] * rows.num_rows, self.label, None)
            if left is not None:
                left -= rows.num_rows
                if left <= 0:
                    return

    def _batches(self) -> Iterator[Any]:
        config = self.config
        files, columns = find_manifest(config)
        for index in range(len(files)):
            yield from read_input(config, files, index, columns, many=len(files) > 1)


def open_source(
    settings: SourceSettings, training: TrainSettings, cache: Path, label: str | None, vectors: str | None
) -> Source:
    """Find a source and tell what it is, without reading it.

    Args:
        cache: where drawn pictures are kept.
        label: passthrough column to keep.
        vectors: vector column to take from a run; None: pixels are wanted.

    Raises:
        ConfigError, ManifestError, StoreError: it is not there, or has no such columns.
    """
    if settings.run is not None:
        overrides = [f"store.{k}={json.dumps(v)}" for k, v in training.store.model_dump(exclude_defaults=True).items()]
        config = stored_settings(settings.run, overrides)
        store = open_store(settings.run, config.store)
        if not run_layout.score_keys(store):
            raise StoreError(f"{store.root}: no score files there; was this run finished?")
        return RunSource(run_identity(store), f"run {settings.run}", label, vectors, store)
    config = job_config(settings, training, cache)
    files, _ = find_manifest(config)
    identity = _digest(manifest_identity(config, files))
    name = "drawn pictures" if settings.drawn else redact(f"manifest {config.manifest.path}")
    return ManifestSource(identity, name, label, None, config)


def job_config(settings: SourceSettings, training: TrainSettings, cache: Path) -> JobConfig:
    """Return the scoring settings with which a source's images are fetched and decoded."""
    download, manifest = training.download, settings.manifest
    if settings.drawn is not None:
        if training.task == "composer":  # type: ignore[attr-defined]
            manifest, url_map = drawn_pictures(settings.drawn, cache)
        else:
            manifest, url_map = drawn_catalogue(settings.drawn, training.task == "ranking", cache)  # type: ignore[attr-defined]
        download = download.model_copy(update={"url_map": url_map})
    if manifest is None:
        manifest = ManifestSettings(path="-", format="csv")  # of a run: its rows are known
    return JobConfig(
        manifest=manifest, output="-", models=ModelsSettings(recall="-"), download=download,
        images=training.images, store=training.store,
    )  # fmt: skip


def run_identity(store: Store) -> str:
    """Return what identifies a run's content: names and sizes of its score files, and its settings' fingerprint."""
    files = [[e.key, e.size] for e in store.list(run_layout.SCORES)]
    return _digest({"files": files, "fingerprint": recorded(store).fingerprint or None})


def _completed(table: pa.Table, problem: list[str | None], label: str | None, vectors: str | None) -> pa.Table:
    """Bring a table to the common columns; absent ones are null, `text` and `poi_names` are never null."""
    num = table.num_rows
    columns: dict[str, Any] = {}
    for name in TEXT_COLUMNS:
        found = table[name] if name in table.column_names else pa.nulls(num, pa.string())
        columns[name] = found if name == "fallback_url" else pc.fill_null(found.cast(pa.string()), "")
    for name, kind in OPTIONAL.items():
        columns[name] = _cast(table[name], kind) if name in table.column_names else pa.nulls(num, kind)
    columns["label"] = _text(table[label]) if label else pa.nulls(num, pa.string())
    columns["problem"] = pa.array(problem, pa.string())
    if vectors:
        columns["vector"] = table[vectors]
    found = table[THUMBNAIL] if THUMBNAIL in table.column_names else pa.nulls(num, pa.binary())
    columns[THUMBNAIL] = found
    return pa.table(columns)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Cast a column; what is no number becomes null."""
    if pa.types.is_string(kind):
        return _text(column)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.cast(kind)
    return pa.array([_number(v) for v in column.to_pylist()], kind)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return a column as text, whatever its type."""
    try:
        return column.cast(pa.string())
    except pa.ArrowException:  # nested values, bytes that are no text
        return pa.array([None if v is None else storable_text(str(v)) for v in column.to_pylist()], pa.string())


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _kind(reason: str) -> str:
    """Return a rejection's reason without the line's own text, so that equal reasons count together."""
    return reason.partition(":")[0]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
