"""report.md: the same story in plain text, for people in a terminal and for a pull request."""

from typing import Any

from aistudio.reports.page import PAGES, Site, count, counted, number, share
from aistudio.reports.safe import clip


def markdown(
    site: Site,
    ledger: dict[str, Any],
    metrics: list[dict[str, Any]],
    speed: list[tuple[str, str, str]],
    failures: list[dict[str, Any]],
) -> bytes:
    """The report as Markdown (UTF-8). The arguments are what the HTML pages are made from."""  # fmt: skip
    lines = [
        f"# {_text(site.title)}",
        "",
        f"Run `{site.run.replace('`', '')}`, state {site.state}, {site.generated_at}.",
        "",
    ]
    lines += ["## Where every row ended", "", "| status | rows | share |", "|---|---:|---:|"]
    total = ledger["total"]
    lines += [f"| {_text(r['status'])} | {count(r['rows'])} | {share(r['rows'], total)} |" for r in ledger["rows"]]
    lines += [f"| **all** | **{count(total)}** | |", ""]
    if not ledger["adds_up"]:
        lines += [f"**The ledger does not add up:** the manifest has {count(ledger['expected'])} rows.", ""]
    if ledger["rejected"]:
        lines += [f"{counted(ledger['rejected'], 'manifest line')} could not be read.", ""]
    if metrics:
        lines += ["## Metrics", "", "| metric | value | interval | paper | n |", "|---|---:|---:|---:|---:|"]
        lines += [_metric(m) for m in metrics] + [""]
    if speed:
        lines += ["## Speed", ""] + [f"- {label}: {value} ({note})" for label, value, note in speed] + [""]
    if failures:
        lines += ["## What to do about the failures", ""]
        lines += [f"- `{g['status']}` ({count(g['rows'])}): {g['meaning']} {g['advice']}" for g in failures] + [""]
    pages = ", ".join(f"[{title}]({key}.html)" for key, title in PAGES.items() if key in site.pages)
    lines += [f"Pages: {pages}", ""]
    return "\n".join(lines).encode("utf-8", errors="replace")


def _metric(m: dict[str, Any]) -> str:
    interval = f"{number(m['low'])} to {number(m['high'])}" if m["low"] is not None else "–"
    paper = number(m["paper"]) if m["paper"] is not None else ""
    return f"| {_text(m['name'])} | {number(m['value'])} | {interval} | {paper} | {count(m['n'])} |"


def _text(value: str) -> str:
    """One line without HTML or table marks."""
    flat = " ".join(clip(value, 200).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
