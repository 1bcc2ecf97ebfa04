"""jobs.export: its flags, what it prints, exit codes."""

import numpy as np
import pytest

from aistudio.errors import ConfigError
from aistudio.exports import FORMATS
from aistudio.jobs.export import build_parser, conditions, main
from aistudio.search.held import Range
from tests.evaluation.stored_run import catalogue, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", *catalogue()).root


def test_it_prints_what_it_did(run, tmp_path, capsys):
    flags = ["--run", run, "--to", "npy", "--out", str(tmp_path / "out")]
    assert main([*flags, "--where", "category=hat", "--truncate-dim", "8", "--int8", "--sample", "9"]) == 0
    out = capsys.readouterr().out
    assert "rows, vectors embedding of 8 numbers, int8" in out and "have no vector: left out" in out
    assert "of the 10 nearest rows that the exact ones find (overlap@10, 9 rows of the run as queries)" in out
    num = len(np.load(tmp_path / "out/vectors.npy"))
    assert f"read back and compared: {num:,} rows" in out and f"written: {tmp_path / 'out'}" in out
    with pytest.raises(ConfigError, match="there already"):
        main(flags)
    assert main([*flags, "--overwrite", "--columns", " item_id, text ,"]) == 0
    assert "overlap" not in capsys.readouterr().out


def test_conditions():
    assert conditions(["a=x", "a=y", "b>=2", "b<=3.5", "c=1=2", "d<=0"]) == {
        "a": ["x", "y"], "b": Range(2, 3.5), "c": ["1=2"], "d": Range(high=0),
    }  # fmt: skip
    for wrong, message in (("a", "expected COLUMN=VALUE"), ("=x", "expected COLUMN"), ("a>=x", "'x' is no number")):
        with pytest.raises(ConfigError, match=message):
            conditions([wrong])
    with pytest.raises(ConfigError, match="a has values and limits"):
        conditions(["a=1", "a>=1"])


def test_mistakes(run, tmp_path):
    with pytest.raises(ConfigError, match="--sample 0"):
        main(["--run", run, "--to", "npy", "--out", str(tmp_path / "out"), "--sample", "0"])
    with pytest.raises(ConfigError, match=r"no run\.json"):
        main(["--run", str(tmp_path), "--to", "npy", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main(["--run", run, "--to", "annoy", "--out", str(tmp_path / "out")])
    assert all(name in build_parser().format_help() for name in FORMATS)
