"""How many CPUs and how much memory this process may use: the machine's, its affinity's and its container's.

The dry run and the run ask the same two functions, so that one counts what the other gets. Ray's own counting knows
neither `taskset` nor a limit that is set above the container's own control group.

Source: Linux kernel, Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst, scheduler/sched-bwc.rst.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_NO_LIMIT = 1 << 60  # version 1 says "no limit" with the largest number of pages that there is


class MemoryLimit(NamedTuple):
    """Bytes that this process and its children may use together, and whose limit that is."""

    total: int
    owner: str  # "this machine" or "this container"


def usable_cpus(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """The least of affinity, quota (rounded down) and machine; at least 1."""
    quotas = [int(quota) for quota in _cpu_quotas(cgroups, proc)]
    return max(1, min([_affinity(), *quotas]))


def usable_memory(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> MemoryLimit | None:
    """Return the smallest memory limit that holds for this process; None where the system does not say."""
    limits = [MemoryLimit(limit, "this container") for limit in _memory_limits(cgroups, proc)]
    if (machine := _meminfo(proc, "MemTotal")) is not None:
        limits.append(MemoryLimit(machine, "this machine"))
    return min(limits, default=None)


def num_oom_kills(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return how many processes the kernel has killed for memory in this container so far; 0 where it does not say."""
    folders = [*_folders(cgroups, proc, "memory"), *_folders(cgroups, proc, "")]
    counts = (
        _fields(folder / name).get("oom_kill", 0)
        for folder in folders
        for name in ("memory.events", "memory.oom_control")
    )
    return max(counts, default=0)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_quotas(cgroups: Path, proc: Path) -> Iterator[float]:
    """CPUs of every quota above this process."""
    for folder in _folders(cgroups, proc, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)
    for folder in _folders(cgroups, proc, "cpu"):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # -1: no quota
            yield int(quota) / int(period)


def _memory_limits(cgroups: Path, proc: Path) -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _folders(cgroups, proc, controller):
            limit = _text(folder / name)
            if limit.isdigit() and int(limit) < _NO_LIMIT:
                yield int(limit)


def _folders(cgroups: Path, proc: Path, controller: str) -> Iterator[Path]:
    """Control groups from this process's own up to the root; `controller` "" stands for version 2.

    Within a container the path in /proc/self/cgroup is often the host's and not there; the root then is the
    container's own group.
    """
    for line in _text(proc / "self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if controller not in names.split(","):
            continue
        for root in _mounts(cgroups, names, controller):
            own = root / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root) and folder.is_dir())


def _mounts(cgroups: Path, names: str, controller: str) -> list[Path]:
    if not controller:
        return [cgroups, cgroups / "unified"]
    return list({(cgroups / name).resolve(): None for name in (controller, names) if (cgroups / name).is_dir()})


def _meminfo(proc: Path, key: str) -> int | None:
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == key and rest.split()[:1] and rest.split()[0].isdigit():
            return int(rest.split()[0]) * 1024
    return None


def _fields(path: Path) -> dict[str, int]:
    words = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
