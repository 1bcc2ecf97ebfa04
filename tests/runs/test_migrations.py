"""run.json of other versions: earlier ones are read, later ones refused, keys of either kept."""

import json
from pathlib import Path

import pytest

from aistudio.errors import RunMismatchError, StoreError
from aistudio.jobs import aggregate, report, select, verify
from aistudio.pipeline.score import prepare
from aistudio.run_record import FORMAT_VERSION, RunRecord
from aistudio.runs import layout
from aistudio.runs.migrations import migrated
from aistudio.runs.record import load_run, recorded, write_run
from aistudio.store import open_store

OLD = Path(__file__).resolve().parents[1] / "data/run_8b17918"


@pytest.mark.parametrize("name", ["run", "whole"])
def test_what_version_8b17918_stored_is_read_and_survives_being_written(tmp_path, name):
    before = json.loads((OLD / name / layout.RUN).read_text())
    store = open_store(str(tmp_path))
    store.write_json(layout.RUN, before)
    record = load_run(store)
    assert record.state == before["state"] and record.plan.num_actors == before["plan"]["num_actors"]
    assert record.models["recall"].fingerprint == before["models"]["recall"]["fingerprint"]
    assert record.shape == before["shape"] and record.config == before["config"]
    write_run(store, record)
    after = store.read_json(layout.RUN)
    assert after.pop("format_version") == FORMAT_VERSION
    for key, value in before.items():
        if key != "timings":
            assert after[key] == value, key
    assert load_run(store) == record


def test_an_attempt_that_was_timed_by_the_wall_clock_alone_becomes_work():
    before = json.loads((OLD / "whole" / layout.RUN).read_text())
    record = RunRecord.model_validate(migrated(before, "x"))
    [work] = record.work
    assert (work.attempt, work.kind, work.timings.wall_s) == (2, "score", 21.99) and work.timings == record.timings
    assert record.timings.images_per_s is None  # its 0.82 were over the wall clock
    assert record.timings.steps() == {"decode": 0.03, "model": 0.29, "wait": 0.12, "write": 0.06}


def test_keys_of_other_versions_are_kept(tmp_path):
    store = open_store(str(tmp_path))
    stored = {
        "format_version": 2, "state": "complete", "colour": {"deep": [1, None]}, "host": {"rack": 7},
        "models": {"recall": {"family": "align", "licence": "x"}}, "timings": {"wall_s": 1, "resize_s": 2.5},
    }  # fmt: skip
    store.write_json(layout.RUN, stored)
    record = load_run(store)
    assert record.timings.steps()["resize"] == 2.5 and type(record.timings.wall_s) is int
    write_run(store, record.model_copy(update={"state": "running"}))
    assert store.read_json(layout.RUN) == stored | {"state": "running"}


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99])
def test_a_later_format_is_refused_by_every_reader_with_exit_code_2(tmp_path, make_config, capsys, version):
    (tmp_path / "m.csv").write_text("item_id,image_url\n1,u\n")
    config = make_config(tmp_path / "m.csv")
    store = open_store(config.output)
    later = json.dumps({"format_version": version, "config": "of another kind", "state": ["new"]}).encode()
    store.write_bytes(layout.RUN, later)
    wanted = rf"run\.json: a later version of AI Studio made this run \(format {version}; this version reads up to 2\)"
    for job in (verify, aggregate, report, select):
        with pytest.raises(RunMismatchError, match=wanted) as refused:
            job.main(["--run", config.output])
        assert refused.value.exit_code == 2 and "\n" not in str(refused.value)
    with pytest.raises(RunMismatchError, match=wanted):
        prepare(config)
    assert store.read_bytes(layout.RUN) == later  # it is not "made again" as a damaged one is


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([], "not the record of a run"),
        ({"format_version": "2"}, "format_version is '2'"),
        ({"format_version": 0}, "format_version is 0"),
        ({"format_version": 2, "state": "odd"}, "state: Input should be"),
        ({"timings": {"wall_s": "fast"}}, r"timings\.wall_s"),
        ({"models": {"recall": 3}}, r"models\.recall"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, stored, words):
    store = open_store(str(tmp_path))
    store.write_json(layout.RUN, stored)
    with pytest.raises(StoreError, match=words) as refused:
        load_run(store)
    assert "run.json" in str(refused.value)


def test_null_stands_for_absent_and_a_record_cannot_be_changed(tmp_path):
    store = open_store(str(tmp_path))
    store.write_json(layout.RUN, {"timings": None, "models": {"ranking": None}, "rows": None, "error": None})
    record = recorded(store)
    assert (record.models, record.rows.manifest, record.timings.wall_s, record.error) == ({}, None, None, None)
    with pytest.raises(ValueError, match="frozen"):
        record.state = "complete"
    assert recorded(open_store(str(tmp_path / "nothing"))) == RunRecord()
