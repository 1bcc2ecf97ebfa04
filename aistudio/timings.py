"""How fast a run was: start-up and steady work measured apart, and how much of it is enough to say something.

Steady work lies between the first finished rows and the last: models load, actors start and the first batch fills
before it, so a rate over the wall clock says more about how short a run was than about how fast it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


def measured(wall_s: float, pace: Pace, rows: int) -> dict[str, Any]:
    """Return the part of run.json's timings that says how fast an attempt was, from its wall clock and its pace."""
    steady_s = pace.last_s - pace.first_s
    rate = (pace.last_rows - pace.first_rows) / steady_s if steady_s >= RATE_S else None
    return {
        "wall_s": round(wall_s, 2),
        "first_row_s": round(pace.first_s, 2) if rows else None,
        "startup_s": round(pace.first_s if rows else wall_s, 2),
        "steady_s": round(steady_s, 2),
        "num_rows": rows,
        "images_per_s": None if rate is None else round(rate, 2),
    }


def speed(timings: Mapping[str, Any], timeline: Sequence[Any] = ()) -> Speed:
    """Return the speed that run.json tells of; runs of older versions, without steady_s, are judged by their timeline.

    Args:
        timings: of run.json.
        timeline: [seconds, rows done, ...] in order.
    """
    wall = timings.get("wall_s")
    if "steady_s" in timings:
        return Speed(wall, *(timings.get(k) for k in ("startup_s", "steady_s", "num_rows", "images_per_s")))
    points = [p for p in timeline if isinstance(p, list | tuple) and len(p) >= 2]
    begun = [p for p in points if p[1] > 0]
    if not begun:
        return Speed(wall, None, None, None, None)
    first, last = begun[0], begun[-1]
    steady_s = float(last[0] - first[0])
    rate = (last[1] - first[1]) / steady_s if steady_s >= RATE_S else None
    return Speed(wall, float(first[0]), steady_s, int(last[1]), rate)


def add_work(record: dict[str, Any], kind: str, found: dict[str, Any]) -> None:
    """Add what an attempt has done to run.json's `work`; a retry leaves the timings of the scoring as they were.

    Args:
        kind: "score" or "retry".
        found: facts, timings and timeline of the attempt.
    """
    entry = {
        "attempt": record["attempt"],
        "kind": kind,
        "rows": found["timings"]["num_rows"],
        "timings": found["timings"],
    }
    record["work"] = [*record.get("work", []), entry]
    if kind == "score" or "timings" not in record:
        record |= found


def carried_over(earlier: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    """Return what a new attempt's record keeps of the earlier one's: the work done, for a retry its timings too."""
    if earlier is None:
        return {}
    kept: dict[str, Any] = {}
    if "work" in earlier:
        kept["work"] = earlier["work"]
    elif "timings" in earlier:  # of an older version
        rows = speed(earlier["timings"], earlier.get("timeline") or []).rows
        kept["work"] = [
            {"attempt": earlier.get("attempt"), "kind": "score", "rows": rows, "timings": earlier["timings"]}
        ]
    if kind == "retry":
        kept |= {k: earlier[k] for k in ("timings", "timeline", "facts", "sources") if k in earlier}
    return kept


def scoring_work(run: Mapping[str, Any]) -> tuple[float, int, int] | None:
    """Seconds, rows and number of the attempts at scoring whose time is known; None where none is."""
    work = [w for w in run.get("work") or [] if w.get("kind") == "score" and (w.get("timings") or {}).get("wall_s")]
    if not work:
        return None
    return sum(w["timings"]["wall_s"] for w in work), sum(w.get("rows") or 0 for w in work), len(work)
