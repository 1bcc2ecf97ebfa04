"""`--dry-run --probe N`: score N rows for real into a folder that is removed again; tell what the whole run will need.

The rows are spread evenly over the beginnings of up to eight manifest files, so that a catalogue sorted by host or
category is not judged by its first lines alone. What is told is a projection of what these rows did on the cluster as
it is now; rows that share an image with a neighbour are cheaper in the whole run than in the probe.
"""

import math
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue import folder_candidates, inspect_manifest, read_manifest
from aistudio.config import JobConfig, ManifestSettings
from aistudio.errors import ManifestError
from aistudio.pipeline.progress import by_status, duration, where_time_went
from aistudio.pipeline.score import Prepared, Result, prepare, score
from aistudio.runs import layout
from aistudio.runs.manifest_files import InputFile, list_images, open_input
from aistudio.runs.shard_writer import most_rows
from aistudio.schema import SOURCE_FIELDS, Status
from aistudio.store import Store, open_store

_FILES = 8  # manifest files looked into
_ROWS_PER_FILE = 20_000  # of each, to choose from
_COUNT_BYTES = 8_000_000  # of each, counted on; readers of compressed files read up to a megabyte ahead
_Z = 1.96  # 95 % interval


class Sample(NamedTuple):
    """Rows for the probe and the size of what they stand for."""

    rows: pa.Table  # candidate columns but row_id, then the passthrough columns
    total: int  # rows of the whole manifest
    exact: bool  # counted, not estimated from the files' sizes


class Prediction(NamedTuple):
    """What the whole run needs, projected from a probe."""

    num_probed: int
    total: int
    exact: bool
    counts: dict[str, int]
    images_per_s: float  # of the cluster as it is now, without start-up
    startup_s: float
    network_bytes: float  # downloaded by the whole run
    output_bytes: float
    timings: dict[str, Any]
    num_actors: int  # that were at work
    most_actors: int  # that the plan may come to
    gpus_per_actor: float

    @property
    def wall_s(self) -> float:
        """Of the whole run on the cluster as it is now."""
        return self.startup_s + self.total / self.images_per_s

    @property
    def gpu_hours(self) -> float:
        return self.wall_s / 3600 * self.num_actors * self.gpus_per_actor


def print_probe(prepared: Prepared, num_rows: int) -> None:
    """Probe, and print the prediction."""
    print("\nProbe:\n")
    for line in prediction_lines(probe(prepared, num_rows), prepared.config.report.price_per_hour):
        print(line)


def probe(prepared: Prepared, num_rows: int) -> Prediction:
    """Score about `num_rows` rows with the run's own settings; nothing of it stays.

    Raises:
        AIStudioError: as `score`; ManifestError: no usable row among those looked at.
    """
    sample = take_sample(prepared, num_rows)
    folder = f"{prepared.config.output.rstrip('/')}_probe_{uuid.uuid4().hex[:8]}"
    store = open_store(folder, prepared.config.store)
    try:
        store.write_table("rows/probe.parquet", sample.rows)
        result = score(prepare(_probe_config(prepared.config, store, sample.rows.num_rows)))
        return predict(result, sample, _stored_bytes(store))
    finally:
        _remove(store)


def _probe_config(config: JobConfig, store: Store, num_rows: int) -> JobConfig:
    several = max(8, num_rows // 8)  # shards: actors work side by side
    shard_rows = min(most_rows(config.engine.shard_rows), several)
    manifest = ManifestSettings(path=store.path("rows/probe.parquet"), format="parquet")
    engine = config.engine.model_copy(update={"shard_rows": shard_rows})
    return config.model_copy(update={"manifest": manifest, "engine": engine, "output": store.root, "start_over": False})


def take_sample(prepared: Prepared, num_rows: int) -> Sample:
    """Rows spread evenly over what is looked at. Raises ManifestError when there is none."""
    config = prepared.config
    if config.manifest.format == "folder":
        tables, total, exact = _from_folder(config)
    else:
        tables, total, exact = _from_files(config, prepared.files)
    if not tables:
        raise ManifestError(f"manifest.path: {config.manifest.path}: no usable row for a probe")
    rows = pa.concat_tables(tables, promote_options="default")
    limit = config.manifest.limit
    if limit is not None:
        total, rows = min(total, limit), rows.slice(0, limit)
    num_rows = min(num_rows, rows.num_rows)
    chosen = [(2 * i + 1) * rows.num_rows // (2 * num_rows) for i in range(num_rows)]
    rows = rows.drop_columns(["row_id", *(f.name for f in SOURCE_FIELDS)])
    return Sample(rows.take(pa.array(chosen)), max(total, num_rows), exact)


def _from_folder(config: JobConfig) -> tuple[list[pa.Table], int, bool]:
    root, paths = list_images(config.manifest, config.store)
    tables = [batch.candidates for batch in folder_candidates(paths, root, config.manifest)]
    return tables, sum(t.num_rows for t in tables), True


def _from_files(config: JobConfig, files: list[InputFile]) -> tuple[list[pa.Table], int, bool]:
    step = max(1, math.ceil(len(files) / _FILES))
    looked_at = files[::step]
    tables: list[pa.Table] = []
    rows = size = 0.0
    exact = len(looked_at) == len(files)
    for file in looked_at:
        found, num_rows, counted = _beginning(config, file)
        tables += found
        rows, size, exact = rows + num_rows, size + max(file.size, 0), exact and counted
    if len(looked_at) < len(files):
        everything = sum(max(f.size, 0) for f in files)
        rows = rows * everything / size if size else rows * len(files) / len(looked_at)
    return tables, round(rows), exact


def _beginning(config: JobConfig, file: InputFile) -> tuple[list[pa.Table], float, bool]:
    """First rows of a file; how many rows it has, and whether they were counted."""
    with open_input(file, config.store, config.download) as stream:
        columns = inspect_manifest(stream, file.path, config.manifest)
        stream.seek(0)
        known = pq.ParquetFile(stream).metadata.num_rows if config.manifest.format == "parquet" else None
        stream.seek(0)
        batches = read_manifest(stream, file.path, config.manifest, columns)
        tables = list(_first(batches, _ROWS_PER_FILE))
        num_rows = sum(t.num_rows for t in tables)
        if known is not None:
            return tables, known, True
        ended = num_rows < _ROWS_PER_FILE
        while not ended and stream.tell() < _COUNT_BYTES:
            batch = next(batches, None)
            ended = batch is None
            num_rows += batch.candidates.num_rows if batch else 0
        if ended or file.size <= 0:
            return tables, num_rows, ended
        return tables, num_rows / stream.tell() * file.size, False


def _first(batches: Iterator[Any], num_rows: int) -> Iterator[pa.Table]:
    found = 0
    for batch in batches:
        if batch.candidates.num_rows:
            yield batch.candidates
        found += batch.candidates.num_rows
        if found >= num_rows:
            return


def predict(result: Result, sample: Sample, stored_bytes: int) -> Prediction:
    """The whole run from a probe's result; `stored_bytes`: what the probe wrote."""
    timings, plan = result.record["timings"], result.record["plan"]
    rows = result.ledger.num_stored
    startup_s = min(timings["first_row_s"] or 0.0, timings["wall_s"])
    most = plan["num_actors"]
    return Prediction(
        num_probed=rows,
        total=sample.total,
        exact=sample.exact,
        counts=result.ledger.counts,
        images_per_s=rows / max(timings["wall_s"] - startup_s, 1e-3),
        startup_s=startup_s,
        network_bytes=timings["num_bytes"] / rows * sample.total,
        output_bytes=stored_bytes / rows * sample.total,
        timings=timings,
        num_actors=plan["min_actors"] or most,
        most_actors=most,
        gpus_per_actor=plan["gpus_per_actor"],
    )


def _stored_bytes(store: Store) -> int:
    folders = (layout.MANIFEST, layout.SCORES, layout.TEXTS)
    return sum(e.size for folder in folders for e in store.list(folder))


def _remove(store: Store) -> None:
    if store.is_local:
        shutil.rmtree(Path(store.root), ignore_errors=True)
        return
    for entry in store.list(""):
        store.delete(entry.key)


def failure_interval(failed: int, rows: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): honest for few rows and for none failed."""
    share, z2 = failed / rows, _Z * _Z
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z / (1 + z2 / rows) * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows * rows))
    return max(0.0, centre - half), min(1.0, centre + half)


def prediction_lines(p: Prediction, price_per_hour: float | None) -> Iterator[str]:
    """The prediction in words."""
    failed = p.num_probed - p.counts.get(Status.OK, 0)
    low, high = failure_interval(failed, p.num_probed)
    kinds = ", ".join(f"{status} {n}" for status, n in by_status(p.counts) if status != Status.OK)
    yield f"  probed      {p.num_probed:,} rows: {p.images_per_s:.1f} images/s after {p.startup_s:.0f} s of start-up"
    yield "  manifest    " + (
        f"{p.total:,} rows" if p.exact else f"about {p.total:,} rows (from the size of its files)"
    )
    share = f"{failed / p.num_probed:.1%} (95 % interval {low:.1%} to {high:.1%})"
    yield f"  failures    {share}{': ' + kinds if kinds else ''}"
    yield f"  network     about {_bytes(p.network_bytes)} to download"
    yield f"  output      about {_bytes(p.output_bytes)}"
    yield f"  time        about {duration(p.wall_s)} with the {p.num_actors} model actor(s) that there is room for now"
    if p.most_actors > p.num_actors:
        grown = p.startup_s + p.total / (p.images_per_s * p.most_actors / p.num_actors)
        yield f"  grown       about {duration(grown)} with {p.most_actors}, if nothing else becomes the limit"
    if p.gpus_per_actor:
        yield f"  GPU-hours   about {p.gpu_hours:.1f}"
    if price_per_hour is not None:
        yield f"  price       about {p.wall_s / 3600 * price_per_hour:.2f} at {price_per_hour:g} an hour"
    yield f"  limit       {where_time_went(p.timings)}"


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError
