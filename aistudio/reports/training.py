"""The page of a training: curves, the best update, the worst validation cases with pictures, data counts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from aistudio.reports.figures import Figure, Series, figure_files
from aistudio.reports.page import Site, assets, render

MAX_POINTS = 2_000  # of one curve
_GROUPS = {"train/loss": "loss", "train/lr": "rate", "train/grad_norm": "gradient"}

Case = tuple[str, str, list[tuple[str, bytes | None]]]  # title, note, (caption, JPEG file)


@dataclass(frozen=True)
class TrainingPage:
    """What the page shows."""

    title: str
    folder: str
    facts: dict[str, Any]  # train.json, with steps and best
    curves: dict[str, list[tuple[int, float]]]  # name -> (update, value)
    cases: list[Case]


def training_report(page: TrainingPage) -> dict[str, bytes]:
    """Return the report's files: path inside the report -> bytes; index.html is the last."""
    figures = [_figure(name, points) for name, points in page.curves.items() if len(points) > 1]
    files = {f"assets/{name}": body for name, body in assets().items()}
    files |= figure_files("training", figures)
    cases = []
    for number, (title, note, pictures) in enumerate(page.cases):
        shown = []
        for i, (caption, body) in enumerate(pictures):
            path = f"thumbs/{number:03d}-{i}.jpg" if body else None
            if body and path:
                files[path] = body
            shown.append({"caption": caption, "path": path})
        cases.append({"title": title, "note": note, "pictures": shown})
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    site = Site(page.title, page.folder, "complete", made, ("training",))
    facts = page.facts
    files["training.html"] = render(
        site, "training", figures=figures, cases=cases, best=facts["best"], steps=facts["steps"],
        counts=_count_rows(facts["counts"]), command=facts["command"],
        config=yaml.safe_dump(facts["settings"], sort_keys=False, allow_unicode=True),
    )  # fmt: skip
    files["index.html"] = files["training.html"]  # the page's own links lead here
    return files


def _figure(name: str, points: list[tuple[int, float]]) -> Figure:
    step = -(-len(points) // MAX_POINTS)
    chosen = [list(p) for p in points[::step]]
    title = name.replace("/", ": ").replace("_", " ")
    return Figure(
        f"curve-{name.replace('/', '-').replace('@', '-at-')}", title, "over the updates", "line", "update", name,
        [Series(name, chosen)],
    )  # fmt: skip


def _count_rows(counts: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name in ("train", "validation"):
        c = counts[name]
        rows.append((name, f"{c['rows']:,} rows, {c['items']:,} items, {c['images']:,} images, from {c['source']}"))
        rows += [(f"{name}, left out", f"{n:,} because {reason}") for reason, n in c["left_out"].items()]
    pairs = counts.get("pairs")
    if pairs:
        rows.append(("pairs", f"{pairs['train']:,} to train on, {pairs['validation']:,} to judge by"))
        for name, reasons in pairs["left_out"].items():
            rows += [(f"pairs of {name}, left out", f"{n:,} because {reason}") for reason, n in reasons.items()]
    o = counts["overlap"]
    text = f"{o['items']:,} items, {o['images']:,} images; {o['rows_removed']:,} training rows removed"
    return [*rows, ("overlap", text)]
