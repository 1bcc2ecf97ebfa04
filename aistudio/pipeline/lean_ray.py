"""What a Ray of this machine alone does without: processes of Ray's own that each import Ray for seconds.

Ray 2.60 has settings for none of them. Where a version calls something otherwise, it starts it as ever.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

_HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")
_STAND_IN = Path(__file__).with_name("_agent_stand_in.py")
# By the raylet's option that says how to start an agent: the ports that the raylet waits for, by their names in Ray.
_AGENTS = {
    "dashboard_agent_command": (
        "METRICS_AGENT_PORT_NAME",
        "METRICS_EXPORT_PORT_NAME",
        "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    ),
    "runtime_env_agent_command": ("RUNTIME_ENV_AGENT_PORT_NAME",),
}
_NO_PORT = -1  # what Ray's own agents report of a service that is not there


@contextmanager
def replaced(places: Mapping[str, Any]) -> Iterator[None]:
    """Within the block "module:name" stands for something else, where that module has that name."""
    with ExitStack() as stack:
        for place, value in places.items():
            module_name, _, name = place.partition(":")
            try:
                module = importlib.import_module(module_name)
            except ImportError:
                continue
            if hasattr(module, name):
                stack.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, value)
        yield


@contextmanager
def without_helpers() -> Iterator[None]:
    """Within the block a Ray starts without autoscaler, forwarder of logs and what is left of the dashboard.

    `ray.init` waits for the last of them.
    """
    try:
        from ray._private.node import Node
    except ImportError:
        yield
        return
    found = {name: getattr(Node, name) for name in _HELPERS if hasattr(Node, name)}
    for name in found:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in found.items():
            setattr(Node, name, start)


@contextmanager
def without_agents(*, environments: bool = False) -> Iterator[None]:
    """Within the block a raylet starts without its agents: the dashboard's and the one that makes environments.

    The raylet starts no worker before they have reported their ports.

    Args:
        environments: tasks or actors are given a `runtime_env`, which needs the second one.
    """
    try:
        from ray._private import services

        start = services.start_ray_process
    except (ImportError, AttributeError):
        yield
        return
    kept = {"runtime_env_agent_command"} if environments or _environments_by_ray() else set()

    def start_lean(command: list[str], process_type: str, *args: Any, **kwargs: Any) -> Any:
        if process_type == "raylet" and os.name == "posix":
            command = lean_command(command, kept)
        return start(command, process_type, *args, **kwargs)

    with replaced({"ray._private.services:start_ray_process": start_lean}):
        yield


def lean_command(command: Sequence[str], kept: set[str]) -> list[str]:
    """Return the raylet's command with stand-ins for the agents that are not `kept`, and their ports reported.

    What this version of Ray has not, or calls otherwise, stays as it is.
    """
    given = dict(part[2:].partition("=")[::2] for part in command if part.startswith("--"))
    stand_in = subprocess.list2cmdline([sys.executable, "-I", "-S", str(_STAND_IN)])
    lean = list(command)
    for option, names in _AGENTS.items():
        if option in given and option not in kept and _report_no_ports(given, names):
            lean[lean.index(f"--{option}={given[option]}")] = f"--{option}={stand_in}"
    return lean


def _report_no_ports(given: Mapping[str, str], names: Sequence[str]) -> bool:
    """Report, as the agent would, that there is nobody at its ports; say whether that could be done."""
    try:
        raylet: Any = importlib.import_module("ray._raylet")
        for port in [getattr(raylet, name) for name in names]:
            raylet.persist_port(given["session_dir"], given["node_id"], port, _NO_PORT)
    except (ImportError, AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError):
        return False
    return True


def _environments_by_ray() -> bool:
    """Whether the user's surroundings have Ray make an environment for every worker."""
    if {"RAY_RUNTIME_ENV_HOOK", "RAY_JOB_CONFIG_JSON_ENV_VAR"} & set(os.environ):
        return True
    try:
        from ray._private.runtime_env.uv_runtime_env_hook import _get_uv_run_cmdline
    except ImportError:  # another Ray: nobody knows
        return True
    return bool(_get_uv_run_cmdline())


class OneMachine:
    """What Ray Data asks about a cluster that may grow, answered for a machine that does not."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what the client of Ray's own coordinator takes."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._reserved = {node["NodeID"]: dict(node["Resources"]) for node in nodes}

    def request_resources(self, *_: Any, **__: Any) -> None:
        """Ask for nothing."""

    def cancel_request(self) -> None:
        """Nothing was asked for."""

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return self._reserved


class _Call:
    """A method of an actor that is not there; answers with an object of Ray's that holds the same each time."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def remote(self, *_: Any, **__: Any) -> Any:
        return None if self._answer is None else ray.put(self._answer)


class NoTracker:
    """Stands for the actor that tells Ray Data where other actors are: here, as each of them says of itself."""

    update_actor_location = _Call(None)
    get_actor_locations = _Call({})


class NoStatistics:
    """Stands for the actor that keeps Ray Data's statistics for a dashboard."""

    def __getattr__(self, name: str) -> _Call:
        return _Call(None)


@contextmanager
def without_data_actors() -> Iterator[None]:
    """Within the block Ray Data runs without actors of its own: each is a process, and a second or two of its CPU.

    For a Ray that has this machine alone and this run alone.
    """
    data = "ray.data._internal"
    tracker = "get_or_create_actor_location_tracker"
    places: dict[str, Any] = {
        f"{data}.cluster_autoscaler.rate_based_cluster_autoscaler:DefaultAutoscalingCoordinator": OneMachine,
        f"{data}.stats:get_or_create_stats_actor": NoStatistics,
        f"{data}.execution.operators.actor_pool_map_operator:{tracker}": NoTracker,
        f"{data}.utils.cached_ray_internals:{tracker}": NoTracker,
    }
    with replaced(places):
        yield
