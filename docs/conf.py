"""The docs site: `make docs` builds it into docs/_build/html, warnings as errors."""

import tomllib
from pathlib import Path

project = "AI Studio"
copyright = "2026, the authors of AI Studio. Apache License 2.0"
_text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
release = tomllib.loads(_text)["project"]["version"]
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"AI Studio {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_heading_anchors = 3
# Pages point to files of the repository, which the site does not hold.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]
