"""What a Ray of this machine alone does without, and that whatever is left out can be left out."""

import json
import os
import shlex
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray
import ray.data
from ray._private import services
from ray._private.node import Node
from ray._raylet import wait_for_persisted_port

from aistudio.pipeline import lean_ray

AGENTS = ["dashboard_agent_command", "runtime_env_agent_command"]


def test_the_processes_without_use_are_left_out_within_the_block_alone():
    before = {name: getattr(Node, name) for name in lean_ray._HELPERS}  # Ray still calls them so
    with lean_ray.without_helpers():
        assert [getattr(Node, name)(None, include_dashboard=False) for name in before] == [None] * 3
    assert {name: getattr(Node, name) for name in before} == before


def _raylet_command(folder: Path, node: str) -> list[str]:
    agents = [f"--{option}=python {option}.py --port=0" for option in AGENTS]
    return ["raylet", f"--session_dir={folder}", f"--node_id={node}", *agents, "--huge_pages"]


@pytest.mark.parametrize("kept", [[], ["runtime_env_agent_command"]])
def test_a_raylet_is_given_stand_ins_whose_ports_are_reported(kept, tmp_path):
    node = ray.NodeID.from_random().hex()
    command = _raylet_command(tmp_path, node)
    lean = lean_ray.lean_command(command, set(kept))
    assert len(lean) == len(command) and lean[:3] + lean[5:] == command[:3] + command[5:]
    for option, given, now in zip(AGENTS, command[3:], lean[3:], strict=False):
        if option in kept:
            assert now == given
        else:
            assert shlex.split(now)[-1] == str(lean_ray._STAND_IN) and now.startswith(f"--{option}=")
    reported = ["metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"]
    for name in reported if kept else [*reported, "runtime_env_agent_port"]:
        assert wait_for_persisted_port(str(tmp_path), node, name, timeout_ms=1) == -1


@pytest.mark.parametrize("without", ["--session_dir", "--node_id", "--dashboard_agent_command", "persist_port", "NAME"])
def test_a_raylet_of_another_version_gets_what_it_would_get(without, tmp_path, monkeypatch):
    command = [p for p in _raylet_command(tmp_path, ray.NodeID.from_random().hex()) if not p.startswith(without)]
    if without == "persist_port":
        monkeypatch.delattr("ray._raylet.persist_port")
    if without == "NAME":
        monkeypatch.delattr("ray._raylet.METRICS_EXPORT_PORT_NAME")
    left = AGENTS[1] if without in ("--dashboard_agent_command", "NAME") else "nothing"
    assert [p for p in lean_ray.lean_command(command, set()) if left not in p] == [p for p in command if left not in p]


def test_only_the_raylets_command_is_changed_and_only_within_the_block(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind, **_: started.append((kind, command)))
    theirs = services.start_ray_process
    command = _raylet_command(tmp_path, ray.NodeID.from_random().hex())
    with lean_ray.without_agents():
        services.start_ray_process(command, "raylet", fate_share=True)
        services.start_ray_process(command, "gcs_server", fate_share=True)
    assert services.start_ray_process is theirs
    assert [kind for kind, _ in started] == ["raylet", "gcs_server"]
    assert started[0][1] != command and started[1][1] == command
    with monkeypatch.context() as another:  # a Ray without that function
        another.delattr(services, "start_ray_process")
        with lean_ray.without_agents():
            pass


@pytest.mark.parametrize("why", ["asked for", "RAY_RUNTIME_ENV_HOOK", "RAY_JOB_CONFIG_JSON_ENV_VAR"])
def test_environments_of_workers_keep_the_agent_that_makes_them(why, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind: started.append(command))
    if why != "asked for":
        monkeypatch.setenv(why, "{}")
    command = _raylet_command(tmp_path, ray.NodeID.from_random().hex())
    with lean_ray.without_agents(environments=why == "asked for"):
        services.start_ray_process(command, "raylet")
    assert [now == given for now, given in zip(started[0][3:5], command[3:5], strict=True)] == [False, True]


def test_a_stand_in_ends_soon_after_its_raylet():
    code = f"import subprocess as s, sys; print(s.Popen([sys.executable, '-I', '-S', {str(lean_ray._STAND_IN)!r}]).pid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    stand_in = psutil.Process(int(done.stdout)) if psutil.pid_exists(int(done.stdout)) else None
    deadline = time.monotonic() + 20
    while stand_in is not None and stand_in.is_running() and stand_in.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_whole_ray_without_agents_works_and_leaves_nothing_behind():
    """Actors, named ones and metrics too; every process of it is a server, a stand-in or a worker."""
    code = """
    import json, psutil, ray
    from ray.util.metrics import Counter
    from aistudio.pipeline.early_ray import begin_local
    begin_local()
    @ray.remote
    class Sum:
        def __init__(self):
            self.counter, self.value = Counter("sum"), 0
        def add(self, n):
            self.counter.inc(n)
            self.value += n
            return self.value
    actor = Sum.options(name="sum").remote()
    added = ray.get([actor.add.remote(n) for n in (1, 2)], timeout=60)
    family = psutil.Process().children(recursive=True)
    lines = [" ".join(p.cmdline()) for p in family]
    ray.shutdown()
    gone, alive = psutil.wait_procs(family, timeout=20)
    left = [p.pid for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    print(json.dumps([added, lines, left]))
    """
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    added, lines, left = json.loads(done.stdout.splitlines()[-1])
    assert added == [1, 3] and not left
    names = [line.split(" --")[0] for line in lines]
    assert len([name for name in names if name.endswith(str(lean_ray._STAND_IN))]) == 2
    assert not [name for name in names if "agent" in name.replace("_agent_stand_in", "").lower()]


def test_ray_data_runs_without_actors_of_its_own(local_ray):
    name = "ray.data._internal.cluster_autoscaler.rate_based_cluster_autoscaler"
    scaling = pytest.importorskip(name, reason="Ray before 2.60 has no such module: its actors are started as ever")
    from ray.data._internal import stats
    from ray.data._internal.execution.operators import actor_pool_map_operator as pools
    from ray.data._internal.utils import cached_ray_internals as cached

    theirs = lambda: (  # noqa: E731 - Ray still calls them so
        scaling.DefaultAutoscalingCoordinator,
        stats.get_or_create_stats_actor,
        pools.get_or_create_actor_location_tracker,
        cached.get_or_create_actor_location_tracker,
    )
    before, named = theirs(), ray.util.list_named_actors(all_namespaces=True)
    with lean_ray.without_data_actors():
        ours = (lean_ray.OneMachine, lean_ray.NoStatistics, lean_ray.NoTracker, lean_ray.NoTracker)
        assert theirs() == ours
        assert set(lean_ray.OneMachine("data-1").get_reserved_resources()) == {n["NodeID"] for n in ray.nodes()}
        assert cached.get_actor_locations(("one", "two")) == {}
        blocks = ray.data.from_blocks([pa.table({"n": [n]}) for n in range(4)])
        pool = ray.data.ActorPoolStrategy(size=2)
        doubled = blocks.map_batches(Double, batch_format="pyarrow", num_cpus=0.1, compute=pool)
        assert sorted(row["n"] for row in doubled.take_all()) == [0, 2, 4, 6]
        assert ray.util.list_named_actors(all_namespaces=True) == named
    assert theirs() == before


class Double:
    def __call__(self, batch):
        return pa.table({"n": pa.array([2 * n for n in batch["n"].to_pylist()])})


def test_what_another_ray_does_not_have_is_not_replaced():
    with lean_ray.replaced({"ray.no_such_module:name": 1, "ray.data:no_such_name": 2, "ray.data:Dataset": 3}):
        assert ray.data.Dataset == 3 and not hasattr(ray.data, "no_such_name")
    assert ray.data.Dataset.__name__ == "Dataset"
