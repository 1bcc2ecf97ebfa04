"""The page of a training: curves, the best update, the worst validation cases with pictures, data counts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from aistudio.reports.figures import Figure, Series, figure_files
from aistudio.reports.page import Site, assets, render

MAX_POINTS = 2_000  # of one curve
MAX_VALIDATION_CURVES = 6  # beside those of the training itself; metrics.csv has all

Case = tuple[str, str, list[tuple[str, bytes | None]]]  # title, note, (caption, JPEG file)


@dataclass(frozen=True)
class TrainingPage:
    """What the page shows."""

    title: str
    folder: str
    facts: dict[str, Any]  # train.json, with steps, best and metric
    curves: dict[str, list[tuple[int, float]]]  # name -> (update, value)
    cases: list[Case]


def training_report(page: TrainingPage) -> dict[str, bytes]:
    """Return the report's files: path inside the report -> bytes; index.html is the last."""
    metric = page.facts["metric"]
    drawn = {name: points for name, points in page.curves.items() if len(points) > 1}
    judged = sorted((n for n in drawn if n.startswith("val/")), key=lambda n: n != f"val/{metric}")
    trained = sorted((n for n in drawn if n not in judged), key=lambda n: n != "train/loss")
    figures = [_figure(name, drawn[name]) for name in [*judged[:1], *trained, *judged[1:MAX_VALIDATION_CURVES]]]
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
        metrics=sorted(facts["best"]["metrics"].items(), key=lambda item: item[0] != metric),
        num_hidden=max(0, len(judged) - MAX_VALIDATION_CURVES),
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
    texts = counts.get("texts")
    if texts:
        rows.append(("texts", f"{texts['train']:,} rows with a text to train on"))
        rows += [("texts, left out", f"{n:,} because {reason}") for reason, n in texts["left_out"].items()]
    o = counts["overlap"]
    text = f"{o['items']:,} items, {o['images']:,} images; {o['rows_removed']:,} training rows removed"
    return [*rows, ("overlap", text)]
