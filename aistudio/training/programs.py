"""The program of a training: set up, train, export; typed again it goes on, and a finished one says so.

train.json holds the settings and inputs that decide the weights; another command on the same folder must agree.
"""

import hashlib
import json
import platform
import resource
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import yaml

from aistudio.config.train import TrainSettings
from aistudio.errors import OutputError, RunMismatchError, StoreError
from aistudio.runs.attempts import claim_attempt
from aistudio.runs.record import now
from aistudio.runs.shape import differences
from aistudio.secrets import redact, redacted
from aistudio.store import Store, open_store
from aistudio.training import layout
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.composer_setup import set_up_composer
from aistudio.training.embedder_setup import set_up_embedder
from aistudio.training.finishing import export_best, warnings_of
from aistudio.training.history import History
from aistudio.training.inputs import Say, choose_device
from aistudio.training.loop import Loop
from aistudio.training.ranking_setup import set_up_ranking
from aistudio.training.recall_setup import set_up_recall
from aistudio.training.setup import Setup
from aistudio.training.task import Progress
from aistudio.training.team import Team
from aistudio.training.vae_setup import set_up_vae

SET_UPS: dict[str, Callable[..., Setup]] = {
    "ranking": set_up_ranking,
    "recall": set_up_recall,
    "composer": set_up_composer,
    "embedder": set_up_embedder,
    "vae": set_up_vae,
}
SHOWN_LABELS = 12
TIMED_UPDATES = 3  # of a dry run, after one that is not timed


class Finished(NamedTuple):
    """What a training ended with."""

    record: dict[str, Any]  # train.json
    was_finished: bool  # before this command


def set_up(settings: TrainSettings, team: Team, device: torch.device, say: Say, *, dry: bool = False) -> Setup:
    """Open model and data of any task. Raises ConfigError, ManifestError, StoreError, WeightsError."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return SET_UPS[settings.task](settings, team, device, say, dry=dry)  # type: ignore[attr-defined]


def open_output(settings: TrainSettings) -> Store:
    """Open the training's folder. Raises OutputError when it cannot be written."""
    store = open_store(settings.output, settings.store)
    try:
        store.check_writable()
    except StoreError as e:
        raise OutputError(f"output: {e}") from None
    return store


def finished_before(store: Store, settings: TrainSettings) -> dict[str, Any] | None:
    """Return the record of a finished training with these settings, None for one to begin or to go on with.

    Raises:
        RunMismatchError: the folder holds a training with other settings, named one by one.
    """
    if not store.exists(layout.TRAIN):
        return None
    record = store.read_json(layout.TRAIN)
    _refuse_other(record["settings"], _settings_shape(settings), store)
    return record if record["state"] == "finished" else None


def train(settings: TrainSettings, team: Team, say: Say, command: str) -> Finished:
    """Train in this process, as the one worker or as one of a team.

    Args:
        say: prints a line.
        command: what the user typed, for the model card.

    Raises:
        RunMismatchError: the folder holds another training.
        AIStudioError: the loss is not finite, storage failed, a newer attempt has taken over.
    """
    store = open_output(settings) if team.leads else open_store(settings.output, settings.store)
    done = team.lead(lambda: finished_before(store, settings))
    if done is not None:
        return Finished(done, True)
    device = choose_device(settings.device)
    setup = set_up(settings, team, device, say if team.leads else _nothing)
    try:
        return Finished(_train(settings, team, store, setup, say, command), False)
    finally:
        setup.cache.close()
        setup.keeping.cleanup()


def _train(settings: TrainSettings, team: Team, store: Store, setup: Setup, say: Say, command: str) -> dict[str, Any]:
    shape = _settings_shape(settings)
    inputs = json.loads(json.dumps(setup.shape))
    record = team.lead(lambda: _begin(settings, team, store, setup, command))
    fingerprint = hashlib.sha256(json.dumps([shape, inputs], sort_keys=True).encode()).hexdigest()
    checkpoints, history = Checkpoints(store, record["attempt"], fingerprint), History(store, _as_yaml(shape))
    started = time.monotonic()
    outcome = Loop(setup.task, settings, checkpoints, history, team).run()

    def finish() -> dict[str, Any]:
        best = export_best(store, settings, setup, checkpoints, history, outcome, record)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        done = record | {
            "state": "finished", "finished_at": now(), "steps": outcome.step, "stopped_early": outcome.stopped_early,
            "skipped_batches": outcome.num_skipped, "best": {"step": outcome.best.step, "metrics": best},
            "metric": settings.validation.metric or setup.task.metric,
            "higher_is_better": setup.task.higher_is_better, "warnings": warnings_of(history),
            "seconds": round(time.monotonic() - started, 3), "peak_memory_mb": round(peak_mb),
        }  # fmt: skip
        checkpoints.refuse_if_fenced()
        store.write_json(layout.TRAIN, done)
        return done

    return team.lead(finish)


def _begin(settings: TrainSettings, team: Team, store: Store, setup: Setup, command: str) -> dict[str, Any]:
    """Claim the folder for this attempt and write train.json."""
    inputs = json.loads(json.dumps(setup.shape))
    if store.exists(layout.TRAIN):
        _refuse_other(store.read_json(layout.TRAIN)["inputs"], inputs, store)
    store.sweep(layout.CHECKPOINTS)  # what killed attempts left half-written
    record: dict[str, Any] = {
        "state": "running", "started_at": now(), "attempt": claim_attempt(store), "command": redact(command),
        "settings": _settings_shape(settings), "inputs": inputs, "config": redacted(settings.model_dump(mode="json")),
        "counts": setup.counts, "workers": team.size, "name": setup.name,
        "versions": {"torch": torch.__version__, "python": platform.python_version()}, "host": socket.gethostname(),
    }  # fmt: skip
    store.write_json(layout.TRAIN, record)
    return record


def _settings_shape(settings: TrainSettings) -> dict[str, Any]:
    return dict(json.loads(json.dumps(redacted(settings.shape()))))


def _as_yaml(shape: dict[str, Any]) -> str:
    return str(yaml.safe_dump(shape, sort_keys=False, allow_unicode=True))


def _refuse_other(old: dict[str, Any], new: dict[str, Any], store: Store) -> None:
    found = differences(old, new)
    if found:
        lines = "\n  ".join(found)
        raise RunMismatchError(
            f"{store.root} holds a training with other settings or data:\n  {lines}\nchoose another output"
        )


def _nothing(text: str) -> None:
    """Say nothing: other workers than the first."""


# --- dry run ----------------------------------------------------------------------------------------------------------


def plan(settings: TrainSettings, say: Say) -> list[str]:
    """Check everything and return lines that say what a training would do; nothing is fetched or stored in `output`.

    A few updates are made on a model that is thrown away, to tell how long all of them take.
    """
    open_output(settings)
    device = choose_device(settings.device)
    setup = set_up(settings, Team(), device, say, dry=True)
    try:
        return [*_count_lines(setup.counts), *_length_lines(settings, setup, device)]
    finally:
        setup.cache.close()
        setup.keeping.cleanup()


def _count_lines(counts: dict[str, Any]) -> list[str]:
    lines = []
    for name in ("train", "validation"):
        c = counts[name]
        lines.append(f"{name}: {c['rows']:,} rows, {c['items']:,} items, {c['images']:,} images, from {c['source']}")
        lines += [f"  left out: {n:,} because {reason}" for reason, n in c["left_out"].items()]
    overlap = counts["overlap"]
    lines.append(
        f"overlap of training and validation: {overlap['items']:,} items, {overlap['images']:,} images; "
        f"{overlap['rows_removed']:,} training rows removed"
    )
    if "pairs" in counts:
        pairs = counts["pairs"]
        lines.append(f"pairs: {pairs['train']:,} to train on, {pairs['validation']:,} to judge by")
        for name, reasons in pairs["left_out"].items():
            lines += [f"  left out ({name}): {n:,} because {reason}" for reason, n in reasons.items()]
    if "labels" in counts:
        lines += _label_lines(counts["labels"])
    if "texts" in counts:
        lines.append(f"rows with a text to train on: {counts['texts']['train']:,}")
        lines += [f"  left out: {n:,} because {reason}" for reason, n in counts["texts"]["left_out"].items()]
    return lines


def _label_lines(labels: dict[str, Any]) -> list[str]:
    train = labels["train"]
    shown = ", ".join(f"{name} {n:,}" for name, n in list(train.items())[:SHOWN_LABELS])
    more = ", …" if len(train) > SHOWN_LABELS else ""
    found = f"labels: {len(train):,} to train on ({shown}{more})"
    return [f"{found}; {labels['queries']:,} validation images ask the others"]


def _length_lines(settings: TrainSettings, setup: Setup, device: torch.device) -> list[str]:
    task = setup.task
    task.train_mode()
    batches = task.batches()
    per_epoch = len(batches)
    total = settings.steps or (settings.epochs or 0) * per_epoch
    rows = next(iter(batches))
    times = []
    for _ in range(TIMED_UPDATES + 1):
        started = time.monotonic()
        out = task.loss(task.load(rows, 0), Progress(0, total))
        if out.loss is not None:
            out.loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - started)
        task.module.zero_grad(set_to_none=True)
    per_step = sorted(times[1:])[TIMED_UPDATES // 2]
    trained = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024) + trained * 8 / 1e6
    gpu = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory" if device.type == "cuda" else ""
    return [
        f"{per_epoch:,} batches of {len(rows):,} {task.unit} an epoch, {total:,} updates in all; "
        f"{trained:,} numbers train",
        f"about {per_step * total / 60:.1f} minutes of updates ({per_step * 1e3:.0f} ms each on {device}, without "
        f"fetching and validation), {memory_mb / 1e3:.1f} GB of memory{gpu}",
        f"data sets are kept in {setup.cache.root} (at most {settings.data.cache_max_gb:g} GB)",
    ]


def summary(record: dict[str, Any], store_root: str, was_finished: bool) -> list[str]:
    """Return what is printed at the end."""
    best = record["best"]
    head = "this training is finished already" if was_finished else "finished"
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in best["metrics"].items())
    early = ", stopped early" if record["stopped_early"] else ""
    return [
        f"{head}: {record['steps']:,} updates{early}; best after update {best['step']:,}: {numbers}",
        f"model: {store_root}/{layout.EXPORT}{record['name']}.yaml",
        f"report: {store_root}/{layout.REPORT_INDEX}",
    ]
