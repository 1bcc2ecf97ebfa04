"""The shared check of composed retrieval, where it is on this machine: what takes seconds of it.

The whole, training traces included: PYTHONPATH=tests python ../shared/composed/check.py composed_adapter --strict
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CHECK = REPOSITORY.parent / "shared" / "composed" / "check.py"


@pytest.mark.parametrize("part", ["vocabulary", "queries", "drawn pairs", "recall_by", "pixels", "tokens", "tirg-768"])
def test_part_of_the_shared_check(part: str) -> None:
    if not CHECK.is_file():
        pytest.skip("the composed-retrieval cases are not on this machine")
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    command = [sys.executable, str(CHECK), "composed_adapter", "--only", part, "--skip", "train"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "all ok" in done.stdout
