"""A local Ray that starts while the driver still checks weights. cluster.py takes the start over, or begins one itself.

Workers are not made ready beforehand: Ray 2.60 gives no worker that has run a task to an actor, and a list of modules
to preload would have every process of Ray's own import torch too.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import ray

from aistudio.config import EngineSettings
from aistudio.pipeline import lean_ray
from aistudio.pipeline.limits import usable_cpus
from aistudio.pipeline.starting import Start, descendants, kill_descendants

# Else malloc gives the buffers of every large image back to the kernel and gets them again, page by page: with pictures
# of 12 megapixels that takes as long as decoding them. Dockerfile and cluster.yaml set the same for a cluster's nodes.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
# Ray gives its own processes 30 s, not to be changed; on a busy machine a second try finds their files in memory.
_RAY_IN_HASTE = "timed out during startup"
_start: Start | None = None


def cluster_address(settings: EngineSettings) -> str | None:
    """The cluster that a run would join, None when it would start a Ray of its own."""
    address = (settings.address or "").strip() or os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def begin(settings: EngineSettings) -> None:
    """Begin to start a local Ray in the background, where a run would start one; `connect` takes it over."""
    global _start
    if _start is None and cluster_address(settings) is None and not ray.is_initialized():
        _start = Start(_begin_quietly)


def take() -> Start | None:
    """Hand the start that has begun over to the caller, once; None where none has."""
    global _start
    start, _start = _start, None
    return start


@contextmanager
def abandoned_on_error() -> Iterator[None]:
    """Within the block, whatever ends it before `connect` took a start over ends that start too."""
    try:
        yield
    finally:
        if start := take():
            if start.is_over:
                with contextlib.suppress(Exception):
                    ray.shutdown()
            start.abandon()


def prepare_process() -> None:
    """Set what a process needs before it starts or joins Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no phoning home from a batch job
    for name in ("ray._private.authentication", "ray._private.worker"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they announce defaults, and that this is not the main thread
    # Ray Data always passes actor arguments through the object store, and the core complains of it at each start.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def begin_local(*, environments: bool = False) -> None:
    """Start a Ray of this machine; may hang. `environments`: tasks or actors will be given a `runtime_env`."""
    prepare_process()
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)  # read by glibc when a worker's process begins
    others = set(descendants())
    options: dict[str, Any] = {"num_cpus": usable_cpus(), "include_dashboard": False, "log_to_driver": False}
    with lean_ray.without_helpers(), lean_ray.without_agents(environments=environments):
        try:
            ray.init("local", logging_level=logging.WARNING, **options)
        except Exception as e:  # Ray raises no class of its own here
            if _RAY_IN_HASTE not in str(e):
                raise
            kill_descendants(keep=others)
            ray.init("local", logging_level=logging.WARNING, **options)


def _begin_quietly() -> None:
    with quiet_stderr():
        begin_local()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """The core announces its log level on file descriptor 2; what Python prints meanwhile still reaches the user."""
    try:
        kept = os.dup(2)
    except OSError:  # closed: nobody listens
        yield
        return
    before, own = sys.stderr, _on(kept)
    if own is not None:
        sys.stderr = own  # first, so that no line of another thread goes where the core's go
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        if own is None:
            os.close(kept)
        elif sys.stderr is own:  # a log handler may have kept it meanwhile and can go on with it
            sys.stderr = before


def _on(descriptor: int) -> TextIO | None:
    """A stream like sys.stderr on a copy of file descriptor 2; None where sys.stderr is something else."""
    try:
        if sys.stderr.fileno() != 2:
            return None
    except (AttributeError, OSError, ValueError):  # closed, or a test's own
        return None
    return open(descriptor, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
