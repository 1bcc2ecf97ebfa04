"""Brings the run.json of an earlier version to today's format; that of a later version is refused.

Format 1 has no `format_version`: it is what version 8b17918 and those after it wrote, until the record was typed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aistudio.errors import RunMismatchError, StoreError
from aistudio.run_record import FORMAT_VERSION
from aistudio.timings import RATE_S


def migrated(data: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a run's record in today's format.

    Args:
        place: of the file, for messages.

    Raises:
        RunMismatchError: a later version wrote it (exit code 2).
        StoreError: its format_version is not a number from 1 on.
    """
    version = data.get("format_version", 1)
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"{place}: not the record of a run: format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise RunMismatchError(
            f"{place}: a later version of AI Studio made this run (format {version}; this version reads up to "
            f"{FORMAT_VERSION}): use that version, or a newer one"
        )
    for step in _STEPS[version - 1 :]:
        data = step(data)
    return data | {"format_version": FORMAT_VERSION}


def _to_2(data: dict[str, Any]) -> dict[str, Any]:
    """Add what version 8b17918 did not record: the steady part of the timings, and the list of work done."""
    timings = data.get("timings")
    if not isinstance(timings, dict) or not timings:
        return data
    if "steady_s" not in timings:
        timings = timings | _from_timeline(data.get("timeline"))
    entry = {"attempt": data.get("attempt"), "kind": "score", "rows": timings.get("num_rows"), "timings": timings}
    return data | {"timings": timings, "work": data.get("work") or [entry]}


def _from_timeline(timeline: object) -> dict[str, Any]:
    """Return start-up, steady work and its rate, judged by the points (seconds, rows done, ...) of a timeline."""
    points = [p for p in timeline if _is_point(p)] if isinstance(timeline, list) else []
    begun: list[Sequence[float]] = [p for p in points if p[1] > 0]
    if not begun:
        return {"images_per_s": None}
    first, last = begun[0], begun[-1]
    steady_s = float(last[0] - first[0])
    rate = (last[1] - first[1]) / steady_s if steady_s >= RATE_S else None
    return {"startup_s": float(first[0]), "steady_s": steady_s, "num_rows": int(last[1]), "images_per_s": rate}


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) >= 2 and all(isinstance(n, int | float) for n in point)


_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_to_2,)  # the n-th brings format n to n + 1
