"""Starting or joining Ray, what it has to offer, and turning its errors back into ours."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray
import ray.data
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError


class Resources(NamedTuple):
    """What the cluster has now (not what this machine has)."""

    cpus: float
    gpus: float
    nodes: int

    def __str__(self) -> str:
        return f"{self.nodes} node(s), {self.cpus:g} CPUs, {self.gpus:g} GPUs"


@contextmanager
def engine(settings: EngineSettings) -> Iterator[Resources]:
    """Ray for the duration of the block: the cluster at engine.address or RAY_ADDRESS, else a local one.

    A Ray that is already initialised in this process is used and left running.

    Raises:
        AIStudioError: the cluster cannot be reached.
    """
    ours = not ray.is_initialized()
    if ours:
        _start(settings)
    try:
        _configure_data()
        yield cluster_resources()
    finally:
        if ours:
            ray.shutdown()


def _start(settings: EngineSettings) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no phoning home from a batch job
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # announces its default at each start
    # Ray Data always passes actor arguments through the object store, and the core complains of it at each start.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = settings.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        else:
            with _quiet_stderr():
                ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as e:
        place = f"the Ray cluster at {address}" if address else "a local Ray"
        raise AIStudioError(f"{place} cannot be reached or started: {e}") from None


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The core announces its log level on file descriptor 2; real failures come as exceptions."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _configure_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.target_max_block_size = None  # a block is a shard: never split by size
    # Retry limits have no named parameter yet in Ray 2.60; pyproject.toml holds Ray below the version that drops these.
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    context.max_errored_blocks = 0  # a failed row is a row; a failed block is a failed run
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures reach the user once, as our message


def cluster_resources() -> Resources:
    """Totals of the running cluster."""
    total = ray.cluster_resources()
    nodes = sum(1 for n in ray.nodes() if n["Alive"])
    return Resources(float(total.get("CPU", 0)), float(total.get("GPU", 0)), nodes)


def innermost(e: BaseException) -> str:
    """`Type: message` of the error at the bottom of what Ray raised, without the traceback that Ray puts into it."""
    while (cause := getattr(e, "cause", None) or e.__cause__) is not None and cause is not e:
        e = cause
    lines = str(e).strip().splitlines()
    return f"{type(e).__name__}: {lines[-1] if lines else ''}"


def our_error(e: BaseException) -> AIStudioError | None:
    """The AI Studio error inside an exception that Ray raised, if there is one."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [e]
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        if isinstance(error, AIStudioError):
            # Ray raises a mixture of RayTaskError and our class, whose text is a traceback.
            cause = getattr(error, "cause", None)
            return cause if isinstance(cause, AIStudioError) else error
        seen.add(id(error))
        todo += [getattr(error, "cause", None), error.__cause__, error.__context__]
    return None
