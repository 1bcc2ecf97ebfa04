"""The record of a run or a training for a tracking server: settings, counts, metrics, its report. No secrets."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.secrets import is_secret_name, redact, redacted
from aistudio.store import Store

MOST_CHARS = 500  # of a value
MOST_KEY_CHARS = 200
Outcome = Literal["running", "finished", "failed"]
_STATES: dict[str, Outcome] = {"complete": "finished", "finished": "finished", "running": "running"}


class Tracked(NamedTuple):
    """One run as it is reported. Reported again, it updates the same record, found by `key`."""

    key: str
    name: str
    outcome: Outcome
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def tracked_run(store: Store) -> Tracked:
    """Read what there is to tell of a stored run, with the metrics of all its aggregations.

    Raises:
        StoreError, ConfigError: no run there, or it cannot be read.
    """
    record = recorded(store)
    settings = {k: v for k, v in record.config.items() if k not in ("log", "start_over")}
    models = {role: {"name": m.name, "fingerprint": m.fingerprint} for role, m in record.models.items()}
    numbers: dict[str, Any] = {
        "rows": {k: v for k, v in record.rows.as_json().items() if k != "read"} | {"status": record.counts},
        "seconds": record.timings.steps() | {"wall": record.timings.wall_s},
        "images_per_s": record.timings.images_per_s,
        "metrics": dict(_aggregations(store)),
    }
    tags = {
        "aistudio.output": store.root, "aistudio.fingerprint": record.fingerprint, "aistudio.state": record.state,
        "aistudio.attempt": str(record.attempt), "aistudio.version": record.versions.get("aistudio", ""),
    }  # fmt: skip
    if store.exists(layout.REPORT_INDEX):
        tags["aistudio.report"] = store.path(layout.REPORT_INDEX)
    return _tracked(store.root, record.fingerprint, record.state, settings | {"model": models}, numbers, tags)


def tracked_training(record: Mapping[str, Any], output: str, report: str) -> Tracked:
    """Return what there is to tell of a training.

    Args:
        record: its train.json.
        output: its folder.
        report: where its report lies.
    """
    settings = {k: v for k, v in record["config"].items() if k != "log"}
    best = record.get("best") or {}
    numbers = {
        "metrics": best.get("metrics", {}), "best_step": best.get("step"), "steps": record.get("steps"),
        "seconds": record.get("seconds"), "skipped_batches": record.get("skipped_batches"), "rows": record["counts"],
    }  # fmt: skip
    shape = hashlib.sha256(json.dumps([record["settings"], record["inputs"]], sort_keys=True).encode()).hexdigest()
    tags = {"aistudio.output": output, "aistudio.fingerprint": shape, "aistudio.state": record["state"],
            "aistudio.report": report, "aistudio.model": str(record.get("name"))}  # fmt: skip
    return _tracked(output, shape, record["state"], settings, numbers, tags)


def _tracked(
    place: str, fingerprint: str, state: str, settings: Mapping[str, Any], numbers: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Tracked:  # fmt: skip
    key = hashlib.sha256(f"{place}\n{fingerprint}".encode()).hexdigest()[:32]
    params = {name: _text(name, value) for name, value in _flat(redacted(dict(settings)))}
    metrics = {name: float(v) for name, v in _flat(numbers) if isinstance(v, int | float) and math.isfinite(v)}
    shown = {name: redact(text)[:MOST_CHARS] for name, text in tags.items() if text}
    name = redact(place).rstrip("/").rpartition("/")[2] or "run"
    return Tracked(key, name[:MOST_KEY_CHARS], _STATES.get(state, "failed"), params, metrics, shown)


def _aggregations(store: Store) -> Iterator[tuple[str, dict[str, float]]]:
    """Each aggregation by name; of runs that know no names, the one that there is as `first`."""
    end = layout.metrics_key("metrics.json").removeprefix(layout.METRICS)
    found = [e.key.removeprefix(layout.METRICS) for e in store.list(layout.METRICS)]
    names = [key.removesuffix(f"/{end}") for key in found if key.endswith(f"/{end}")]
    wanted: list[str | None] = [*names] or ([None] if end in found else [])
    for name in wanted:
        values = store.read_json(layout.metrics_key(end, name))
        told: dict[str, float] = {}
        for metric, value in values.items():
            if isinstance(value, dict):
                told[metric] = value.get("value")  # type: ignore[assignment]  # null where it is not defined
                told |= {f"{metric}.{bound}": value[bound] for bound in ("low", "high") if value.get(bound) is not None}
        yield name or "first", told


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names, such as MLflow takes, each once, and plain values; lists stay whole."""
    seen: dict[str, int] = {}
    for name, one in _walk(value, path):
        key = _key(name)
        seen[key] = seen.get(key, 0) + 1
        yield (key if seen[key] == 1 else f"{key}_{seen[key]}"), one


def _walk(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, one in value.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(one, Mapping):
            yield from _walk(one, name)
        else:
            yield name, one


def _key(name: str) -> str:
    """Return a name of letters, digits, `_-. ` alone: in MLflow's file store a slash would make a folder."""
    plain = re.sub(r"[^A-Za-z0-9_\-. ]", "_", name.replace("@", "_at_").replace("/", "."))
    return ".".join(part for part in plain.split(".") if part.strip())[:MOST_KEY_CHARS] or "_"


def _text(name: str, value: Any) -> str:
    if is_secret_name(name.rpartition(".")[2]) and isinstance(value, str) and value:
        return "***"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"
