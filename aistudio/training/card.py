"""Writes metrics.json and model_card.md beside the demo weights."""

import dataclasses
import datetime
import hashlib
import json
import platform
from pathlib import Path

import torch

from aistudio.demo.sights import SIGHTS
from aistudio.errors import WeightsError
from aistudio.training.demo_weights import TRAIN_SEED, Recipe
from aistudio.training.evaluate import Metrics

FILES = ("recall.safetensors", "ranking.safetensors", "vocab.txt", "poi_table.parquet")


def write_metrics(out: Path, recipe: Recipe, metrics: dict[str, Metrics], training: dict[str, float]) -> None:
    """metrics.json: what was measured, the recipe, and the files it was measured with (sha256, bytes)."""
    content = {
        **metrics,
        "training": training,
        "recipe": dataclasses.asdict(recipe),
        "files": {name: _file(out / name) for name in FILES},
        "made_with": {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()},
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    (out / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def update_metrics(out: Path, metrics: dict[str, Metrics]) -> None:
    """Put new measurements into metrics.json; how and when the weights were made stays as recorded.

    Raises:
        WeightsError: there is no metrics.json, or other files lie in the folder than it was written for.
    """
    path = out / "metrics.json"
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; it is written beside the weights when they are made")
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, recorded in content["files"].items():
        if _file(out / name) != recorded:
            raise WeightsError(f"{out / name}: not the file that {path} describes; train again or restore it")
    path.write_text(json.dumps({**content, **metrics}, indent=2) + "\n", encoding="utf-8")


def write_card(out: Path) -> None:
    """model_card.md, every number of it from metrics.json."""
    facts = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    recipe, training = facts["recipe"], facts["training"]
    seconds = sum(training.get(f"{part}_s", 0.0) for part in ("render", "recall", "ranking"))
    size_mb = sum(f["size_bytes"] for f in facts["files"].values()) / 1e6
    text = _CARD.format(
        date=facts["date"],
        torch=facts["made_with"]["torch"],
        size_mb=size_mb,
        num_sights=len(SIGHTS),
        train_seed=TRAIN_SEED + recipe["seed"],
        recall_images=recipe["recall_images"],
        ranking_images=recipe["ranking_images"],
        recall=recipe["recall"],
        ranking=recipe["ranking"],
        batch=recipe["recall"]["sights_per_batch"] * recipe["recall"]["images_per_sight"],
        minutes=f"{seconds / 60:.0f} minutes" if seconds else "not recorded",
        table=_table(facts["demo_catalogue"], facts["held_out"]),
        files="\n".join(f"| {name} | {f['size_bytes']:,} | `{f['sha256']}` |" for name, f in facts["files"].items()),
    )
    (out / "model_card.md").write_text(text, encoding="utf-8")


def _file(path: Path) -> dict[str, str | int]:
    body = path.read_bytes()
    return {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def _table(demo: Metrics, held_out: Metrics) -> str:
    rows = []
    for name in demo:
        a, b = (f"{m[name]:.3f}" if isinstance(m[name], float) else str(m[name]) for m in (demo, held_out))
        rows.append(f"| {name} | {a} | {b} |")
    return "\n".join(rows)


_CARD = """\
# Demo weights

Two small models for trying AI Studio out: `recall.safetensors` (family `align`: is this a picture of the thing?) and
`ranking.safetensors` (family `siamese_poi`: which picture will be clicked?), with their `vocab.txt` and
`poi_table.parquet`. Together {size_mb:.1f} MB. Licence: Apache-2.0, like the code that draws the pictures and trains
them.

**Use:** `make demo`, tests, and showing how a run looks. **Not for** real catalogues: the models have seen nothing
but drawings of {num_sights} sights and their text tower knows no other names. Use the published weights there.

## Data

No photograph and no outside data. `aistudio/demo` draws every picture from (seed, sight, number): hour, weather,
composition, passers-by, sale badges, grading, file format. Training uses seed {train_seed}: {recall_images} pictures
per sight for the towers and {ranking_images} others for the ranking head. The demo catalogue (seed 1) and the held-out
catalogue (seed 2) share no picture with it, only the sights. Clicks are drawn from the known preference model in
`aistudio/demo/preference.py`, so the best possible pairwise accuracy is known.

## Recipe

`train_demo` in `aistudio/training/demo_weights.py` makes all files again. Architecture: `conf/models/demo_recall.yaml`
and `demo_ranking.yaml`.

1. Recall: symmetric InfoNCE between pictures and captions (names in Chinese, English or both, titles of offers,
   names with hour and weather), texts that are also true of a picture left out of its negatives; plus a pairwise click
   loss on a probe of the picture vector, thrown away afterwards, because the ranking model shares the image tower.
   {recall[steps]} steps of {batch} pictures, AdamW, learning rate {recall[learning_rate]}, mirroring and small shifts.
2. Ranking: the towers are frozen (the image tower in both files is bit for bit the same); BCE(sigmoid(s_a - s_b)) on
   pairs of pictures of one sight. {ranking[steps]} steps of {ranking[pairs_per_batch]} pairs.

Made on {date} with torch {torch}; time: {minutes} on 2 CPU cores shared with other work.
Everything random comes from the seed; equal seeds gave equal weights (to 1e-6) in a miniature run on one thread. How
far the numbers below move with another seed, machine or torch build was not measured.

## Measured on pictures never trained on

| | demo catalogue | held-out catalogue |
|---|---|---|
{table}

hit_rate@K: some picture of the sight is among the first K of all pictures, for the sight's name as query.
pairwise_accuracy: share of A/B pairs put in the order of the recorded clicks; best_possible_*: the same for someone who
knows the true utilities (recorded clicks are random, so this is below 1).

## Files

| file | bytes | sha256 |
|---|---|---|
{files}
"""
