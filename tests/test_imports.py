"""The import rule of the house: jobs -> pipeline -> rooms -> base, rooms never sideways, ray in the pipeline alone."""

import re
import subprocess
import sys
from pathlib import Path

from aistudio.runs import layout
from tests.evaluation.stored_run import catalogue, write_run

ROOT = Path(__file__).resolve().parents[1]


def test_the_import_contracts_hold():
    """The contracts are in pyproject.toml, [tool.importlinter]."""
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_loads_neither_torch_nor_ray():
    code = (
        "import sys, aistudio.jobs.cli, aistudio.jobs.score as s; s.build_parser().format_help(); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "ray", "transformers", "pyarrow"} & set(run.stdout.split())


def test_only_the_layout_knows_the_keys_of_a_run_folder():
    names = {v for k, v in vars(layout).items() if k.isupper() and not k.startswith("_") and isinstance(v, str)}
    assert {"run.json", "scores/", "selection_csv/", "selection.json", "searches/"} <= names
    folders = [re.escape(name) for name in names if name.endswith("/")]
    files = [re.escape(name) + "[\"']" for name in names if not name.endswith("/")]
    key = re.compile(rf"""["']({"|".join(folders + files)})""")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in sorted(Path(ROOT, "aistudio").rglob("*.py"))
        if path.name != "layout.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if key.search(line)
    ]
    assert not found, "\n".join(found)


NO_RAY = "import sys; sys.modules['ray'] = None"  # every import of it raises ImportError


def test_nothing_outside_the_pipeline_needs_ray():
    """import-linter sees what is written; this sees what happens."""
    code = f"""{NO_RAY}
import importlib, pathlib
for path in sorted(pathlib.Path("aistudio").rglob("*.py")):
    if path.parts[1] != "pipeline":
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_jobs_on_stored_rows_run_without_ray(tmp_path):
    """`verify` needs a whole run, so it is run in tests/jobs/test_verify.py; here two that need scores alone."""
    for name in ("a", "b"):
        write_run(tmp_path / name, *catalogue(), shard=25)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    jobs = [["aggregate", "--run", a], ["aggregate", "--run", b], ["compare", "--runs", a, b]]
    code = f"""{NO_RAY}
from aistudio.jobs import cli
for argv in {jobs!r}:
    assert cli._verb(argv) == 0, argv
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
