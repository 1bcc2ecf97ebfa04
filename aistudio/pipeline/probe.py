"""`--dry-run --probe N`: score N rows for real into a folder that is removed again; tell what the whole run will need.

The rows are spread evenly over the beginnings of up to eight manifest files, so that a catalogue sorted by host or
category is not judged by its first lines alone. What is told is a projection of what these rows did on the cluster as
it is now; rows that share an image with a neighbour are cheaper in the whole run than in the probe.
"""

import math
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aistudio.config import JobConfig, ManifestSettings
from aistudio.evaluation.fidelity import Fidelity
from aistudio.pipeline.fidelity import ROWS, compare_runs, exactly, fast_settings, fidelity_lines, refuse_drift
from aistudio.pipeline.progress import by_status, duration, say, where_time_went
from aistudio.pipeline.sample import Sample, take_sample
from aistudio.pipeline.score import Prepared, Result, prepare, score
from aistudio.run_record import Sources, Timings
from aistudio.runs import layout
from aistudio.runs.shard_writer import most_rows
from aistudio.schema import Status
from aistudio.store import Store, open_store
from aistudio.timings import PREDICTION_S

_Z = 1.96  # 95 % interval


class Prediction(NamedTuple):
    """What the whole run needs, projected from a probe."""

    num_probed: int
    total: int
    exact: bool
    counts: dict[str, int]
    images_per_s: float | None  # of the cluster as it is now, without start-up; None: too little steady work
    startup_s: float
    steady_s: float
    network_bytes: float  # downloaded by the whole run
    output_bytes: float
    timings: Timings
    sources: Sources  # where the images come from
    num_actors: int  # that were at work
    most_actors: int  # that the plan may come to
    gpus_per_actor: float

    @property
    def wall_s(self) -> float | None:
        """Predicted seconds of the whole run on the cluster as it is now; None: the probe was too short to predict."""
        if self.images_per_s is None or self.steady_s < PREDICTION_S:
            return None
        return self.startup_s + self.total / self.images_per_s

    @property
    def rows_wanted(self) -> int:
        """How many rows a probe needs for twice the steady work that a prediction takes, rounded up to hundreds."""
        rate = self.images_per_s or self.num_probed / max(self.steady_s, 1.0)
        return math.ceil(max(2 * self.num_probed, 2 * PREDICTION_S * rate) / 100) * 100


class Probed(NamedTuple):
    """What a probe found."""

    prediction: Prediction
    fidelity: Fidelity | None  # None: the settings are exact


def print_probe(prepared: Prepared, num_rows: int) -> None:
    """Probe, and print the prediction and what fast settings change.

    Raises:
        ConfigError: they change more than engine.max_drift allows.
    """
    print("\nProbe:\n")
    found = probe(prepared, num_rows)
    for line in prediction_lines(found.prediction, prepared.config.report.price_per_hour):
        print(line)
    if found.fidelity is not None:
        print("\nWhat fast settings change:\n")
        for line in fidelity_lines(found.fidelity, fast_settings(prepared.config)):
            print(line)
        refuse_drift(found.fidelity, prepared.config)


def check_drift(prepared: Prepared) -> None:
    """Measure what fast settings change before a run begins, if engine.max_drift limits it.

    Raises:
        ConfigError: they change more.
    """
    config = prepared.config
    if config.engine.max_drift is None or not fast_settings(config) or layout.score_keys(prepared.store):
        return  # a run that goes on was measured when it began
    say(f"measuring on {ROWS} rows what {', '.join(fast_settings(config))} change (engine.max_drift)")
    found = probe(prepared, ROWS).fidelity
    assert found is not None
    refuse_drift(found, config)
    say(f"drift {found.drift:.3g}, engine.max_drift is {config.engine.max_drift:g}")


def probe(prepared: Prepared, num_rows: int) -> Probed:
    """Score about `num_rows` rows with the run's own settings, and with exact ones if these are not; nothing stays.

    Raises:
        AIStudioError: as `score`; ManifestError: no usable row among those looked at.
    """
    sample, config = take_sample(prepared, num_rows), prepared.config
    with _scored(config, sample) as (store, result):
        prediction = predict(result, sample, _stored_bytes(store))
        if not fast_settings(config):
            return Probed(prediction, None)
        with _scored(exactly(config), sample) as (exact, _):
            return Probed(prediction, compare_runs(store, exact))


@contextmanager
def _scored(config: JobConfig, sample: Sample) -> Iterator[tuple[Store, Result]]:
    """Score the sample into a folder that is there for the block."""
    store = open_store(f"{config.output.rstrip('/')}_probe_{uuid.uuid4().hex[:8]}", config.store)
    try:
        store.write_table("rows/probe.parquet", sample.rows)
        yield store, score(prepare(_probe_config(config, store, sample.rows.num_rows)))
    finally:
        _remove(store)


def _probe_config(config: JobConfig, store: Store, num_rows: int) -> JobConfig:
    several = max(8, num_rows // 8)  # shards: actors work side by side
    shard_rows = min(most_rows(config.engine.shard_rows), several)
    manifest = ManifestSettings(path=store.path("rows/probe.parquet"), format="parquet")
    # failures are what a probe is there to count
    engine = config.engine.model_copy(update={"shard_rows": shard_rows, "max_failed_share": None, "max_drift": None})
    download = config.download.model_copy(update={"cache": None})  # what the network gives is what is measured
    own = {"manifest": manifest, "engine": engine, "download": download, "output": store.root}
    return config.model_copy(update=own | {"start_over": False, "base": None})


def predict(result: Result, sample: Sample, stored_bytes: int) -> Prediction:
    """The whole run from a probe's result; `stored_bytes`: what the probe wrote."""
    timings, plan = result.record.timings, result.record.plan
    rows = result.ledger.num_stored
    most = plan.num_actors or 1
    return Prediction(
        num_probed=rows,
        total=sample.total,
        exact=sample.exact,
        counts=result.ledger.counts,
        images_per_s=timings.images_per_s,
        startup_s=timings.startup_s or 0.0,
        steady_s=timings.steady_s or 0.0,
        network_bytes=timings.num_bytes / rows * sample.total,
        output_bytes=stored_bytes / rows * sample.total,
        timings=timings,
        sources=result.record.sources,
        num_actors=plan.min_actors or most,
        most_actors=most,
        gpus_per_actor=plan.gpus_per_actor,
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
    rate = "" if p.images_per_s is None else f"{p.images_per_s:.1f} images/s in "
    steady = f"{rate}{p.steady_s:.1f} s of steady work"
    yield f"  probed      {p.num_probed:,} rows: {steady}, after {p.startup_s:.0f} s of start-up"
    yield "  manifest    " + (
        f"{p.total:,} rows" if p.exact else f"about {p.total:,} rows (from the size of its files)"
    )
    share = f"{failed / p.num_probed:.1%} (95 % interval {low:.1%} to {high:.1%})"
    yield f"  failures    {share}{': ' + kinds if kinds else ''}"
    yield f"  network     about {_bytes(p.network_bytes)} to download"
    yield f"  output      about {_bytes(p.output_bytes)}"
    yield from _time_lines(p, price_per_hour)
    yield f"  limit       {where_time_went(p.timings, p.sources)}"


def _time_lines(p: Prediction, price_per_hour: float | None) -> Iterator[str]:
    wall_s = p.wall_s
    if wall_s is None or p.images_per_s is None:
        more = f"; --probe {p.rows_wanted} would tell" if p.total > p.num_probed else ""
        yield f"  time        no prediction: {p.steady_s:.1f} s of steady work, {PREDICTION_S:g} s are needed{more}"
        return
    yield f"  time        about {duration(wall_s)} with the {p.num_actors} model actor(s) that there is room for now"
    if p.most_actors > p.num_actors:
        grown = p.startup_s + p.total / (p.images_per_s * p.most_actors / p.num_actors)
        yield f"  grown       about {duration(grown)} with {p.most_actors}, if nothing else becomes the limit"
    if p.gpus_per_actor:
        yield f"  GPU-hours   about {wall_s / 3600 * p.num_actors * p.gpus_per_actor:.1f}"
    if price_per_hour is not None:
        yield f"  price       about {wall_s / 3600 * price_per_hour:.2f} at {price_per_hour:g} an hour"


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError
