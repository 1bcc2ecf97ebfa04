"""The commands as a user meets them: help, exit codes, one message per mistake, and a README that is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aistudio.jobs.cli import VERBS
from tests.job_here import job_here

ROOT = Path(__file__).resolve().parents[2]


def job(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *args], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_help_lists_every_verb_and_every_verb_is_a_module():
    text = job("jobs.cli", "--help").stdout
    for verb in VERBS:
        assert f"  {verb} " in text
        assert (ROOT / "jobs" / f"{verb}.py").exists()
    modules = {p.stem for p in (ROOT / "jobs").glob("*.py")} - {"__init__", "cli"}
    assert modules == set(VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb):
    result = job_here(f"jobs.{verb}", "--help")
    assert result.returncode == 0 and result.stdout.startswith("usage: aistudio " + verb)


def test_an_unknown_verb_is_a_usage_error():
    result = job("jobs.cli", "scoer")
    assert result.returncode == 2 and "scoer is not a verb" in result.stderr


MINE = ["jobs.score", "--conf", "conf/demo.yaml"]
AWAY = "MODEL_THAT_CANNOT_BE_FETCHED"


def away_model(folder):
    """A conf whose weights are not here, and whose server refuses connections."""
    conf = folder / "away.yaml"
    url = "http://127.0.0.1:9/align.pth"
    conf.write_text(f"family: align\nname: away\nweights: {{path: {folder}/align.pth, url: '{url}'}}\n", "utf-8")
    return conf


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            [*MINE, "--set", "download.timeout=3"],
            "--set download.timeout=3: download.timeout is not a setting; did you mean timeout_s?",
        ),
        ([*MINE, "--set", "manifest.path=/no/such.csv"], "manifest.path: /no/such.csv: no such file"),
        ([*MINE, "--set", f"models.recall={AWAY}"], "python -m aistudio weights fetch --conf conf/models/away.yaml"),
        ([*MINE, "--set", "start_over=true"], "say --yes as well"),
        (["jobs.score", "--conf", "conf/demmo.yaml"], "did you mean conf/demo.yaml?"),
        (["jobs.verify", "--run", "/no/run"], "no run.json there"),
        (["jobs.retry", "--run", "/no/run", "--status", "tiemout"], "--status tiemout: not a failure status"),
    ],
)
def test_a_mistake_is_one_clear_message_and_exit_code_2(args, message, tmp_path):
    if "manifest.path" not in " ".join(args) and args[:3] == MINE:
        manifest = tmp_path / "m.csv"
        manifest.write_text("1,sight,http://demo.invalid/a.jpg,1,10,10,x\n", encoding="utf-8")
        args = [*args, "--set", f"manifest.path={manifest}"]
    if args[:3] == MINE:
        args = [*(a.replace(AWAY, str(away_model(tmp_path))) for a in args), "--set", f"output={tmp_path / 'out'}"]
    starts_ray = message.startswith("python -m aistudio weights")  # while the weights are looked for
    result = (job if starts_ray else job_here)(*args)
    assert result.returncode == 2, result.stderr
    said = re.sub(r"^ +[\d.]+ s  .*\n", "", result.stderr, flags=re.MULTILINE)  # what it was doing
    assert message in said and said.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_what_a_job_does_is_said_before_anything_heavy_is_imported():
    """And help of any verb loads no torch, no Ray, no settings."""
    code = (
        "import sys, aistudio.jobs.score as job, aistudio.config, aistudio.pipeline.start_up as start_up\n"
        "start_up.announce('checking'); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r" +\d+\.\d s  checking\n", run.stderr)
    assert not {"torch", "ray", "pandas", "pyarrow", "transformers"} & set(run.stdout.split())
    each = "importlib.import_module('aistudio.jobs.' + verb).build_parser()"
    code = f"import sys, importlib\nfor verb in {sorted(VERBS)}: {each}\n"
    run = subprocess.run([sys.executable, "-c", code + "print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not {"torch", "ray", "pandas", "pyarrow", "numpy", "pydantic"} & set(run.stdout.split())


def test_a_wrong_column_is_explained_with_the_columns_found(tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("sku,img\n1,http://x/a.jpg\n")
    columns = "manifest.columns={item_id: sku, image_url: image}"
    result = job_here(
        *MINE, "--set", f"manifest={{path: {manifest}, format: csv}}", "--set", columns, "--set", f"output={tmp_path}"
    )
    assert result.returncode == 2
    assert "'image'" in result.stderr and "columns found: sku, img" in result.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("1,sight,http://demo.invalid/a.jpg,1,10,10,x\n", encoding="utf-8")
    out = tmp_path / "out"
    result = job_here(*MINE, "--dry-run", "--set", f"manifest.path={manifest}", "--set", f"output={out}")
    assert result.returncode == 0, result.stderr
    for word in ("plan", "resources", "writes", "demo_recall"):
        assert word in result.stdout
    assert not [p for p in out.rglob("*") if p.is_file()]


def test_the_commands_in_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in re.findall(r"(?:python -m jobs\.|^(?:python -m )?aistudio )(\w+)", text, re.MULTILINE):
        assert verb in VERBS
    for path in re.findall(r"`((?:conf|aistudio|weights|benchmarks|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / path).exists() or path == "conf/mine.yaml", path
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
