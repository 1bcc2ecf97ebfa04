"""Which version of AI Studio this is, what its distribution is called, and what that requires."""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

DISTRIBUTION = "aistudio-catalogue"  # what pip calls it: pyproject.toml's name


def version() -> str:
    """Return the version: a checkout's own where the code runs from one, else that of the installed distribution."""
    if project := _checkout():
        return str(project["version"])
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def requirements() -> list[str]:
    """Return what it requires, extras left out, as pyproject.toml says it; empty where nothing is known."""
    if project := _checkout():
        return list(project["dependencies"])
    try:
        found = importlib.metadata.requires(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in found or [] if "extra ==" not in line]


def _checkout() -> dict[str, Any]:
    """The project table of the checkout that this code runs from; empty for an installed copy."""
    try:
        text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        project: dict[str, Any] = tomllib.loads(text)["project"]
    except (OSError, ValueError, KeyError):  # no checkout, or a file that is not ours
        return {}
    return project if project.get("name") == DISTRIBUTION else {}
