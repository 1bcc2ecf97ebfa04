"""benchmarks/gpu.py on the processor with tiny sizes: every part runs, the model's and decoding's without Ray."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import _gpu_model
from gpu import TINY_ARCH

from aistudio.models.align import AlignArch

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--device", "cpu", "--tiny", "--num-images", "8", "--batches", "2,8", "--precisions", "float32,bfloat16"]
WITHOUT_RAY = (
    "import sys; sys.modules['ray'] = None; sys.path.insert(0, 'benchmarks'); import runpy; sys.argv = sys.argv[1:]; "
)


def run(argv: list[str], out: Path, tmp_path: Path) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *argv, *TINY, "--out", str(out)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out.read_text()


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]


def test_model_and_decoding_are_measured_where_ray_is_not_installed(tmp_path):
    program = WITHOUT_RAY + "runpy.run_path(sys.argv[0], run_name='__main__')"
    text = run(
        ["-c", program, "benchmarks/gpu.py", "--parts", "bare,decode,job", "--compile", "no"],
        tmp_path / "a.md",
        tmp_path,
    )
    rows = [r for r in cells(text) if r[0] in ("float32", "bfloat16")]
    assert [(r[0], r[2]) for r in rows] == [(p, b) for p in ("float32", "bfloat16") for b in ("2", "8")]
    assert all(float(x.replace(",", "")) > 0 for r in rows for x in r[3:7])  # tower, encoder, callers, pageable
    decoders = [r for r in cells(text) if "thread(s)" in r[0]]
    assert {r[0].split(",")[0] for r in decoders} >= {"Pillow", "torchvision on the CPU", "the same without thumbnail"}
    assert all(float(x.replace(",", "")) > 0 for r in decoders for x in r[1:])
    assert "| nvJPEG through torchvision, full size, 64 at once | no GPU | no GPU |" in text
    assert re.search(r"\*\*[\d.,]+ cores\*\* keep such a GPU busy", text)
    assert "Ray is not installed here: not measured." in text


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Arguments of a run whose GPU is the processor."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    device = argparse.Namespace(device="cpu", size=32, batches=[3], tiny=True)
    device.arch = AlignArch(**TINY_ARCH)
    return device


def test_ordinary_copies_give_the_same_vectors(pretended):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    torch.manual_seed(0)
    plain = _gpu_model.make_encoder(pretended, "float32", False)
    torch.manual_seed(0)
    pageable = _gpu_model.make_encoder(pretended, "float32", False, _gpu_model.PageableEncoder)
    np.testing.assert_allclose(pageable._encode_on_gpu(pixels, None), plain(pixels), atol=1e-6)


def test_what_auto_would_take_is_found_with_the_encoder(pretended, monkeypatch):
    class Memory:
        def __init__(self, share):
            assert share == 1.0

        def budget(self):
            return 10**9

        def peak_of(self, call):
            call()
            return 6 * 10**8  # twice as many do not fit

        def release(self):
            pass

    monkeypatch.setattr(_gpu_model, "CudaMemory", Memory)
    monkeypatch.setattr(_gpu_model, "on_gpu", lambda args: True)
    encoder = _gpu_model.make_encoder(pretended, "float32", False)
    assert _gpu_model.auto(encoder, pretended).startswith("8 (tried 8 to 8: 75.0 MB an image of 1.0 GB")


@pytest.mark.campaign
@pytest.mark.cluster
def test_the_whole_job_is_measured_against_the_model(tmp_path):
    job = [
        "--parts",
        "job",
        "--job-images",
        "24",
        "--job-batches",
        "auto",
        "--job-precisions",
        "float32",
        "--actors-per-gpu",
        "1",
    ]
    text = run(["benchmarks/gpu.py", *job], tmp_path / "b.md", tmp_path)
    (row,) = [r for r in cells(text) if r[0] == "float32"]
    assert row[1] == "auto: 16" and float(row[3].replace(",", "")) > 0 and row[5].endswith("%")
