"""Commands in processes of their own, without this checkout on their path unless it is given."""

import os
import subprocess
from pathlib import Path


def call(*command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": "", **env},
    )  # fmt: skip
