"""Starting or joining Ray, what it has to offer and can grow to, waiting for room, and turning its errors into ours."""

import gc
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util
import yaml
from ray.util.annotations import RayDeprecationWarning

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.imports import uncollected
from aistudio.pipeline import early_ray, lean_ray, surroundings
from aistudio.pipeline.early_ray import cluster_address, quiet_stderr
from aistudio.pipeline.plan import Bundle, Resources, local_memory
from aistudio.pipeline.starting import Start, StartTimeout

_RAY_ADVICE = re.compile(r"\nFailed to [^\n]* after \d+/\d+ attempts \(total backoff.*", re.DOTALL)
_LACKING = re.compile(r"No module named '?([\w.]+)")
_REACH_S = 20.0  # for a connection to the head; a machine that drops packets never answers
_BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # Ray's cluster launcher leaves cluster.yaml there on the head node


@contextmanager
def connect(settings: EngineSettings, *, environments: bool = False) -> Iterator[Resources]:
    """Ray for the duration of the block: the cluster at engine.address or RAY_ADDRESS, else a local one.

    A Ray that is already initialised in this process is used and left running. A local Ray is started whatever other
    Rays run on this machine.

    Args:
        environments: tasks or actors will be given a `runtime_env`, for which a local Ray starts a process more.

    Raises:
        ConfigError: the address, or Ray's folder here, cannot be right.
        AIStudioError: Ray cannot be started or reached within engine.start_timeout_s.
    """
    early = early_ray.take()
    if early is None and ray.is_initialized():
        _configure_data()
        yield cluster_resources(settings)
        return
    if early is None:
        check_engine(settings)
    with ExitStack() as stack:
        with _explained(settings), nullcontext() if early else quiet_stderr():
            start = early or Start(lambda: _begin(settings, environments))
            with uncollected():
                importlib.import_module("ray.data")  # meanwhile
            stack.enter_context(start.finished(settings.start_timeout_s))
        stack.callback(ray.shutdown)
        _configure_data()
        if cluster_address(settings) is None:
            stack.enter_context(lean_ray.without_data_actors())
        yield cluster_resources(settings)


def check_engine(settings: EngineSettings) -> None:
    """See that Ray can be started on this machine, or that the named cluster's address is one; starts nothing.

    Raises:
        ConfigError, AIStudioError: as `connect`.
    """
    if ray.is_initialized():
        return
    address = cluster_address(settings)
    if address is None:
        surroundings.check_machine()
    else:
        surroundings.cluster_place(address, _source(settings))


def _begin(settings: EngineSettings, environments: bool) -> None:
    """Start or join Ray; may hang."""
    address = cluster_address(settings)
    if address is None:
        early_ray.begin_local(environments=environments)
        return
    early_ray.prepare_process()
    if place := surroundings.cluster_place(address, _source(settings)):
        surroundings.check_reachable(*place, min(_REACH_S, settings.start_timeout_s))
    ray.init(address, logging_level=logging.WARNING, log_to_driver=False)


@contextmanager
def _explained(settings: EngineSettings) -> Iterator[None]:
    """Turns everything that a start can end with into one message."""
    address = cluster_address(settings)
    try:
        yield
    except AIStudioError:
        raise
    except StartTimeout:
        limit = f"within engine.start_timeout_s ({settings.start_timeout_s:g} s)"
        raise AIStudioError(
            f"the Ray cluster at {address} cannot be reached: no answer {limit}; is it a Ray head of this version?"
            if address
            else f"a local Ray did not start {limit}; a busy machine needs more time. Ray's logs: {_logs()}"
        ) from None
    except Exception as e:  # noqa: BLE001 - Ray raises bare Exception, RuntimeError, OSError, AssertionError and more
        reason = " ".join(str(e).split())[:1000] or type(e).__name__
        if address:
            raise AIStudioError(f"the Ray cluster at {address} cannot be reached or joined: {reason}") from None
        raise AIStudioError(f"a local Ray cannot be started: {reason} Ray's logs: {_logs()}") from None


def _logs() -> str:
    return f"{surroundings.ray_folder()}/session_latest/logs"


def _configure_data() -> None:
    import ray.data  # takes a second; `connect` has it done while Ray starts

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    # Rows are whole shards: what fetchers hand on is cut into a block per shard, however many a task was given.
    context.target_max_block_size = 1 << 20
    # Retry limits have no named parameter yet in Ray 2.60; pyproject.toml holds Ray below 2.64, which drops these.
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    context.memory_usage_poll_interval_s = None  # else each task walks all pages of its process once a second
    context.max_errored_blocks = 0  # a failed row is a row; a failed block is a failed run
    context.raise_original_map_exception = True  # Ray's own wrapper loses ours, and with it the message and exit code
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures reach the user once, as our message


def _source(settings: EngineSettings) -> str:
    return "engine.address" if (settings.address or "").strip() else "RAY_ADDRESS"


def cluster_resources(settings: EngineSettings) -> Resources:
    """Totals of the running cluster, and what it can grow to: as set, else as the autoscaler or the launcher says."""
    total = ray.cluster_resources()
    nodes = sum(1 for n in ray.nodes() if n["Alive"])
    most = _autoscaler_limits() if cluster_address(settings) else {}
    max_cpus = settings.max_cpus if settings.max_cpus is not None else most.get("CPU", 0)
    max_gpus = settings.max_gpus if settings.max_gpus is not None else most.get("GPU", 0)
    memory = local_memory() if cluster_address(settings) is None else 0
    return Resources(
        float(total.get("CPU", 0)), float(total.get("GPU", 0)), nodes, float(max_cpus), float(max_gpus), memory
    )


def _autoscaler_limits() -> dict[str, float]:
    try:
        from ray._private.state import state  # where Ray Data asks too; there is no public door

        told = state.get_max_resources_from_cluster_config()
    except (ImportError, AttributeError):  # another Ray: the launcher's file is asked alone
        told = None
    if told:
        return dict(told)
    try:
        config = yaml.safe_load(_BOOTSTRAP.expanduser().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, yaml.YAMLError):  # RuntimeError: nobody knows where home is
        return {}
    return launcher_limits(config)


def launcher_limits(config: dict[str, Any]) -> dict[str, float]:
    """CPUs and GPUs of a cluster.yaml's nodes at their most; the head counts once, max_workers limits the others."""
    head = config.get("head_node_type")
    most = {"CPU": 0.0, "GPU": 0.0}
    for name, kind in config.get("available_node_types", {}).items():
        count = 1 if name == head else min(kind.get("max_workers", 0), config.get("max_workers", 0))
        for key in most:
            most[key] += count * float(kind.get("resources", {}).get(key, 0))
    return most


def wait_for_room(bundles: Sequence[Bundle], settings: EngineSettings, resources: Resources) -> None:
    """Return when the cluster has room for all `bundles` at once: the least that a run can work with.

    They are reserved for a moment and given back; a cluster that can grow takes the reservation as a request.

    Raises:
        AIStudioError: no room within engine.schedule_timeout_s (engine.scale_up_timeout_s where nodes can be added).
    """
    limit_s = settings.scale_up_timeout_s if resources.can_grow else settings.schedule_timeout_s
    group = ray.util.placement_group(list(bundles), strategy="PACK")
    try:
        if group.wait(min(1.0, limit_s)):
            return
        gc.collect()  # the actors of a run that failed in this process may be held by garbage
        print(f"waiting for room on the cluster ({resources}), at most {limit_s:g} s", file=sys.stderr, flush=True)
        if not group.wait(limit_s):
            raise AIStudioError(no_room(bundles, resources, limit_s))
    finally:
        ray.util.remove_placement_group(group)


def missing_now(bundles: Sequence[Bundle]) -> dict[str, float]:
    """How much of each resource is not free at this moment; empty when the run could start at once."""
    free = ray.available_resources()
    wanted: dict[str, float] = {}
    for bundle in bundles:
        for key, n in bundle.items():
            wanted[key] = wanted.get(key, 0.0) + n
    return {key: n - free.get(key, 0.0) for key, n in wanted.items() if n > free.get(key, 0.0)}


def no_room(bundles: Sequence[Bundle], resources: Resources, limit_s: float) -> str:
    """Say in words which resources are missing."""
    wanted = " and ".join(" + ".join(f"{n:g} {key}" for key, n in b.items() if n) for b in bundles)
    free = ray.available_resources()
    return (
        f"the cluster had no room for this run within {limit_s:g} s: it needs at least {wanted} at once, free are "
        f"{free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU of {resources}. Other jobs hold the rest, or no "
        "single node is large enough (see `ray status`); raise engine.schedule_timeout_s or "
        "engine.scale_up_timeout_s to wait longer"
    )


def lacking_package(e: BaseException, settings: EngineSettings) -> AIStudioError | None:
    """Return a message where the nodes of a joined cluster lack a package that is installed here, else None."""
    match = _LACKING.search(str(e))
    if match is None or cluster_address(settings) is None:
        return None
    return AIStudioError(
        f"the cluster's nodes lack the Python package {match[1].partition('.')[0]}: Ray sends a job's data, not its "
        "packages. Install the project where Ray runs (pip install, or the nodes' image), or have Ray do it for the "
        "job: python -m aistudio submit --install (docs/cluster.md)"
    )


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
            return _without_advice(cause if isinstance(cause, AIStudioError) else error)
        seen.add(id(error))
        todo += [getattr(error, "cause", None), error.__cause__, error.__context__]
    return None


def _without_advice(error: AIStudioError) -> AIStudioError:
    """The error without the paragraph on its own retry settings that Ray Data adds to a worker's message."""
    if error.args and isinstance(error.args[0], str):
        error.args = (_RAY_ADVICE.sub("", error.args[0]), *error.args[1:])
    return error
