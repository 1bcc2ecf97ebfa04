"""requirements.lock: whole, for the requirements of today, and free of any index's address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
_LINES = re.findall(r"^([\w.\[\]-]+)==(\S+)", TEXT, re.MULTILINE)
PINNED = {canonicalize_name(name): version for name, version in _LINES}
REQUIRED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


@pytest.mark.parametrize("line", REQUIRED, ids=lambda line: re.split(r"\W", line)[0])
def test_every_requirement_is_pinned_in_a_version_that_it_takes(line):
    wanted = Requirement(line)
    version = PINNED.get(canonicalize_name(wanted.name))
    assert version and wanted.specifier.contains(version), f"{line}: requirements.lock has {version}; run `make lock`"


def test_every_package_has_checksums_and_nothing_says_where_it_comes_from():
    packages = re.split(r"^(?=[A-Za-z])", TEXT, flags=re.MULTILINE)[1:]
    assert len(packages) == len(PINNED) > 50
    assert all("--hash=sha256:" in package for package in packages)
    assert not re.search(r"://|--index|--extra-index|--trusted-host|--find-links|WARNING", TEXT)
