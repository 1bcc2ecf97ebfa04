"""The reference pages are those of today's code, both ways, and every command in the docs exists."""

import re
import runpy
from pathlib import Path

import pytest

from aistudio.jobs.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = runpy.run_path(str(ROOT / "docs/make_reference.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_that_is_made_is_up_to_date(name):
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name], f"docs/{name}: run `make docs`"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_command_and_setting_on_a_page_exists(path):
    text = path.read_text("utf-8")
    for verb in re.findall(r"^(?:python -m )?aistudio ([a-z0-9_]+)", text, re.MULTILINE):
        assert verb in VERBS
    known = set(re.findall(r"^\| `([\w.]+)`", PAGES["settings.md"], re.MULTILINE))
    for setting in re.findall(r"--set ((?:download|engine|images|metrics|report|search|select|store)\.\w+)=", text):
        assert setting in known, setting


def test_every_page_is_in_the_table_of_contents():
    listed = set((ROOT / "docs/index.md").read_text("utf-8").split())
    assert {p.stem for p in (ROOT / "docs").glob("*.md")} - {"index"} <= listed
