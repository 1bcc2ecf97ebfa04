"""`jobs.verify`: what it proves and what it names, from stored files alone."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from aistudio.config import parse_config
from aistudio.jobs.verify import main
from aistudio.runs import layout
from aistudio.runs.record import new_record, write_run
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot
from aistudio.store import open_store
from tests.test_imports import NO_RAY, ROOT


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A finished run of two shards, 3 rows each."""
    folder = str(tmp_path / "run")
    store = open_store(folder)
    data = {"manifest": {"path": "m.csv", "format": "csv"}, "output": folder, "models": {"recall": "r.yaml"}}
    record = new_record(parse_config(data, "test"), {"models": {}}, {}, 1).model_copy(update={"state": "complete"})
    write_run(store, record)
    shards = [Shard("00000-000000", 3), Shard("00000-000001", 3)]
    snapshot = Snapshot(shards=shards, passthrough=[], num_rejected=0, rejected_reasons={}, identity={})
    for i, shard in enumerate(shards):
        ids = [str(3 * i + j) for j in range(3)]
        errors = [None, None, "the server answered 404"]
        scores = pa.table({"row_id": ids, "status": ["ok", "ok", "http_error"], "error": errors})
        store.write_table(layout.manifest_key(shard.name), pa.table({"row_id": ids}))
        store.write_table(f"texts/{shard.name}.parquet", pa.table({"text": ["t"], "embedding": [[1.0]]}))
        metadata = {"aistudio.fingerprint": record.fingerprint}
        store.write_table(f"scores/{shard.name}.parquet", scores, metadata)
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    return folder


def test_a_whole_run_is_verified(run, capsys):
    assert main(["--run", run]) == 0
    out = capsys.readouterr().out
    assert "verified: 6 rows, each stored once, all files whole" in out
    assert "http_error" in out and "the server answered 404" in out


def test_verify_runs_where_ray_cannot_be_imported(run):
    code = f"{NO_RAY}; from aistudio.jobs.cli import main; main(['verify', '--run', {run!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "verified: 6 rows" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda s: s.delete("scores/00000-000001.parquet"), "missing: row_id 3, 4, 5"),
        (lambda s: s.write_bytes("scores/00000-000000.parquet", b"PAR1"), "damaged or not Parquet"),
        (lambda s: s.write_bytes("texts/00000-000000.parquet", b"PAR1"), "damaged or not Parquet"),
        (lambda s: s.write_bytes("scores/x.parquet", b""), "no such shard in the manifest snapshot"),
        (
            lambda s: s.write_table("scores/00000-000000.parquet", s.read_table("scores/00000-000000.parquet"),
                                    {"aistudio.fingerprint": "other"}),
            "scored by another model",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_the_exit_code_is_1(run, capsys, damage, named):
    damage(open_store(run))
    assert main(["--run", run]) == 1
    out = capsys.readouterr().out
    assert "NOT in order" in out and named in out


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    from aistudio.errors import ConfigError

    with pytest.raises(ConfigError, match="is this a run folder"):
        main(["--run", str(tmp_path)])


def test_what_is_wrong_comes_with_the_command_that_mends_it(run, capsys):
    open_store(run).delete("texts/00000-000001.parquet")
    assert main(["--run", run]) == 1
    assert f"Mend it: python -m aistudio verify --run {run} --repair" in capsys.readouterr().out
    open_store(run).delete(layout.MANIFEST_INDEX)
    assert main(["--run", run]) == 1
    assert "no finished manifest snapshot" in (out := capsys.readouterr().out) and "--repair" in out
    (Path(run) / "run.json").write_text('{"config": {')
    assert main(["--run", run]) == 1
    assert "not valid JSON" in (out := capsys.readouterr().out) and "type the command that made this run again" in out
