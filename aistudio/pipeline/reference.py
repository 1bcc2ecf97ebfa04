"""The answers that canaries are judged by: made once, in float32 on a CPU, by a process that does nothing else.

They are kept beside the node's weights under a name that says which models gave them, so a second run with the same
models need not load them once more.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import ray

from aistudio.config import JobConfig
from aistudio.errors import StoreError
from aistudio.scoring.canaries import NUM_PICTURES, Answers, answers_key, ask, packed, unpacked
from aistudio.scoring.encoders import Device, Encoders
from aistudio.scoring.pinned_models import PinnedModels
from aistudio.store import open_store
from aistudio.weights.cache import default_folder


def reference_folder(config: JobConfig) -> Path:
    """Return where a node keeps such answers."""
    return default_folder(config.engine.weights_cache).parent / "canaries"


def ask_for_reference(config: JobConfig, models: PinnedModels) -> Any:
    """Return a reference (of Ray) to the answers of a run's models, which may still be in the making."""
    if (known := _kept(config, models)) is not None:
        return ray.put(known)
    task = ray.remote(num_cpus=0, max_retries=2, max_calls=1)(make_reference)  # one call: its memory is freed
    return task.remote(config.model_dump(mode="json"), models)


def make_reference(settings: dict[str, Any], models: PinnedModels) -> Answers:
    """Load the models in float32 on this node's CPU and ask them; keep the answers."""
    config = JobConfig.model_validate(settings)
    if (known := _kept(config, models)) is not None:
        return known
    plain = config.engine.model_copy(update={"precision": "float32", "compile": False})
    encoders = Encoders(config.model_copy(update={"engine": plain}), Device("cpu", NUM_PICTURES), models)
    answers = ask(encoders, models.specs, encoders.towers.rank, recall=encoders.recall is not None)
    with suppress(StoreError):  # a disk that is full or read-only: they are made again next time
        open_store(str(reference_folder(config))).write_bytes(_key(models), packed(answers))
    return answers


def _kept(config: JobConfig, models: PinnedModels) -> Answers | None:
    try:
        return unpacked((reference_folder(config) / _key(models)).read_bytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # not there, or something else
        return None


def _key(models: PinnedModels) -> str:
    prints = [f"{role}: {model.fingerprint}" for role, model in models.by_role.items()]
    prints += [f"POI table: {models.poi_table.sha256}"] if models.poi_table else []
    return f"{answers_key(prints)}.npz"
