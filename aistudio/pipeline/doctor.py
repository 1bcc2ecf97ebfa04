"""Looks at a machine before a first run: what is fine, what is not, what to do about it. Starts nothing."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from aistudio import version
from aistudio.config import StoreSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline import surroundings
from aistudio.pipeline.limits import usable_cpus, usable_memory

_OLDEST = (3, 11)
_LITTLE_MEMORY = 4 << 30  # bytes; Ray, a driver and two workers with a small model take about three
_LITTLE_DISK = 2 << 30
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str  # "ok", "note" (works, with a drawback) or "bad" (a run would fail)
    text: str
    advice: str = ""


def findings(place: str | None, store: StoreSettings) -> Iterator[Finding]:
    """Look at one thing after the other; a look that fails in an unforeseen way is a finding too.

    Args:
        place: an output folder or s3:// prefix to try; None: none is tried.
        store: how S3 is reached.
    """
    looks: dict[str, Callable[[], Finding]] = {
        "python": _python, "packages": _packages, "torch": _torch, "cpus": _cpus, "memory": _memory,
        "disk": _disk, "ray": _ray, "/dev/shm": _shared_memory, "network": _network, "demo weights": _demo_weights,
    }  # fmt: skip
    if place is not None:
        looks[place] = lambda: _place(place, store)
    for name, look in looks.items():
        try:
            yield look()
        except Exception as e:  # noqa: BLE001 - whatever a broken installation raises is what one wants to know
            yield Finding(name, "bad", f"{type(e).__name__}: {' '.join(str(e).split())[:300]}", "see the message")


def _python() -> Finding:
    text = f"{platform.python_version()} ({sys.executable}), AI Studio {version.version()}"
    if sys.version_info < _OLDEST:
        return Finding("python", "bad", text, "AI Studio needs Python 3.11 or newer")
    if sys.platform != "linux":
        return Finding("python", "note", f"{text}, on {sys.platform}", "only Linux is tested")
    return Finding("python", "ok", text)


def _packages() -> Finding:
    from packaging.requirements import Requirement

    wrong, wanted = [], [Requirement(line) for line in version.requirements()]
    for requirement in wanted:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, wanted {requirement.specifier}")
    if wrong or not wanted:
        text = "; ".join(wrong) or "not known: AI Studio is not installed"
        return Finding("packages", "bad", text, f"pip install {version.DISTRIBUTION} (docs/install.md)")
    return Finding("packages", "ok", f"all {len(wanted)} requirements are there")


def _torch() -> Finding:
    import torch

    text = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("torch", "ok", f"{text}, CUDA {torch.version.cuda}: {', '.join(names)}")
    if torch.version.cuda and Path("/proc/driver/nvidia/version").exists():
        advice = "the driver is too old for this torch, or the container was started without --gpus all"
        return Finding("torch", "bad", f"{text}; there is an NVIDIA driver, and torch cannot use it", advice)
    return Finding("torch", "ok", f"{text}; no GPU: models run on the CPU")


def _cpus() -> Finding:
    usable, there = usable_cpus(), os.cpu_count() or 1
    text = f"{usable} usable" + (f" of {there} (affinity or the container's quota)" if usable < there else "")
    if usable < 2:
        return Finding("cpus", "note", text, "one core downloads, decodes and computes in turn; two are twice as fast")
    return Finding("cpus", "ok", text)


def _memory() -> Finding:
    limit = usable_memory()
    if limit is None:
        return Finding("memory", "note", "the system does not tell", "see that 4 GB are free")
    text = f"{limit.total / 1e9:.1f} GB, the limit of {limit.owner}"
    if limit.total < _LITTLE_MEMORY:
        return Finding("memory", "note", text, "large models will not fit: engine.num_actors=1, or a larger container")
    return Finding("memory", "ok", text)


def _disk() -> Finding:
    places = {".": Path(), "Ray's folder": surroundings.ray_folder().parent}
    free = {name: shutil.disk_usage(path).free for name, path in places.items() if path.exists()}
    text = ", ".join(f"{name}: {size / 1e9:.1f} GB free" for name, size in free.items())
    if min(free.values(), default=0) < _LITTLE_DISK:
        return Finding("disk", "note", text, "make room, or set TMPDIR and output to another disk")
    return Finding("disk", "ok", text)


def _ray() -> Finding:
    import ray

    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address not in ("", "local"):
        place = surroundings.cluster_place(address, "RAY_ADDRESS")
        if place is not None:
            surroundings.check_reachable(*place, 5.0)
        return Finding("ray", "ok", f"{ray.__version__}; RAY_ADDRESS names a cluster that answers: {address}")
    try:
        surroundings.check_machine()
    except AIStudioError as e:
        return Finding("ray", "bad", f"{ray.__version__}; {e}", "see the message")
    return Finding("ray", "ok", f"{ray.__version__}; a local one can start in {surroundings.ray_folder()}")


def _shared_memory() -> Finding:
    warnings = list(surroundings.machine_warnings())
    if warnings:
        return Finding("/dev/shm", "note", warnings[0], "--shm-size=2g")
    return Finding("/dev/shm", "ok", f"{shutil.disk_usage('/dev/shm').free / 1e9:.1f} GB free")


def _network() -> Finding:
    from aistudio.config import DownloadSettings
    from aistudio.images.environment import check_environment
    from aistudio.secrets import redact

    check_environment(DownloadSettings(), ["http://example.com/a.jpg", "https://example.com/a.jpg"])
    told = [f"{n}={redact(v)}" for name in _PROXIES for n in (name, name.lower()) if (v := os.environ.get(n))]
    rules = "private and loopback addresses are refused unless download.allow_private_addresses"
    return Finding("network", "ok", f"{', '.join(told) or 'no proxy is set'}; {rules}")


def _demo_weights() -> Finding:
    from aistudio.config import load_model_config
    from aistudio.weights.files import require_file

    for name in ("demo_recall", "demo_ranking", "tirg_demo"):
        for file in load_model_config(name).files:
            require_file(file, name)
    return Finding("demo weights", "ok", "whole")


def _place(place: str, settings: StoreSettings) -> Finding:
    from aistudio.store import open_store

    new = "://" not in place and not Path(place).exists()
    try:
        open_store(place, settings).check_writable()
        if new:
            Path(place).rmdir()
    except AIStudioError as e:
        advice = "credentials come from AWS_* variables, ~/.aws or the instance's role; --set store.endpoint_url=…"
        return Finding(place, "bad", str(e), advice if place.startswith("s3://") else "another folder")
    return Finding(place, "ok", "can be written")
