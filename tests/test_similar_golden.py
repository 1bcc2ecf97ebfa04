"""The shared check of similar items passes whole, where it is at hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECK = HERE.parents[1] / "shared" / "similar" / "check.py"


def test_the_shared_check_passes_with_every_function_offered():
    if not CHECK.is_file():
        pytest.skip(f"no check at {CHECK}")
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run(
        [sys.executable, str(CHECK), "similar_adapter", "--strict"],
        capture_output=True, text=True, timeout=200, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.rstrip().endswith("all ok"), done.stdout[-3000:] + done.stderr[-2000:]
    assert "not offered" not in done.stdout
