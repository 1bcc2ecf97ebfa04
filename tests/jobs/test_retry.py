"""`jobs.retry`: what it refuses before anything starts. What it replaces is tests/pipeline's."""

from pathlib import Path

import pytest

from aistudio.config import parse_config
from aistudio.errors import ConfigError
from aistudio.jobs.retry import main
from aistudio.runs.record import new_record, write_run
from aistudio.store import open_store


@pytest.fixture
def run(tmp_path: Path) -> str:
    folder = str(tmp_path / "run")
    data = {
        "manifest": {"path": "m.csv", "format": "csv"},
        "output": folder,
        "models": {"recall": "r.yaml"},
        "download": {"headers": {"Authorization": "Bearer t0ken"}},
    }
    write_run(open_store(folder), new_record(parse_config(data, "test"), {}, {}, 1))
    return folder


@pytest.mark.parametrize("status", ["ok", "broken", "ok:200", ""])
def test_only_failures_can_be_retried(run, status):
    with pytest.raises(ConfigError, match="not a failure status"):
        main(["--run", run, "--status", status])


def test_secret_headers_must_be_given_again(run):
    with pytest.raises(ConfigError, match=r"give them again: --set 'download\.headers\.Authorization=\.\.\.'"):
        main(["--run", run])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is this a run folder"):
        main(["--run", str(tmp_path)])
