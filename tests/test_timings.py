"""Rates without start-up, also of runs that an older version timed, and whose seconds they are after a retry.

At version 8b17918 a run of 9.6 s, 9.1 s of them start-up, was reported as 26 images/s and eleven hours for a million
images, and a retry's 2 s were shown as the time of all rows of the run.
"""

import pytest

from aistudio.reports.overview import speed as cards
from aistudio.run_record import RunRecord
from aistudio.runs.migrations import migrated
from aistudio.timings import Measured, Pace, add_work, carried_over, measured, scoring_work, speed

TINY = measured(9.6, Pace(9.1, 200, 9.6, 250), 250)
LONG = measured(49.0, Pace(9.0, 40, 49.0, 4040), 4040)


def test_start_up_is_no_speed():
    assert TINY.as_json() == {
        "wall_s": 9.6, "first_row_s": 9.1, "startup_s": 9.1, "steady_s": 0.5, "num_rows": 250, "images_per_s": None,
    }  # fmt: skip
    assert LONG.images_per_s == 100.0 and LONG.startup_s == 9.0  # over the wall clock it would be 82


def test_no_rows_no_speed():
    assert measured(3.0, Pace(), 0).images_per_s is None and measured(3.0, Pace(), 0).first_row_s is None


@pytest.mark.parametrize(("steady_s", "predicts"), [(4.9, False), (9.9, False), (10.0, True)])
def test_there_is_no_prediction_from_too_little(steady_s, predicts):
    assert speed(measured(60, Pace(5, 10, 5 + steady_s, 1000), 1000)).predicts is predicts


def older(record):
    """A record of a version that did not measure start-up and steady work, as it is read today."""
    return RunRecord.model_validate(migrated(record, "run.json"))


def test_an_older_run_is_judged_by_its_timeline():
    timeline = [[0.5, 0, 0], [9.0, 100, 90], [29.0, 500, 450], [49.0, 900, 800]]
    old = {"timings": {"wall_s": 50.0, "first_row_s": 9.0, "images_per_s": 18.0}}
    found = speed(older(old | {"timeline": timeline}).timings)
    assert (found.startup_s, found.steady_s, found.images_per_s, found.rows) == (9.0, 40.0, 20.0, 900)
    assert speed(older(old).timings).images_per_s is None


def run_of(*work):
    record = None
    for attempt, (kind, timings) in enumerate(work, 1):
        record = carried_over(RunRecord(attempt=attempt), record, kind)
        record = add_work(record, kind, Measured({}, timings, []))
    return record


def test_rows_that_an_older_version_did_not_record_are_not_made_up():
    run = older({"attempt": 1, "timings": {"wall_s": 22.0}, "timeline": [[2.6, 0, 0]]})
    assert scoring_work(run.work) == (22.0, None, 1)
    assert cards(run, 30, None) == [("Wall time", "22.0 s", "30 rows")]


def test_a_retrys_seconds_do_not_stand_over_the_run():
    run = run_of(("score", LONG), ("retry", TINY))
    assert run.timings == LONG and [w.kind for w in run.work] == ["score", "retry"]
    assert scoring_work(run.work) == (49.0, 4040, 1)
    [wall, rate, *_] = cards(run, 4040, None)
    assert wall[1:] == ("49.0 s", "4,040 rows, 9.0 s of it start-up") and rate[1] == "100.0"


def test_a_resumed_run_tells_of_both_attempts():
    run = run_of(("score", LONG), ("score", TINY))
    assert scoring_work(run.work) == (58.6, 4290, 2)
    [wall, *_] = cards(run, 5000, None)
    assert wall[1:] == ("58.6 s", "4,290 of 5,000 rows in 2 attempts; the time of the others is not known")


def test_a_run_of_an_older_version_keeps_its_time_through_a_retry():
    old = older({"attempt": 1, "timings": {"wall_s": 50.0}, "timeline": [[9.0, 100, 90], [49.0, 900, 800]]})
    run = add_work(carried_over(RunRecord(attempt=2), old, "retry"), "retry", Measured({}, TINY, []))
    assert run.timings == old.timings and run.timings.wall_s == 50.0 and scoring_work(run.work) == (50.0, 900, 1)


def test_the_overview_predicts_only_from_enough():
    assert [c[0] for c in cards(run_of(("score", TINY)), 250, 3.0)] == ["Wall time"]
    labels = [c[0] for c in cards(run_of(("score", LONG)), 4040, 3.0)]
    assert labels == ["Wall time", "Rate", "A million images", "Cost of a million"]
