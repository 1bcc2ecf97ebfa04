"""The shape of a run: everything that decides which rows and scores its folder ends with.

Two runs into one folder must agree on it, and every score file carries its checksum. Runs of earlier versions go on,
so a setting that came later is part of the shape only where it differs from its default.
"""

import hashlib
import json
from typing import Any

from aistudio.config import ImagesSettings, JobConfig, ManifestSettings, Settings
from aistudio.run_record import ModelFacts
from aistudio.store import storable_json

# Settings that were part of every shape from the first version on, by section; later ones are not listed here.
_ALWAYS: dict[type[Settings], frozenset[str]] = {
    ManifestSettings: frozenset(("path", "format", "columns", "passthrough", "encoding", "limit")),
    ImagesSettings: frozenset(("apply_exif_orientation", "max_pixels", "thumbnail_px", "decode")),
}
_NEVER = {"decode_timeout_s"}  # shapes no score


def shaping(settings: Settings) -> dict[str, Any]:
    """Return what a section of the settings adds to the shape, as plain data."""
    always, kept = _ALWAYS[type(settings)], settings.model_dump(mode="json", exclude_defaults=True).keys()
    data = settings.model_dump(mode="json", exclude=_NEVER)
    return {name: value for name, value in data.items() if name in always or name in kept}


def run_shape(
    config: JobConfig, manifest: dict[str, Any], models: dict[str, ModelFacts], poi_table: str | None = None
) -> dict[str, Any]:
    """Everything that decides which rows and scores the run folder ends with. Download settings do not.

    Its texts are storable, so that what is read back from run.json equals it.
    """
    shape: dict[str, Any] = {
        "manifest": manifest,
        "models": {role: model.fingerprint for role, model in models.items()} | {"poi_table": poi_table},
        "images": shaping(config.images),
        "precision": config.engine.precision,
        "embedding_dtype": config.store.embedding_dtype,
    }
    if config.engine.deduplicate != "shard":
        shape["deduplicate"] = config.engine.deduplicate
    storable: dict[str, Any] = storable_json(shape)
    return storable


def fingerprint(shape: dict[str, Any]) -> str:
    """sha256 of the shape, hex; every score file carries it."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two shapes differ, one readable line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else k)]
    return [] if old == new else [f"{path}: the run folder has {_shown(old)}, now {_shown(new)}"]


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)
