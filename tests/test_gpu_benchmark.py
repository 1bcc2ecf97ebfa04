"""benchmarks/gpu.py on the processor with tiny sizes: every part runs, the model's and decoding's without Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--device", "cpu", "--tiny", "--num-images", "8", "--batches", "2,8", "--precisions", "float32,bfloat16"]
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; sys.path.insert(0, '.'); import runpy; sys.argv = sys.argv[1:]; "


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
        ["-c", program, "benchmarks/gpu.py", "--parts", "bare,decode", "--compile", "no"], tmp_path / "a.md", tmp_path
    )
    rows = [r for r in cells(text) if r[0] in ("float32", "bfloat16")]
    assert [(r[0], r[2]) for r in rows] == [(p, b) for p in ("float32", "bfloat16") for b in ("2", "8")]
    assert all(float(r[3].replace(",", "")) > 0 and float(r[4].replace(",", "")) > 0 for r in rows)
    assert "| nvJPEG through torchvision, full size, batches of 64 | no GPU | no GPU |" in text


@pytest.mark.cluster
def test_the_whole_job_is_measured_against_the_model(tmp_path):
    job = [
        "--parts",
        "job",
        "--job-images",
        "24",
        "--job-batches",
        "8",
        "--job-precisions",
        "float32",
        "--actors-per-gpu",
        "1",
    ]
    text = run(["benchmarks/gpu.py", *job], tmp_path / "b.md", tmp_path)
    (row,) = [r for r in cells(text) if r[0] == "float32"]
    assert float(row[3].replace(",", "")) > 0 and row[5].endswith("%")
