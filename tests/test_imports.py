"""The import rule of the house: jobs -> pipeline -> rooms -> base, rooms never sideways, ray in the pipeline alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_import_contracts_hold():
    """The contracts are in pyproject.toml, [tool.importlinter]."""
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_loads_neither_torch_nor_ray():
    code = "import sys, jobs.cli, jobs.score; jobs.score.build_parser().format_help(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "ray", "transformers", "pyarrow"} & set(run.stdout.split())
