"""card.md beside an exported model: what it was trained on, how, and how good it is."""

import json
from typing import Any

import yaml

from aistudio.config.train import TrainSettings
from aistudio.training.exporting import Place

_CARD = """\
# {name}

Trained by AI Studio, task {task}, from {begin}. Best of the validations, after update {best_step} of {steps}.

**Use:** {use}

## Data

| | rows | items | images | source |
|---|---|---|---|---|
{data}

{pairs}{labels}Split by item; overlap of training and validation: {items} items, {images} images; training rows removed:
{removed}.

{left_out}

{warnings}## Numbers, on rows never trained on

| metric | value |
|---|---|
{metrics}

## How it was made

`{command}`

torch {torch}, python {python}, {workers} worker(s), seed {seed}; begun {started}.

```yaml
{config}```
"""

MOST_LABELS = 50  # in the card
_SETTINGS = {
    "ranking": "models.ranking", "recall": "models.recall", "composer": "models.encoders.compose",
    "embedder": "models.encoders.look", "vae": "models.encoders.look",
}  # fmt: skip


def card(facts: dict[str, Any], settings: TrainSettings, place: Place) -> str:
    """Return the card as Markdown. `facts` is train.json with `steps` and `best`."""
    counts, best, name = facts["counts"], facts["best"], facts["name"]
    overlap, task = counts["overlap"], facts["settings"]["task"]
    pairs = counts.get("pairs")
    shown = f"Pairs: {pairs['train']:,} for training, {pairs['validation']:,} for validation.\n\n" if pairs else ""
    setting = _SETTINGS[task]
    table = f" --set models.poi_table={place.url or place.folder}/poi_table.parquet"
    use = f"`python -m aistudio score --conf conf/x.yaml --set {setting}={place.url or place.folder}/{name}.yaml"
    return _CARD.format(
        name=name, task=task, best_step=f"{best['step']:,}", steps=f"{facts['steps']:,}",
        begin=_begin(settings),
        use=use + (table if facts["settings"].get("poi_table") else "") + "`",
        data="\n".join(_source(n, counts[n]) for n in ("train", "validation")),
        pairs=shown, labels=_labels(counts, facts["settings"]),
        items=overlap["items"], images=overlap["images"], removed=overlap["rows_removed"],
        left_out=_left_out(counts), warnings=_warnings(facts),
        metrics="\n".join(f"| {n} | {v:.6f} |" for n, v in best["metrics"].items()),
        command=_cell(facts["command"]), torch=facts["versions"]["torch"], python=facts["versions"]["python"],
        workers=facts["workers"], seed=settings.seed, started=facts["started_at"],
        config=yaml.safe_dump(json.loads(json.dumps(facts["settings"])), sort_keys=False, allow_unicode=True),
    )  # fmt: skip


def _source(name: str, c: dict[str, Any]) -> str:
    return f"| {name} | {c['rows']:,} | {c['items']:,} | {c['images']:,} | {_cell(c['source'])} |"


def _begin(settings: TrainSettings) -> str:
    begin = settings.model if settings.init == "weights" else f"random numbers (sizes of {settings.model})"
    trunk = getattr(settings, "trunk_from", None)
    return f"{begin}, the trunk of {trunk}" if trunk else begin


def _labels(counts: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return a table of labels, and who split the rows where it was not a share of the items."""
    labels = counts.get("labels")
    if labels is None:
        return ""
    names = [name for name in labels["train"] if name] or [name for name in labels["validation"] if name]
    lines = [f"| {_cell(n)} | {labels['train'].get(n, 0):,} | {labels['validation'].get(n, 0):,} |" for n in names]
    more = [f"| {len(names) - MOST_LABELS:,} more | | |"] if len(names) > MOST_LABELS else []
    table = "\n".join(["| label | train | validation |", "|---|---|---|", *lines[:MOST_LABELS], *more])
    roles = settings["data"].get("roles")
    said = "A table of roles says which rows are for what. " if roles is not None else ""
    return f"{table}\n\n{said}" if names else said


def _warnings(facts: dict[str, Any]) -> str:
    lines = [f"- {w['kind']}, first after update {w['step']:,}" for w in facts.get("warnings", [])]
    return "## Warnings while it trained\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def _left_out(counts: dict[str, Any]) -> str:
    found = [(name, counts[name]["left_out"]) for name in ("train", "validation")]
    found += list(counts.get("pairs", {}).get("left_out", {}).items())
    found += [("train", counts["texts"]["left_out"])] if "texts" in counts else []
    lines = [f"- {name}: {n:,} because {_cell(reason)}" for name, reasons in found for reason, n in reasons.items()]
    return "Left out:\n\n" + "\n".join(lines) if lines else "Nothing was left out."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")
