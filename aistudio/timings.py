"""How fast a run was: start-up and steady work measured apart, and how much of it is enough to say something.

Steady work lies between the first finished rows and the last: models load, actors start and the first batch fills
before it, so a rate over the wall clock says more about how short a run was than about how fast it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aistudio.run_record import Kind, RunRecord, Timings, Work

RATE_S = 5.0  # of steady work: less is a handful of batches
PREDICTION_S = 10.0  # of steady work: less is too little to predict hours from
STEADY_S = 30.0  # of steady work: less is too little to advise what to change


class Pace(NamedTuple):
    """Rows with an outcome at the first and at the last report, and when those came, in seconds since the start."""

    first_s: float = 0.0
    first_rows: int = 0
    last_s: float = 0.0
    last_rows: int = 0


class Speed(NamedTuple):
    """What is known of the speed of one attempt."""

    wall_s: float | None
    startup_s: float | None  # to the first finished rows
    steady_s: float | None
    rows: int | None  # that the attempt gave an outcome
    images_per_s: float | None  # of the steady work; None: too little of it

    @property
    def predicts(self) -> bool:
        """Whether there was enough steady work for a prediction."""
        return self.images_per_s is not None and (self.steady_s or 0.0) >= PREDICTION_S


class Measured(NamedTuple):
    """What an attempt found out while it worked."""

    facts: dict[str, str]
    timings: Timings
    timeline: Sequence[tuple[float, int, int]]  # seconds, rows done, rows ok


def measured(wall_s: float, pace: Pace, rows: int) -> Timings:
    """Return how fast an attempt was, from its wall clock and its pace."""
    steady_s = pace.last_s - pace.first_s
    rate = (pace.last_rows - pace.first_rows) / steady_s if steady_s >= RATE_S else None
    return Timings(
        wall_s=round(wall_s, 2),
        first_row_s=round(pace.first_s, 2) if rows else None,
        startup_s=round(pace.first_s if rows else wall_s, 2),
        steady_s=round(steady_s, 2),
        num_rows=rows,
        images_per_s=None if rate is None else round(rate, 2),
    )


def speed(timings: Timings) -> Speed:
    """Return the speed that an attempt's timings tell of."""
    return Speed(timings.wall_s, timings.startup_s, timings.steady_s, timings.num_rows, timings.images_per_s)


def add_work(record: RunRecord, kind: Kind, found: Measured) -> RunRecord:
    """Add what an attempt has done to the record; a retry leaves the timings of the scoring as they were."""
    done = Work(attempt=record.attempt, kind=kind, rows=found.timings.num_rows, timings=found.timings)
    first = "timings" not in record.model_fields_set
    record = record.model_copy(update={"work": (*record.work, done)})
    if kind == "retry" and not first:
        return record
    return record.model_copy(update={**found._asdict(), "timeline": tuple(found.timeline)})


def carried_over(record: RunRecord, earlier: RunRecord | None, kind: Kind) -> RunRecord:
    """Keep of the earlier attempts' record what a new one's has to: the work done, for a retry its timings too."""
    if earlier is None:
        return record
    kept = ("work", "timings", "timeline", "facts", "sources") if kind == "retry" else ("work",)
    kept = (*kept, "delta")
    return record.model_copy(update={k: getattr(earlier, k) for k in kept if k in earlier.model_fields_set})


def scoring_work(work: Sequence[Work]) -> tuple[float, int | None, int] | None:
    """Return seconds, rows (None: not known) and number of the attempts at scoring whose time is known, if any is."""
    scored = [w for w in work if w.kind == "score" and w.timings.wall_s]
    if not scored:
        return None
    rows = [w.rows for w in scored if w.rows is not None]
    return sum(w.timings.wall_s or 0.0 for w in scored), sum(rows) if rows else None, len(scored)
