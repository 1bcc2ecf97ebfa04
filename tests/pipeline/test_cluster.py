"""What a cluster can grow to, and waiting for room on a busy one."""

import contextlib
import re
import time

import psutil
import pytest
import ray

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline import cluster
from aistudio.pipeline.cluster import (
    cluster_resources,
    connect,
    lacking_package,
    launcher_limits,
    missing_now,
    our_error,
    wait_for_room,
)
from aistudio.pipeline.plan import Resources, make_plan

LAUNCHER = {
    "max_workers": 10,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 16}, "max_workers": 20},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 1, "max_workers": 4},
    },
}


def test_the_launchers_file_tells_what_can_be_added():
    assert launcher_limits(LAUNCHER) == {"CPU": 10 * 16 + 4 * 8, "GPU": 4}
    assert launcher_limits({}) == {"CPU": 0, "GPU": 0}


def test_a_workers_message_is_told_without_rays_advice():
    advice = "\nFailed to map after 1/4 attempts (total backoff 0.0s).\nTo change retry attempts, configure something."
    wrapped = RuntimeError("of Ray")
    wrapped.__cause__ = AIStudioError("two\nlines" + advice)
    for _ in range(2):
        assert str(our_error(wrapped)) == "two\nlines"
    assert our_error(RuntimeError("another")) is None


def test_nodes_that_lack_a_package_are_said_with_the_way_out():
    e = RuntimeError("ray::actor() failed\nTraceback ...\nModuleNotFoundError: No module named 'aistudio.pipeline'")
    joined = EngineSettings(address="10.0.0.5:6379")
    found = lacking_package(e, joined)
    assert found is not None and "lack the Python package aistudio:" in str(found) and "--install" in str(found)
    assert "Traceback" not in str(found) and lacking_package(RuntimeError("out of memory"), joined) is None
    assert lacking_package(e, EngineSettings(address="local")) is None  # a Ray of our own has what we have


def test_resources_say_what_they_can_become():
    small = Resources(4, 0, 1, max_cpus=8, max_gpus=2)
    assert small.can_grow and small.grown[:2] == (8, 2)
    assert str(small) == "1 node(s), 4 CPUs, 0 GPUs, can grow to 8 CPUs, 2 GPUs"
    assert not Resources(4, 1, 1).can_grow and not Resources(4, 1, 1, max_cpus=2).can_grow


def test_limits_come_from_settings_then_from_the_launcher(local_ray, tmp_path, monkeypatch):
    assert cluster_resources(EngineSettings())[:2] == (2, 1) and not cluster_resources(EngineSettings()).can_grow
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(str(LAUNCHER))  # JSON-like, which is YAML
    monkeypatch.setattr(cluster, "_BOOTSTRAP", path)
    joined = EngineSettings(address="auto")
    assert cluster_resources(joined).max_gpus == 4
    assert cluster_resources(joined.model_copy(update={"max_gpus": 7})).max_gpus == 7
    assert not cluster_resources(EngineSettings()).can_grow  # a Ray of its own grows nowhere


def test_room_that_is_there_is_found_and_given_back(local_ray):
    resources = Resources(2, 1, 1)
    settings = EngineSettings()
    for _ in range(3):  # would not fit twice
        wait_for_room([{"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0}], settings, resources)


def test_other_jobs_in_the_way_are_said_instead_of_waiting_for_ever(local_ray, capsys):
    @ray.remote(num_cpus=2)
    class Hog:
        def here(self) -> bool:
            return True

    hog = Hog.remote()
    assert ray.get(hog.here.remote(), timeout=60)
    settings = EngineSettings(schedule_timeout_s=0.5)
    with pytest.raises(AIStudioError, match=r"needs at least 0\.5 CPU \+ 1 GPU and 1 CPU at once, free are 0 CPU") as e:
        wait_for_room(make_plan(settings, Resources(2, 1, 1)).bundles(), settings, Resources(2, 1, 1))
    assert e.value.exit_code == 1
    assert "waiting for room on the cluster" in capsys.readouterr().err
    ray.kill(hog)
    wait_for_room([{"CPU": 2.0}], EngineSettings(), Resources(2, 1, 1))


def test_a_cluster_that_can_grow_is_given_more_time(local_ray):
    settings = EngineSettings(schedule_timeout_s=60, scale_up_timeout_s=0.5)
    with pytest.raises(AIStudioError, match=r"within 0\.5 s.*can grow to 2 CPUs, 4 GPUs"):
        wait_for_room([{"GPU": 3.0}], settings, Resources(2, 1, 1, max_gpus=4))


def test_what_is_missing_right_now_is_known_without_waiting(local_ray):
    deadline = time.monotonic() + 30
    while missing_now([{"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}]):  # what the tests above gave back is seen a little late
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert missing_now([{"CPU": 2.5}, {"GPU": 3.0}]) == {"CPU": 0.5, "GPU": 2.0}


def test_a_ray_that_runs_already_is_used_and_left(local_ray):
    with connect(EngineSettings()) as resources:
        assert resources.cpus == 2
    assert ray.is_initialized()


def test_a_ray_of_ours_is_two_servers_two_agents_and_workers(local_ray):
    """Nothing that forwards logs, scales or draws a dashboard: a batch job has no use for it, and waits for it."""
    family = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            family.append(" ".join(process.cmdline()))
    assert any("raylet/raylet" in line for line in family) and any("gcs_server" in line for line in family)
    assert not [line for line in family if re.search(r"/(monitor|log_monitor|dashboard)\.py", line)]
