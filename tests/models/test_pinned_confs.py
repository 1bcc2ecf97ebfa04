"""Every file that a conf in conf/models/ can fetch is one version of it, and the weights in git are pinned."""

import re
from pathlib import Path

import pytest

from aistudio.config import load_model_config

ROOT = Path(__file__).resolve().parents[2]
CONFS = sorted((ROOT / "conf/models").glob("*.yaml"))
# A commit of a hub's repository, a release whose files its publisher does not exchange, a name that ends in its sum.
FIXED = re.compile(r"/resolve/[0-9a-f]{40}/|/releases/download/[^/]+/|-[0-9a-f]{8}\.pth$")


@pytest.mark.parametrize("path", CONFS, ids=lambda p: p.stem)
def test_what_can_be_fetched_is_pinned(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    loose = [f.url for f in load_model_config(path).files if f.url and not f.sha256 and not FIXED.search(f.url)]
    assert not loose, f"{path.name}: give a sha256, or a commit in the address: {loose}"


@pytest.mark.parametrize("path", CONFS, ids=lambda p: p.stem)
def test_weights_in_git_are_pinned(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = load_model_config(path).files
    loose = [f.path for f in files if f.path.startswith("weights/demo/") and not f.sha256]
    assert not loose, f"{path.name}: a weights file in the repository needs its sha256: {loose}"
