"""Jinja2 templates -> HTML bytes, with the number formats that every page shares.

Autoescape is on for everything and no template marks a value as safe. Data for scripts go into files of
their own (safe.script_data), never into the page: the Content-Security-Policy allows no inline script.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aistudio.reports.safe import clip, safe_link

PAGES: dict[str, str] = {  # file name without .html -> title, in the order of the navigation
    "index": "Overview",
    "metrics": "Metrics",
    "gallery": "Gallery",
    "pairs": "Pairs",
    "selection": "Selection",
    "searches": "Searches",
    "composed": "Composed",
    "alike": "Similar items",
    "decoded": "Reconstructions",
    "failures": "Failures",
    "map": "Map",
    "compare": "Compare",
    "drift": "Drift",
    "changes": "Changed images",
    "survey": "Survey",
    "training": "Training",
    "grid": "Grid",
}


@dataclass(frozen=True)
class Site:
    """What every page shows: the report's title, its run and the pages that exist."""

    title: str
    run: str  # path or URL of the run folder
    state: str  # "complete", "running", "failed", ...
    generated_at: str
    pages: tuple[str, ...]  # keys of PAGES
    similar: bool = False  # whether there are data for "more like this" (data/similar.js)


def render(site: Site, page: str, **context: Any) -> bytes:
    """One page as UTF-8 HTML. `page` is a key of PAGES; its template is templates/<page>.html."""
    nav = [(key, title) for key, title in PAGES.items() if key in site.pages]
    html = _environment().get_template(f"{page}.html").render(site=site, page=page, nav=nav, **context)
    return html.encode("utf-8", errors="replace")


def standalone(name: str, **context: Any) -> bytes:
    """Render a page that belongs to no report, templates/<name>.html, as UTF-8 HTML."""
    return _environment().get_template(f"{name}.html").render(**context).encode("utf-8", errors="replace")


def assets() -> dict[str, bytes]:
    """Style sheet, scripts and the chart library with its licence: file name -> bytes."""
    folder = files("aistudio.reports") / "assets"
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir(), key=lambda f: f.name) if f.is_file()}


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("aistudio.reports"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(
        count=count,
        counted=counted,
        share=share,
        number=number,
        short=short,
        duration=duration,
        num_bytes=num_bytes,
        clip=clip,
        link=safe_link,
    )
    return env


def count(value: float | None) -> str:
    """1234567 -> 1,234,567; an absent value is a dash."""
    return "–" if value is None else f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """Per cent of the whole; what is there but rounds to nothing is `< 0.1 %`."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def number(value: float | None) -> str:
    """A measured value: four significant digits, thousands separated, a dash when absent or not finite."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 0.00005:
        return "< 0.0001" if value > 0 else "> −0.0001"
    return f"{value:.4f}" if size < 0.001 else f"{value:.3f}" if size < 10 else f"{value:.4g}"


def counted(value: float | None, noun: str) -> str:
    """1 line, 2,345 lines."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def short(value: float | None) -> str:
    """A value without a scale of its own (a rank, a loss): as few digits as it needs, at most four."""
    return "–" if value is None or value != value else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 0.42 s, 12.3 s, 4 min 05 s, 2 h 03 min."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def num_bytes(size: float | None) -> str:
    if size is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
