"""Runs `score` in the environments of 14 kinds of bug report, A to N, and prints what was expected and what was seen.

    python benchmarks/environments.py [--only A F ...] [--out reports/bench/environments_2026-11.md]

Needs no network. Namespaces and control groups need root; what cannot be made here is skipped with its reason. Runs
three environments at a time, each within a limit; an idle machine takes four minutes. Exit code 1 if one is not as
expected.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _place import LIMIT_S, NUM_ROWS, ROOT, Outcome, Skipped, as_nobody, control_group, private, score, write_base

SOCKS = "socks5://127.0.0.1:9"
NO_FOLDER_SYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>
int fsync(int fd) {
    struct stat s;
    if (!fstat(fd, &s) && S_ISDIR(s.st_mode)) { errno = EINVAL; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


class Case(NamedTuple):
    """One environment. `expected` in words; `right` decides."""

    letter: str
    what: str
    expected: str
    run: Callable[[Path], Outcome]
    right: Callable[[Outcome], bool]


def scored(seen: Outcome) -> bool:
    return seen.code == 0 and seen.ok_rows == NUM_ROWS


def says(*words: str, codes: tuple[int, ...] = (1, 2)) -> Callable[[Outcome], bool]:
    return lambda seen: seen.code in codes and all(word in seen.err for word in words)


def redirected(redirection: str) -> list[str]:
    return ["bash", "-c", f'exec "$@" {redirection}', "bash"]


def stopped_while_joining(conf: Path) -> Outcome:
    """SIGTERM while Ray waits for a head that never answers; `seconds` are from the signal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT_S)
        sent: list[float] = []

        def terminate(process: subprocess.Popen[bytes]) -> None:
            silent.accept()  # the run's own look at the address; Ray's comes next and waits for ever
            time.sleep(5)
            sent.append(time.monotonic())
            process.terminate()

        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        seen = score(
            conf, "--set", "engine.start_timeout_s=300", environment={"RAY_ADDRESS": address}, meanwhile=terminate
        )
        return seen._replace(seconds=began + seen.seconds - sent[0])


def under_uv(conf: Path) -> Outcome:
    uv = shutil.which("uv")
    if uv is None:
        raise Skipped("uv is not installed (pip install uv)")
    python = [uv, "run", "--no-project", "--offline", "--python", sys.executable]
    return score(conf, prefix=python)


def without_folder_sync(conf: Path) -> Outcome:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("no C compiler")
    library = conf.parent / "nosync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-xc", "-", "-o", library, "-ldl"], input=NO_FOLDER_SYNC.encode(), check=True
    )
    return score(conf, environment={"LD_PRELOAD": str(library)})


def same_plan(conf: Path, prefix: list[str]) -> Outcome:
    """The run's outcome, whose message holds both numbers of actors; code 1 when they differ."""
    dry = score(conf, "--dry-run", prefix=prefix)
    real = score(conf, prefix=[*prefix, "env", "AISTUDIO_LOG=json"])
    planned = "1 model actor(s)" in dry.out and '"num_actors": 1' in real.err
    return real._replace(code=real.code if planned else 1, out=f"rows in {real.ok_rows}, one actor in both: {planned}")


def in_group(controller: str, body: Callable[[Path, list[str]], Outcome], **values: int) -> Callable[[Path], Outcome]:
    def run(conf: Path) -> Outcome:
        with control_group(controller, **values) as prefix:
            return body(conf, prefix)

    return run


STALE = "echo 127.0.0.1:6391 > /tmp/ray/ray_current_cluster"
PROXIES = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "all_proxy": SOCKS}
CASES = [
    Case("A", "a stale ray_current_cluster", "0, 20 ok", lambda c: score(c, prefix=private(STALE)), scored),
    Case("A", "SIGTERM while Ray hangs", "ends within 20 s, no process left", stopped_while_joining,
         lambda s: s.code == 1 and s.seconds < 20 and not s.left_over),
    Case("B", "SOCKS beside HTTP proxies", "0, 20 ok", lambda c: score(c, environment=PROXIES), scored),
    Case("C", "no home, ordinary user", "0, 20 ok", lambda c: score(c, prefix=as_nobody()), scored),
    Case("D", "/tmp/ray of another user", "2, the folder and RAY_TMPDIR",
         lambda c: score(c, prefix=as_nobody("chmod 755 /tmp/ray")), says("/tmp/ray", "RAY_TMPDIR")),
    Case("D", "/tmp/ray read-only", "2, the folder and RAY_TMPDIR",
         lambda c: score(c, prefix=private("mount -o remount,ro /tmp/ray")), says("/tmp/ray", "RAY_TMPDIR")),
    Case("D", "RAY_TMPDIR=/proc/nonexist", "2, the folder and the variable",
         lambda c: score(c, environment={"RAY_TMPDIR": "/proc/nonexist"}), says("/proc/nonexist", "RAY_TMPDIR")),
    Case("E", "stderr closed", "0, 20 ok", lambda c: score(c, prefix=redirected("2>&-")), scored),
    Case("E", "all three closed", "0, 20 ok", lambda c: score(c, prefix=redirected("<&- >&- 2>&-")), scored),
    Case("F", "no interface", "1, names lo, within 60 s", lambda c: score(c, prefix=private(":", "-n")),
         says("network interface", "lo", codes=(1,))),
    Case("F", "lo alone", "0, 20 ok", lambda c: score(c, prefix=private("ip link set lo up", "-n")), scored),
    Case("G", "RAY_ADDRESS of a dead head", "1, names the address",
         lambda c: score(c, environment={"RAY_ADDRESS": "127.0.0.1:6399"}),
         says("the Ray cluster at 127.0.0.1:6399 cannot be reached", codes=(1,))),
    Case("G", "RAY_ADDRESS with blanks", "2, names the variable",
         lambda c: score(c, environment={"RAY_ADDRESS": "10.0.0.5 6379"}), says("RAY_ADDRESS", codes=(2,))),
    Case("H", "1.5 GB of memory", "20 ok, or 1 and what to lower",
         in_group("memory", lambda c, p: score(c, prefix=p), limit_in_bytes=1_500_000_000),
         lambda s: scored(s) or says("killed", "1.5 GB", "engine.num_actors", codes=(1,))(s)),
    Case("I", "Ray's disk is full", "the folder and its free space",
         lambda c: score(c, prefix=private("mount -t tmpfs -o size=64k,mode=777 none /tmp/ray")),
         says("/tmp/ray", "MB free")),
    Case("J", "uv run", "0, 20 ok", under_uv, scored),
    Case("K", "folders cannot be synced", "0, 20 ok", without_folder_sync, scored),
    Case("L", "taskset -c 0", "one actor in dry run and run", lambda c: same_plan(c, ["taskset", "-c", "0"]), scored),
    Case("L", "a quota of 1.5 CPUs", "one actor in dry run and run",
         in_group("cpu", same_plan, cfs_quota_us=150_000), scored),
    Case("M", "python jobs/score.py", "0, 20 ok",
         lambda c: score(c, program=[sys.executable, str(ROOT / "jobs/score.py")]), scored),
    Case("N", "stdout on a full disk", "one message, 20 ok",
         lambda c: score(c, prefix=redirected(">/dev/full")),
         lambda s: s.ok_rows == NUM_ROWS and s.err.count("error:") == 1),
    Case("-", "PYTHONWARNINGS=error", "0, 20 ok", lambda c: score(c, environment={"PYTHONWARNINGS": "error"}), scored),
    Case("-", "output in GBK, locale C", "0, 20 ok",
         lambda c: score(c, environment={"PYTHONIOENCODING": "gbk", "LC_ALL": "C"}), scored),
]  # fmt: skip


def row(case: Case, conf: Path) -> tuple[bool, str]:
    """A line of the table, and whether it is as expected (or skipped)."""
    try:
        seen = case.run(conf)
    except Skipped as e:
        return True, f"| {case.letter} | {case.what} | {case.expected} | skipped: {e} | - |"
    except (OSError, subprocess.SubprocessError) as e:
        return False, f"| {case.letter} | {case.what} | {case.expected} | {type(e).__name__}: {e} | **NO** |"
    right = case.right(seen) and "Traceback" not in seen.text
    code = "killed" if seen.code is None else f"exit {seen.code}"
    message = seen.message.replace("|", "/").replace(str(conf.parent), "D")[:160]
    found = f"{code}, {seen.ok_rows} ok, {seen.seconds:.0f} s: {message}"
    return right, f"| {case.letter} | {case.what} | {case.expected} | {found} | {'yes' if right else '**NO**'} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="LETTER")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--at-once", type=int, default=3, metavar="N", help="how many run side by side")
    options = parser.parse_args()
    cases = [c for c in CASES if not options.only or c.letter in options.only]
    folder = Path(tempfile.mkdtemp(prefix="env_", dir="/tmp"))
    conf = write_base(folder)
    lines = ["| | environment | expected | seen | as expected |", "|---|---|---|---|---|"]
    with ThreadPoolExecutor(options.at_once) as pool:
        results = []
        for right, line in pool.map(lambda case: row(case, conf), cases):
            print(line, flush=True)
            results.append(right)
            lines.append(line)
    if options.out:
        load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
        title = f"# Fourteen environments\n\n`python benchmarks/environments.py` ({load}).\n\n"
        options.out.write_text(title + "\n".join(lines) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
