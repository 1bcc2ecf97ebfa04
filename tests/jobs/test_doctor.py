"""`aistudio doctor`: what is fine, what is not, what to do; exit code 2 where a run would fail."""

import pytest

from aistudio import version
from aistudio.config import StoreSettings
from aistudio.jobs.doctor import main
from aistudio.pipeline import doctor


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "_torch", lambda: doctor.Finding("torch", "ok", "there"))


def test_this_machine_is_looked_at_from_top_to_bottom(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cret@proxy.example:3128")
    assert main(["--output", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    for name in ("python", "packages", "torch", "cpus", "memory", "disk", "ray", "/dev/shm", "network", "demo weights"):
        assert f"  {name} " in out
    assert "bad" not in out and "s3cret" not in out and "ready: aistudio demo" in out
    assert not (tmp_path / "new").exists()


def test_what_would_stop_a_run_is_bad_and_has_advice(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(version, "requirements", lambda: ["numpy>=99", "no-such-package>=1", "pillow>=1"])
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy.example:1080")
    (tmp_path / "file").write_text("x")
    assert main(["--output", str(tmp_path / "file" / "run")]) == 2
    lines = capsys.readouterr().out.splitlines()
    bad = [line for line in lines if line.startswith("bad ")]
    assert [line.split()[1] for line in bad] == ["packages", "network", str(tmp_path / "file" / "run")]
    assert "numpy is" in bad[0] and "no-such-package is missing" in bad[0] and "HTTP_PROXY" in bad[1]
    assert all(lines[lines.index(line) + 1].strip().startswith("->") for line in bad)
    assert "3 things would stop a run" in lines[-1]


def test_a_look_that_breaks_is_a_finding(monkeypatch):
    def broken():
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "_torch", broken)
    [torch] = [f for f in doctor.findings(None, StoreSettings()) if f.name == "torch"]
    assert torch.state == "bad" and "libcudart.so.13" in torch.text


def test_little_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cpus", lambda: 1)
    monkeypatch.setattr(doctor, "usable_memory", lambda: type("M", (), {"total": 1 << 30, "owner": "this container"})())
    states = {f.name: f.state for f in doctor.findings(None, StoreSettings())}
    assert states["cpus"] == states["memory"] == "note"
