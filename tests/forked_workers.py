"""Ray's Python workers as forks of one process that has imported what they need, for tests that start many of them.

A worker that imports torch, Ray Data and the pipeline takes seconds of a core, its fork a tenth of one. Ray starts
workers by a command line that begins with `sys.executable`; while a test's Ray starts, that is a small program, the
client, which hands command line, environment, folder and streams of a worker to the server, ends as the fork ended,
and takes it along when it is killed. Everything else it hands to the real Python.

A worker does what it always does, only its imports are done already. How processes start is proved elsewhere, by real
ones (tests/jobs, tests/cluster, tests/pipeline/test_interrupt.py); AISTUDIO_TEST_WORKERS=real takes them everywhere.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
# Ray itself is not among them: a fork of a process that has loaded its core cannot reach a cluster.
PRELOADED = (
    "aiohttp",
    "cv2",
    "pandas",
    "pyarrow.parquet",
    "torch",
    "torchvision",
    "aistudio.models.align",
    "aistudio.models.siamese_poi",
    "aistudio.runs.snapshot",
    "aistudio.scoring.canaries",
    "aistudio.scoring.encoders",
    "aistudio.scoring.image_source",
    "aistudio.scoring.shard",
)
_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
arguments = sys.argv[1:]
worker = next((i for i, a in enumerate(arguments) if a.endswith("/default_worker.py")), None)
if worker is not None:
    server = socket.socket(socket.AF_UNIX)
    server.connect({address!r})
    request = {{"argv": arguments[worker:], "env": dict(os.environ), "cwd": os.getcwd()}}
    body = json.dumps(request).encode()
    socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(body)
    sys.exit(int(server.recv(16) or 1))
os.execv({python!r}, [{python!r}, *arguments])
"""


class ForkServer:
    """Within the block a server stands by; `client` is to be `sys.executable` while Ray starts."""

    def __init__(self, folder: Path) -> None:
        self.client = folder / "python"
        self._address = str(folder / "s")

    def __enter__(self) -> "ForkServer":
        self.client.write_text(_CLIENT.format(python=sys.executable, address=self._address), encoding="utf-8")
        self.client.chmod(0o755)
        # Threads of a BLAS would not live on in a fork; Ray gives its workers one thread of OpenMP too.
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [sys.executable, "-m", "tests.forked_workers", self._address]
        self._process = subprocess.Popen(command, cwd=ROOT, env=os.environ | one, stdin=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not Path(self._address).exists():  # it listens before it imports anything
            assert self._process.poll() is None and time.monotonic() < deadline, "the server of forks did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def serve(address: str) -> None:
    """Fork for each client until standard input ends; clients that come during the imports wait."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    awake, ended = socket.socketpair()
    for end in (awake, ended):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ended.fileno(), warn_on_full_buffer=False)
    forks: dict[socket.socket, int] = {}
    while True:
        ready, _, _ = select.select([0, listener, awake, *forks], [], [])
        if 0 in ready:
            break
        for client in [c for c in ready if c in forks]:  # killed: it sends nothing after its request
            os.kill(forks.pop(client), signal.SIGKILL)
            client.close()
        if awake in ready:
            awake.recv(4096)
            _tell_of_ended(forks)
        if listener in ready:
            client, _ = listener.accept()
            _fork(client, forks, [listener, awake, ended])
    for pid in forks.values():
        os.kill(pid, signal.SIGKILL)


def _fork(client: socket.socket, forks: dict[socket.socket, int], mine: Sequence[socket.socket]) -> None:
    client.settimeout(30)
    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    body = b""
    while len(body) < int.from_bytes(head, "big"):
        body += client.recv(1 << 16)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for other in (client, *forks, *mine):
            other.close()
        _become(json.loads(body), streams)
    for stream in streams:
        os.close(stream)
    forks[client] = pid


def _become(request: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the worker: its streams, environment, folder and arguments."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = request["argv"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        sys.modules["numpy"].random.seed()  # else all forks draw the same numbers
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does at the end of a program
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell_of_ended(forks: dict[socket.socket, int]) -> None:
    """Reap forks that have ended; their clients end alike."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for client in [c for c, its in forks.items() if its == pid]:
            del forks[client]
            with contextlib.suppress(OSError):  # it has been killed
                client.sendall(str(max(0, os.waitstatus_to_exitcode(status)) or int(status != 0)).encode())
            client.close()


if __name__ == "__main__":
    serve(sys.argv[1])
