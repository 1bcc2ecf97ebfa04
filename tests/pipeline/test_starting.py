"""A start that hangs, fails or is interrupted: it ends in time, and nothing that it started lives on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from aistudio.pipeline import stopping
from aistudio.pipeline.starting import StartTimeout, descendants, started

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])",
]


@pytest.fixture(autouse=True)
def _leave_in_order(monkeypatch):
    monkeypatch.setattr(stopping, "_hanging", threading.Event())


def until(true) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def family(processes: list[subprocess.Popen]) -> set[int]:
    return {p.pid for p in processes} & set(descendants())


def begin_and(processes: list[subprocess.Popen], then):
    """A start that leaves a process and its child behind, and then does `then`."""

    def begin() -> None:
        before = len(descendants())
        processes.append(subprocess.Popen(SLEEPER))
        until(lambda: len(descendants()) >= before + 2)
        then()

    return begin


def reaped(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        assert process.wait(30) == -signal.SIGKILL


def test_a_start_that_is_over_is_kept_until_the_end_of_the_block():
    threads = []
    with started(lambda: threads.append(threading.current_thread()), 30):
        assert threads[0].is_alive() and threads[0] is not threading.main_thread()
    threads[0].join(30)
    assert not threads[0].is_alive() and not stopping._hanging.is_set()


def test_a_start_that_hangs_is_given_up_and_its_processes_are_killed():
    mine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    theirs: list[subprocess.Popen] = []
    never = threading.Event()
    try:
        with pytest.raises(StartTimeout), started(begin_and(theirs, never.wait), 5):
            raise AssertionError("the block must not begin")
        reaped(theirs)
        assert mine.poll() is None  # what was there before is not touched
        assert stopping._hanging.is_set()
    finally:
        never.set()
        mine.kill()
        mine.wait(10)


def test_a_start_that_fails_raises_its_own_error_and_leaves_no_process():
    theirs: list[subprocess.Popen] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), started(begin_and(theirs, fail), 60):
        raise AssertionError("the block must not begin")
    reaped(theirs)
    assert not stopping._hanging.is_set()


def test_a_signal_is_heard_while_the_start_hangs():
    never = threading.Event()
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), started(never.wait, 60):
        raise AssertionError("the block must not begin")
    assert time.monotonic() - began < 50  # not the limit's end
    never.set()


def test_a_process_with_a_thread_that_hangs_leaves_at_once_and_says_what_it_had_to():
    code = """
import atexit, threading, time
from aistudio.pipeline import stopping
atexit.register(time.sleep, 600)
threading.Thread(target=time.sleep, args=(600,)).start()
print("said")
stopping.leave_behind_at_exit()
stopping.leave(7)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stdout) == (7, "said\n")


def _leave(code: str) -> "subprocess.CompletedProcess[str]":
    program = f"import atexit, os, sys, threading, time\nfrom aistudio.pipeline import stopping\n{code}"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)


CRASHES = {
    "an object that crashes when Python takes its modules apart": """
class Native:
    def __del__(self, crash=os.abort):
        crash()
native = Native()
""",
    "a native library that crashes when the process takes it down": """
import ctypes
crash = ctypes.CFUNCTYPE(None)(os.abort)
ctypes.CDLL(None).__cxa_atexit(crash, None, None)
""",
    "standard error that somebody took away": """
class Gone:
    closed = False
    def write(self, text): pass
    def flush(self): raise ValueError("gone")
sys.stderr = Gone()
""",
}


@pytest.mark.parametrize("foreign", CRASHES.values(), ids=CRASHES)
def test_a_crash_in_the_end_of_foreign_code_does_not_change_the_exit_code(foreign):
    assert _leave(f"{foreign}\nsys.exit(0)").returncode != 0  # what would happen
    for code in (0, 3):
        run = _leave(f"{foreign}\nprint('said')\nstopping.leave({code})")
        assert (run.returncode, run.stdout, run.stderr) == (code, "said\n", "")


def test_a_process_ends_in_order_threads_first():
    said = """
threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
atexit.register(print, "atexit")
stopping.leave(3)
"""
    run = _leave(said)
    assert (run.returncode, run.stdout, run.stderr) == (3, "thread\natexit\n", "")


@pytest.mark.parametrize(
    "hangs", ["atexit.register(time.sleep, 600)", "threading.Thread(target=time.sleep, args=(600,)).start()"]
)
def test_what_hangs_at_the_end_is_left_behind(hangs):
    run = _leave(f"stopping._ORDER_S = 0.5\n{hangs}\nprint('said')\nstopping.leave(3)")
    assert (run.returncode, run.stdout) == (3, "said\n")


def test_what_fails_at_the_end_is_told_and_changes_nothing():
    run = _leave("def fail(): raise SystemError('no')\natexit.register(fail)\nprint('said')\nstopping.leave(0)")
    assert (run.returncode, run.stdout) == (0, "said\n") and "SystemError: no" in run.stderr


HANGS = """
import os, sys, threading, time
from aistudio.pipeline.stopping import end_with_the_raylet
os.environ["RAY_RAYLET_PID"] = sys.argv[1] or str(os.getppid())
end_with_the_raylet(grace_s=0.1)
print(os.getpid(), flush=True)
threading.Thread(target=time.sleep, args=(60,)).start()  # Python waits for it
"""
STARTS_IT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:3]])
time.sleep(3)
"""


def _is_running(pid: int) -> bool:
    """A process that has ended, and that nobody asked after yet, is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("raylet", "stays"), [("", False), ("1", True), ("no number", True)])
def test_a_worker_that_hangs_ends_with_its_raylet_and_with_nothing_else(raylet, stays, tmp_path):
    """The raylet is the process that started it, or another one that is not (1)."""
    with (tmp_path / "pid").open("w") as out:
        subprocess.run([sys.executable, "-c", STARTS_IT, HANGS, raylet], cwd=ROOT, stdout=out, timeout=60, check=True)
    pid = int((tmp_path / "pid").read_text())
    try:
        until = time.monotonic() + (4 if stays else 20)
        while _is_running(pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert _is_running(pid) == stays
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
