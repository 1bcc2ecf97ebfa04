"""What CONTRIBUTING.md, the hooks and the release script say is true of this repository."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHECK = ROOT / "scripts/check_files.py"


def check(*paths):
    return subprocess.run([sys.executable, CHECK, *paths], capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_every_file_that_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:aistudio|conf|tests|benchmarks|scripts|jobs)/[\w./-]+\.\w+)`", text)
    real = [name for name in named if not re.search(r"NAME|SECTION", name)]
    assert len(real) > 6 and not [name for name in real if not (ROOT / name).exists()]
    for target in re.findall(r"`?make ([\w-]+)", text):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text("utf-8")
    for recipe in ("model family", "job", "setting", "status", "manifest format", "metric"):
        assert re.search(rf"^## A {recipe}$", text, re.MULTILINE)


def test_hooks_fetch_nothing_and_run_what_is_there():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {"ruff", "ruff-format", "mypy", "large-files-and-keys"} <= {hook["id"] for hook in hooks}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"-----BEGIN RSA " + b"PRIVATE KEY-----\n", "a private key"),
        (b"key = AKIA" + b"ABCDEFGHIJKLMNOP\n", "an AWS key"),
        (b"token: hf_" + b"a" * 34, "an access token"),
        (b"0" * 1_000_001, "at most 1,000,000"),
    ],
)
def test_keys_and_large_files_are_refused(body, what, tmp_path):
    (tmp_path / "f").write_bytes(body)
    done = check(tmp_path / "f")
    assert done.returncode == 1 and what in done.stdout


def test_what_is_in_git_passes(tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if listed.returncode:
        pytest.skip("not a git checkout")
    done = check(*listed.stdout.splitlines())
    assert done.returncode == 0, done.stdout


def test_the_changelog_has_a_section_for_this_version_and_the_script_is_whole():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    done = subprocess.run(["bash", "-n", ROOT / "scripts/release.sh"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
