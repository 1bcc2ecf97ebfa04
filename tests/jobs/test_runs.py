"""The runs in a folder: what is listed, what is removed, and what never is."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from aistudio.errors import ConfigError
from aistudio.jobs.runs import main
from aistudio.runs.run_list import list_runs, remove_run
from aistudio.store import open_store

NOW = datetime.now(UTC)


def write(root, name, state="complete", days=0.0, rows=10, **record):
    store = open_store(f"{root}/{name}")
    at = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
    facts = {"state": state, "started_at": at, "finished_at": at, "rows": {"manifest": rows}}
    store.write_bytes("scores/00000-000000.parquet", bytes(1000))
    store.write_bytes("attempts/000001.json", b"{}")
    store.write_json("run.json", facts | record)
    return store


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "old", days=40)
    write(tmp_path, "shop/b/failed", "failed", days=35.5)
    write(tmp_path, "running", "running", days=90, finished_at=None)
    write(tmp_path, "undated", days=1, started_at=None, finished_at="yesterday")
    write(tmp_path, "new", days=0.5, rows=1_234_567)
    write(tmp_path, "new/copy of another", days=99)  # part of the run that it lies in
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "letter.txt").write_text("dear")
    return tmp_path


def test_runs_are_listed_with_state_rows_size_and_age(folder, capsys):
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit("/", 1)[1] for line in lines[1:-1]] == ["running", "old", "failed", "new", "broken", "undated"]
    assert lines[4].split()[:2] == ["complete", "1,234,567"] and lines[4].split()[5] == "0.5"
    assert lines[1].split()[0] == "running" and lines[5].split()[:2] == ["unreadable", "–"]
    assert lines[6].split()[5] == "–" and lines[-1].startswith("6 run(s), ")
    found = {r.path.rsplit("/", 1)[1]: r for r in list_runs(open_store(str(folder)))}
    assert found["new"].num_files == 6 and found["old"].num_bytes > 1000


def test_old_runs_go_after_a_yes_and_nothing_else_does(folder, capsys, monkeypatch):
    (folder / "old" / "mine.txt").write_text("a note")
    for answer in ("no\n", "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        assert main([str(folder), "--prune", "30"]) == 0
        assert "nothing was removed" in capsys.readouterr().out and (folder / "old" / "run.json").exists()
    assert main([str(folder), "--prune", "30", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "removed" in out and "1 other file(s) stay there, such as mine.txt" in out
    assert sorted(p.name for p in folder.iterdir()) == [
        "broken",
        "letter.txt",
        "new",
        "old",
        "running",
        "shop",
        "undated",
    ]
    assert not (folder / "shop/b/failed").exists()
    assert [p.name for p in (folder / "old").iterdir()] == ["mine.txt"]
    assert (folder / "new" / "copy of another" / "run.json").exists()
    assert main([str(folder), "--prune", "30"]) == 0 and "none is 30 days old" in capsys.readouterr().out


def test_where_nobody_can_be_asked_nothing_is_removed(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ConfigError, match="--yes"):
        main([str(folder), "--prune", "30"])
    with pytest.raises(ConfigError, match="0 days or more"):
        main([str(folder), "--prune", "-1"])
    assert (folder / "old" / "run.json").exists()


def test_run_json_goes_last(folder, monkeypatch):
    store = open_store(str(folder / "old"))
    gone = []
    monkeypatch.setattr(store, "delete", gone.append)
    remove_run(store)
    assert gone[-1] == "run.json" and set(gone) == {"scores/00000-000000.parquet", "attempts/000001.json", "run.json"}


def test_a_folder_without_runs_and_one_that_is_a_run(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0 and "no run in" in capsys.readouterr().out
    write(tmp_path, "one")
    assert main([str(tmp_path / "one")]) == 0
    assert "1 run(s)" in capsys.readouterr().out
