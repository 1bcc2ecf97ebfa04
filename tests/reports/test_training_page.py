"""The page of a training: what it puts first, what it leaves to metrics.csv, what was left out of the data."""

import re

from aistudio.reports.training import MAX_VALIDATION_CURVES, TrainingPage, training_report

SIDE = {"rows": 9, "items": 3, "images": 9, "source": "run <x>", "left_out": {"no vector is stored": 2}}
FACTS = {
    "counts": {
        "train": SIDE, "validation": SIDE, "overlap": {"items": 1, "images": 0, "rows_removed": 4},
        "texts": {"train": 7, "left_out": {"the text is empty": 1}},
    },
    "best": {"step": 20, "metrics": {"hit_rate@1": 0.25, "mrr": 0.5}}, "metric": "mrr", "steps": 30, "command": "train",
    "settings": {"task": "recall"},
}  # fmt: skip
POINTS = [(10, 1.0), (20, 0.5)]


def page(curves: dict[str, list[tuple[int, float]]]) -> tuple[dict[str, bytes], str]:
    cases = [("i1 <b>", "rank 9", [("row 1", b"jpeg"), ("row 2", None)])]
    files = training_report(TrainingPage("Training of x", "/t", FACTS, curves, cases))
    return files, files["index.html"].decode()


def test_the_metric_that_chose_the_weights_comes_first():
    names = [f"val/precision@{k}" for k in range(1, 9)]
    _, html = page(dict.fromkeys([*names, "val/mrr", "train/lr", "train/loss"], POINTS) | {"train/once": POINTS[:1]})
    assert html.index("<code>mrr</code>") < html.index("chose the weights") < html.index("<code>hit_rate@1</code>")
    shown = re.findall(r'id="(curve-[^"]+)"', html) or re.findall(r"data/(curve-[^\"]+)\.csv", html)
    assert shown[:3] == ["curve-val-mrr", "curve-train-loss", "curve-train-lr"] and "curve-train-once" not in shown
    assert len([name for name in shown if name.startswith("curve-val")]) == MAX_VALIDATION_CURVES
    assert f"{len(names) + 1 - MAX_VALIDATION_CURVES} more curves" in html


def test_counts_and_pictures_of_the_worst_cases():
    files, html = page({})
    for text in ("7 rows with a text to train on", "1 because the text is empty", "2 because no vector is stored"):
        assert text in html
    assert "4 training rows removed" in html and "i1 &lt;b&gt;" in html and "run &lt;x&gt;" in html
    assert files["thumbs/000-0.jpg"] == b"jpeg" and html.count("<img") == 1
