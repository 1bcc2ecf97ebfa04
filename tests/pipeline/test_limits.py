"""CPUs and memory of a process: the least of affinity, machine and every control group above it, version 1 and 2."""

import os
from pathlib import Path

import pytest

from aistudio.pipeline import limits
from aistudio.pipeline.limits import num_oom_kills, usable_cpus, usable_memory

GB = 1_000_000_000


@pytest.fixture
def system(tmp_path, monkeypatch):
    """`system(groups, **files)`: a /proc and a /sys/fs/cgroup of a machine with 8 CPUs and 16 GB."""
    monkeypatch.setattr(limits, "_affinity", lambda: 8)

    def make(groups: str, files: dict[str, str]) -> tuple[Path, Path]:
        texts = {f"cgroup/{name}": text for name, text in files.items()}
        texts |= {"proc/self/cgroup": groups, "proc/meminfo": "MemTotal:       16000000 kB\nMemFree: 1 kB\n"}
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path / "cgroup", tmp_path / "proc"

    return make


V2 = "0::/"
V1 = "4:memory:/\n2:cpu,cpuacct:/\n0::/"


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        (V2, {"cpu.max": "150000 100000"}, 1),
        (V2, {"cpu.max": "350000 100000"}, 3),
        (V2, {"cpu.max": "50000 100000"}, 1),  # half a CPU is one
        (V2, {"cpu.max": "max 100000"}, 8),
        (V2, {"cpu.max": "1600000 100000"}, 8),  # more than there are
        (
            "0::/pod/job",
            {"cpu.max": "400000 100000", "pod/cpu.max": "250000 100000", "pod/job/cpu.max": "max 100000"},
            2,
        ),
        ("0::/of/the/host", {"cpu.max": "250000 100000"}, 2),  # the path is the host's and not there in the container
        (V1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"unified/cpu.max": "200000 100000"}, 2),
        ("", {}, 8),
        ("nonsense", {"cpu.max": "100000 0"}, 8),
    ],
)
def test_cpus_are_the_least_of_affinity_and_quotas(system, groups, files, cpus):
    assert usable_cpus(*system(groups, files)) == cpus


@pytest.mark.parametrize(
    ("groups", "files", "total", "owner"),
    [
        (V2, {"memory.max": str(GB)}, GB, "this container"),
        (V2, {"memory.max": "max"}, 16_384_000_000, "this machine"),
        ("0::/a/b", {"a/memory.max": str(2 * GB), "a/b/memory.max": str(3 * GB)}, 2 * GB, "this container"),
        (V1, {"memory/memory.limit_in_bytes": str(GB)}, GB, "this container"),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, 16_384_000_000, "this machine"),
        ("4:memory:/x", {"memory/x/memory.limit_in_bytes": str(GB)}, GB, "this container"),
        (V2, {"memory.max": str(64 * GB)}, 16_384_000_000, "this machine"),
    ],
)
def test_memory_is_the_smallest_limit(system, groups, files, total, owner):
    assert usable_memory(*system(groups, files)) == (total, owner)


def test_kills_for_memory_are_counted(system):
    assert num_oom_kills(*system(V2, {"memory.events": "low 0\noom 3\noom_kill 2"})) == 2
    assert num_oom_kills(*system(V1, {"memory/memory.oom_control": "oom_kill_disable 0\noom_kill 5"})) == 5


def test_a_system_that_tells_nothing_is_no_error(tmp_path):
    assert usable_cpus(tmp_path, tmp_path) >= 1
    assert usable_memory(tmp_path, tmp_path) is None and num_oom_kills(tmp_path, tmp_path) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_counts():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
