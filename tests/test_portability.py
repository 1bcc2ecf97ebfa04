"""What would keep the package off other systems: POSIX-only modules, private names, hidden deprecations."""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

from aistudio.config import EngineSettings
from aistudio.errors import ConfigError
from aistudio.models._device import ready_device
from aistudio.pipeline import cluster, deaths, limits, plan, submission
from aistudio.pipeline.plan import Resources, make_plan
from aistudio.training.inputs import choose_device

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path: path.read_text("utf-8") for path in sorted((ROOT / "aistudio").rglob("*.py"))}


def test_locks_are_filelocks():
    assert not [path for path, text in SOURCES.items() if re.search(r"^\s*import fcntl", text, re.MULTILINE)]


def test_private_parts_of_ray_are_guarded():
    """Each import stands inside a `try` whose `except` names ImportError."""
    found = 0
    for path, text in SOURCES.items():
        lines = text.splitlines()
        for i, line in enumerate(lines):
            if re.match(r"\s*(from|import) ray\.(_private|data\._internal)", line):
                assert any("try:" in before for before in lines[max(0, i - 2) : i]), path
                assert any("ImportError" in after for after in lines[i : i + 6]), path
                found += 1
    assert found == 6


def test_a_ray_without_them_is_used_all_the_same(monkeypatch, tmp_path):
    for name in ("ray._private.state", "ray._private.authentication.authentication_token_setup"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(cluster, "_BOOTSTRAP", tmp_path / "none")
    assert cluster._autoscaler_limits() == {}
    submission._use_token()
    monkeypatch.setattr(deaths.ray, "get_runtime_context", lambda: pytest.fail("not asked"))
    assert deaths.num_worker_deaths() == 0


def test_a_system_without_affinity(monkeypatch):
    monkeypatch.delattr(limits.os, "sched_getaffinity")
    assert limits.usable_cpus() >= 1


def test_our_own_deprecated_calls_are_errors():
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("gone in 9", DeprecationWarning, "f.py", 1, module="aistudio.images._http")
    with pytest.raises(FutureWarning):
        warnings.warn_explicit("gone in 9", FutureWarning, "f.py", 1, module="aistudio.api._run")
    warnings.warn_explicit("theirs", DeprecationWarning, "f.py", 1, module="somebody.else")


def test_metal_is_chosen_after_cuda_and_before_the_cpu(monkeypatch):
    """No Mac is at hand: this is the choice alone."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here, settings = Resources(8, 0, 1), EngineSettings()
    assert make_plan(settings, here).device == "cpu"
    monkeypatch.setattr(plan.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    made = make_plan(settings, here)
    assert (made.device, made.num_actors, made.kind) == ("mps", 1, "fused")
    assert make_plan(settings, Resources(8, 1, 1)).device == "cuda"
    assert make_plan(EngineSettings(device="cpu"), here).device == "cpu"
    assert make_plan(EngineSettings(address="ray://h:1"), here).device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "mps" and choose_device("cpu").type == "cpu"
    assert ready_device("mps", "float32") == (torch.device("mps"), torch.float32)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="finds no Apple GPU"):
        ready_device("mps", "float32")
    with pytest.raises(ConfigError, match=r"device: mps, but torch .* sees no GPU here"):
        choose_device("mps")
