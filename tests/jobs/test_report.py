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


def test_into_a_folder_against_an_earlier_run_and_what_to_do_next(run, tmp_path, capsys):
    earlier = open_store(str(tmp_path / "earlier"))
    write_run(earlier, 5, 6, metrics=False)
    into = tmp_path / "out"
    assert main(["--run", run.root, "--into", str(into), "--against", earlier.root]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{into.as_uri()}/index.html") and "more like this" in out and "metrics.query=image" in out
    assert "0 items are new, 1 are gone" in (into / "drift.html").read_text() and not run.exists("report/index.html")
    with pytest.raises(ConfigError, match=r"no run\.json there"):
        main(["--run", run.root, "--against", str(tmp_path / "none")])


@pytest.mark.parametrize("override", ["report.titel=x", "report.queries_per_page=0", "report"])
def test_a_wrong_setting_is_named(run, override):
    with pytest.raises(ConfigError, match="report"):
        main(["--run", run.root, "--set", override])
    assert not run.exists("report/index.html")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(AIStudioError, match=r"run\.json") as caught:
        main(["--run", str(tmp_path)])
    assert caught.value.exit_code == 2
