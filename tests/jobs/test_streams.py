"""Standard streams that are closed, full, gone or of another encoding: a job goes on, and says once what was lost."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import sys
from aistudio.jobs.common import run
def main(argv):
    print("Größe 图片 \\udcff \\U0001f600")
    print("x" * 100_000)
    sys.stderr.write("一 told\\n")
    open(argv[0], "w").write("done")
    return int(argv[1])
run(main, sys.argv[1:])
"""


def job(tmp_path: Path, redirection: str, code: int = 0, environment: str = "", program: str = JOB):
    script = tmp_path / "job.py"
    script.write_text(program, encoding="utf-8")
    command = f"env PYTHONPATH={ROOT} {environment} {sys.executable} {script} {tmp_path}/proof {code} {redirection}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, timeout=100, cwd=tmp_path)
    assert b"Traceback" not in run.stderr and b"Exception ignored" not in run.stderr, run.stderr
    return run


@pytest.mark.parametrize("environment", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_all_is_written_where_it_can_be(tmp_path, environment):
    run = job(tmp_path, "", environment=environment)
    assert (
        run.returncode == 0 and run.stdout.decode().startswith("Größe 图片 \\udcff 😀\n") and len(run.stdout) > 100_000
    )
    assert run.stderr.decode() == "一 told\n"


@pytest.mark.parametrize(
    "redirection", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>&- >/dev/null"]
)
@pytest.mark.parametrize("code", [0, 2])
def test_closed_streams_and_a_full_standard_error_change_nothing(tmp_path, redirection, code):
    assert job(tmp_path, redirection, code).returncode == code
    assert (tmp_path / "proof").read_text() == "done"


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (1, 1), (2, 2)])
def test_a_full_standard_output_is_one_message(tmp_path, code, expected):
    run = job(tmp_path, ">/dev/full", code)
    lines = run.stderr.decode().splitlines()
    assert run.returncode == expected and lines[0] == "一 told" and len(lines) == 2
    assert lines[1].startswith("error: standard output could not be written (No space left on device)")
    assert ("the run and what it stored are whole" in lines[1]) == (code == 0)
    assert (tmp_path / "proof").exists()


def test_a_full_output_and_a_full_error(tmp_path):
    assert job(tmp_path, ">/dev/full 2>/dev/full").returncode == 1
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("environment", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_a_reader_that_leaves_ends_the_job_without_a_word(tmp_path, environment):
    run = job(tmp_path, "| head -c 5; exit ${PIPESTATUS[0]}", environment=environment)
    assert run.returncode == 1 and run.stderr == b"" and not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    "environment",
    [
        "PYTHONIOENCODING=gbk",
        "PYTHONIOENCODING=ascii:strict",
        "LC_ALL=C",
        "LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
        "LANG=zh_CN.GBK",
        "LC_ALL=zh_CN.GB18030 PYTHONUTF8=0",
    ],
)
def test_letters_that_an_encoding_lacks_are_escaped(tmp_path, environment):
    run = job(tmp_path, "", environment=environment)
    assert run.returncode == 0 and (tmp_path / "proof").exists()
    assert b"told" in run.stderr and b"x" * 100_000 in run.stdout


WARNING = """
import os, subprocess, sys, warnings
from aistudio.jobs.common import run
def main(argv):
    warnings.warn("of a library", DeprecationWarning)
    child = subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a worker')"])
    return child.returncode
run(main, sys.argv[1:])
"""


@pytest.mark.parametrize("option", ["error", "error::DeprecationWarning", "ignore,error"])
def test_a_librarys_warning_is_shown_and_not_raised(tmp_path, option):
    run = job(tmp_path, "", environment=f"PYTHONWARNINGS={option}", program=WARNING)
    assert run.returncode == 0 and b"of a library" in run.stderr and b"of a worker" in run.stderr


ENDS = """
import os, signal, sys, time
from aistudio.jobs.common import run
def main(argv):
    if argv[1] == "0":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    sys.exit({"1": None, "2": "words"}[argv[1]])
run(main, sys.argv[1:])
"""


@pytest.mark.parametrize(("how", "code"), [(0, 143), (1, 0), (2, 2)])
def test_other_ways_to_end(tmp_path, how, code):
    assert job(tmp_path, "", how, program=ENDS).returncode == code


TURNED_AWAY = """
import os, sys
from aistudio.jobs.common import run
from aistudio.pipeline.early_ray import quiet_stderr
def main(argv):
    begun = sys.stderr
    begun.write("half a line,")
    begun.flush()
    with quiet_stderr():
        os.write(2, b"the core\\n")
        begun.write(" and its end\\n")
        print("a line", file=begun)
    print("after", file=begun)
    return 0
run(main, sys.argv[1:])
"""


@pytest.mark.parametrize("environment", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_no_line_is_lost_while_the_core_of_ray_is_kept_silent(tmp_path, environment):
    """A thread that is about to print has its stream already when another thread turns the descriptor away."""
    run = job(tmp_path, "", environment=environment, program=TURNED_AWAY)
    assert run.stderr.decode() == "half a line, and its end\na line\nafter\n"


OWN = """
import sys
from aistudio.jobs import streams
streams.prepare()
sys.__stderr__.write("of the interpreter\\n")
print("of ours", file=sys.stderr)
"""


@pytest.mark.parametrize("environment", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_the_interpreters_own_stream_stays_open(tmp_path, environment):
    run = job(tmp_path, "", environment=environment, program=OWN)
    assert sorted(run.stderr.decode().splitlines()) == ["of ours", "of the interpreter"]
