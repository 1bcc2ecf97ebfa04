"""The end of a training: the best checkpoint's weights, judged once more, exported with card and report."""

import tempfile
from pathlib import Path
from typing import Any

from aistudio.config.train import TrainSettings
from aistudio.reports.training import TrainingPage, training_report
from aistudio.store import Store
from aistudio.training import layout
from aistudio.training.board import Projects
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.exporting import Place
from aistudio.training.history import History
from aistudio.training.loop import Outcome, load_trained
from aistudio.training.setup import Setup
from aistudio.training.task import trained_names
from aistudio.training.training_card import card

CARD = "card.md"


def export_best(
    store: Store,
    settings: TrainSettings,
    setup: Setup,
    checkpoints: Checkpoints,
    history: History,
    outcome: Outcome,
    record: dict[str, Any],
) -> dict[str, float]:
    """Load the best checkpoint into the task's module, export it and write card and report.

    Returns:
        The validation's metrics of the exported weights.
    """
    task = setup.task
    state = checkpoints.open(outcome.best.step)
    task.train_mode()
    load_trained(task.module, trained_names(task.module), state["average"] or state["module"])
    task.module.eval()
    metrics: dict[str, float] = task.validate()
    facts = record | {
        "steps": outcome.step, "best": {"step": outcome.best.step, "metrics": metrics},
        "metric": settings.validation.metric or task.metric, "warnings": warnings_of(history),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="aistudio-train-") as tmp:
        folder, place = Path(tmp), Place.of(store.path(layout.EXPORT.rstrip("/")), setup.name)
        task.export(folder, place, setup.name)
        (folder / CARD).write_text(card(facts, settings, place), encoding="utf-8")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            store.write_bytes(layout.export_key(path.relative_to(folder).as_posix()), path.read_bytes())
    history.board.outcome(record["settings"], {f"best/{name}": value for name, value in metrics.items()})
    if isinstance(task, Projects):
        history.board.projector("embed/projector", task.projection(), outcome.step)
    history.write()
    page = TrainingPage(
        title=f"Training of {setup.name}", folder=store.root, facts=facts,
        curves={name: history.series(name) for name in dict.fromkeys(e.name for e in history.entries)},
        cases=[tuple(case) for case in task.worst_cases(settings.validation.worst_cases)],
    )  # fmt: skip
    for name, body in training_report(page).items():
        store.write_bytes(layout.report_key(name), body)
    return metrics


def warnings_of(history: History) -> list[dict[str, Any]]:
    """Return which warnings there were, and after which update each came first."""
    first: dict[str, int] = {}
    for entry in history.entries:
        if entry.name.startswith("warning/"):
            first.setdefault(entry.name.removeprefix("warning/"), entry.step)
    return [{"kind": kind, "step": step} for kind, step in first.items()]
