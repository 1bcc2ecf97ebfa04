"""jobs.report: settings of the run, overridden; exit codes; what is printed."""

import pytest

from aistudio.errors import AIStudioError, ConfigError
from aistudio.jobs.report import main
from aistudio.store import open_store
from tests.reports.synthetic_run import write_run


@pytest.fixture
def run(tmp_path):
    store = open_store(str(tmp_path / "run"))
    write_run(store, 4, 6, metrics=False)
    return store


def test_report_prints_a_link_that_opens_and_uses_overrides(run, capsys):
    assert main(["--run", run.root, "--set", "report.title=普陀山", "--set", "report.map_images=0"]) == 0
    out = capsys.readouterr().out
    link = out.splitlines()[0]
    assert link.startswith("file:///") and link.endswith("/report/index.html")
    assert " kB in " in out or " MB in " in out
    assert "普陀山" in run.read_bytes("report/index.html").decode()
    assert not run.exists("report/map.html")


@pytest.mark.parametrize("override", ["report.titel=x", "report.queries_per_page=0", "report"])
def test_a_wrong_setting_is_named(run, override):
    with pytest.raises(ConfigError, match="report"):
        main(["--run", run.root, "--set", override])
    assert not run.exists("report/index.html")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(AIStudioError, match=r"run\.json") as caught:
        main(["--run", str(tmp_path)])
    assert caught.value.exit_code == 2
