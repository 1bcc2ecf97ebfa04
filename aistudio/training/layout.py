"""Owns the names in a training's folder: every key of every file is made here.

train.json                  what the training is, how its last attempt ended
attempts/000001.json        one for each attempt; the newest alone may write (runs/attempts.py)
checkpoints/000000120.pt    everything that the training needs to go on after update 120
metrics.csv                 every logged number: step, epoch, seconds, name, value
tensorboard/                the same for TensorBoard, where it is installed
export/                     the trained model, ready for `aistudio score`
report/                     the HTML page
"""

import re

from aistudio.runs import layout as run_layout
from aistudio.store import Store

TRAIN = "train.json"
CHECKPOINTS = "checkpoints/"
HISTORY = "metrics.csv"
TENSORBOARD = "tensorboard/"
EXPORT = "export/"
REPORT = run_layout.REPORT  # where a run has its own
REPORT_INDEX = run_layout.REPORT_INDEX

_CHECKPOINT = re.compile(re.escape(CHECKPOINTS) + r"(\d{9,})\.pt")


def checkpoint_key(step: int) -> str:
    """Return the key of the checkpoint after `step` updates."""
    return f"{CHECKPOINTS}{step:09d}.pt"


def checkpoint_steps(store: Store) -> list[int]:
    """List the steps that have a checkpoint, oldest first."""
    found = (_CHECKPOINT.fullmatch(entry.key) for entry in store.list(CHECKPOINTS))
    return sorted(int(match[1]) for match in found if match)


def export_key(path: str) -> str:
    """Return the key of a file of the export."""
    return f"{EXPORT}{path}"


def report_key(path: str) -> str:
    """Return the key of a file of the report."""
    return f"{REPORT}{path}"
