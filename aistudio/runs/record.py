"""run.json: what a run was made from, and how its last attempt ended."""

import importlib.metadata
import os
import platform
import re
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aistudio.config import JobConfig, StoreSettings, parse_config
from aistudio.errors import ConfigError, RunMismatchError, StoreError
from aistudio.places import require_place
from aistudio.run_record import FORMAT_VERSION, Host, ModelFacts, RowTotals, RunRecord, Sources, State
from aistudio.runs import layout
from aistudio.runs.migrations import migrated
from aistudio.runs.shape import differences, fingerprint
from aistudio.secrets import HIDDEN, hidden_headers, redact, redacted
from aistudio.store import Store, open_store
from aistudio.version import version

if TYPE_CHECKING:
    from aistudio.runs.ledger import Ledger

_PACKAGES = (
    "ray",
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "pyarrow",
    "pillow",
    "opencv-python-headless",
)


def now() -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_run(store: Store) -> RunRecord | None:
    """Read run.json, of whatever earlier version; return None in a new folder.

    Raises:
        RunMismatchError: a later version wrote it.
        StoreError: it is damaged.
    """
    return _read(store) if store.exists(layout.RUN) else None


def recorded(store: Store) -> RunRecord:
    """Read run.json; an empty record where there is none. Raises as load_run."""
    return load_run(store) or RunRecord()


def write_run(store: Store, record: RunRecord, *, overwrite: bool = True) -> bool:
    """Write run.json; return False if it is there and must not be overwritten."""
    return store.write_json(layout.RUN, record.as_json(), overwrite=overwrite)


def _read(store: Store) -> RunRecord:
    place, data = store.path(layout.RUN), store.read_json(layout.RUN)
    if not isinstance(data, dict):
        raise StoreError(f"{place}: not the record of a run")
    try:
        return RunRecord.model_validate(migrated(data, place))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{place}: not the record of a run: {where}: {first['msg']}") from None


def refuse_other_run(record: RunRecord, shape: dict[str, Any], place: str) -> None:
    """Raises RunMismatchError naming every difference when the folder belongs to another run."""
    found = differences(record.shape, shape)
    if found:
        lines = "\n  ".join(found)
        raise RunMismatchError(
            f"{place} holds a run with other settings:\n  {lines}\n"
            "choose another output, or start over on this folder with --set start_over=true --yes"
        )


def open_record(store: Store, record: RunRecord, *, new: bool) -> None:
    """Write run.json at the start of an attempt.

    Args:
        new: the folder had no run.json; another run that was first is then refused like an older one.

    Raises:
        RunMismatchError: another run with other settings took the folder at the same moment.
    """
    if not write_run(store, record, overwrite=not new):
        refuse_other_run(_read(store), record.shape, store.root)
        write_run(store, record)


def new_record(config: JobConfig, shape: dict[str, Any], models: dict[str, ModelFacts], attempt: int) -> RunRecord:
    """Return the beginning of run.json; no secret is in it."""
    host = Host(
        name=socket.gethostname(),
        platform=platform.platform(),
        python=platform.python_version(),
        cpus=os.cpu_count(),
    )
    return RunRecord(
        format_version=FORMAT_VERSION,
        state="running",
        started_at=now(),
        command=_command(),
        config=without_secrets(config),
        shape=shape,
        fingerprint=fingerprint(shape),
        models=models,
        versions=_versions(),
        host=host,
        attempt=attempt,
    )


def finished(record: RunRecord, ledger: "Ledger", images_from: Sources) -> RunRecord:
    """Return the record as it is when every shard was scored, with what the ledger counted."""
    rows = RowTotals(manifest=ledger.num_manifest, rejected=ledger.num_rejected, stored=ledger.num_stored)
    if ledger.reading:
        rows = rows.model_copy(update={"read": dict(ledger.reading)})
    tower = {"image_tower": record.facts.get("image_tower")}
    models = {
        role: model if "image_tower" in model.model_fields_set else model.model_copy(update=tower)
        for role, model in record.models.items()
    }
    state: State = "complete" if ledger.complete else "incomplete"
    return record.model_copy(
        update={
            "state": state, "finished_at": now(), "rows": rows, "counts": ledger.counts, "sources": images_from,
            "crops": {column: dict(methods) for column, methods in ledger.crops.items()},
            "reused": dict(ledger.reused),
            "models": models,
        }
    )  # fmt: skip


def failed(record: RunRecord, error: str | None) -> RunRecord:
    """Return the record of an attempt that ended early: by an error, or, without one, because it was stopped."""
    state: State = "stopped" if error is None else "failed"
    return record.model_copy(update={"state": state, "error": error, "finished_at": now()})


def without_secrets(config: JobConfig) -> dict[str, Any]:
    """The merged configuration as plain data; secret-looking headers and credentials in URLs are replaced by `***`."""
    data: dict[str, Any] = redacted(config.model_dump(mode="json"))
    data["download"]["headers"] = hidden_headers(data["download"]["headers"])
    return data


def _command() -> tuple[str, ...]:
    """Return the command line, header values and credentials in URLs left out."""
    hidden = [re.sub(r"^(.*download\.headers[^=]*)=.*", r"\1=***", a, flags=re.DOTALL) for a in sys.argv[1:]]
    return tuple(redact(a) for a in (Path(sys.argv[0]).name, *hidden))


def _versions() -> dict[str, str]:
    found = {"aistudio": version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def opening_settings(overrides: Sequence[str] = ()) -> StoreSettings:
    """Settings that open a place before anything is known of it: `--set store.…`. Raises ConfigError: a wrong one."""
    opening = [item for item in overrides if item.startswith("store.")]
    base = {"manifest": {"path": "-", "format": "csv"}, "output": "-", "models": {"recall": "-"}}
    return parse_config(base, "--set", opening).store


def stored_settings(run: str, overrides: Sequence[str] = ()) -> JobConfig:
    """The configuration that a run folder was made with, `output` being where it lies now.

    Args:
        run: local folder or s3:// prefix; `--set store.…` overrides are used to open it.

    Raises:
        ConfigError: no run there, or a wrong override.
    """
    run = require_place("--run", run)
    store = open_store(run, opening_settings(overrides))
    record = load_run(store)
    if record is None:
        raise ConfigError(f"{run}: no run.json there; is this a run folder?")
    return parse_config({**record.config, "output": run, "start_over": False}, f"{run}/run.json", overrides)


def settings_to_score_again(run: str, overrides: Sequence[str] = ()) -> JobConfig:
    """The configuration of a stored run, for fetching images with it once more.

    Raises:
        ConfigError: as stored_settings, or secret headers, which a run does not store, were not given again.
    """
    config = stored_settings(run, overrides)
    if hidden := [name for name, value in config.download.headers.items() if value == HIDDEN]:
        give = " ".join(f"--set 'download.headers.{name}=...'" for name in hidden)
        raise ConfigError(f"{run}: secret headers are not stored with a run; give them again: {give}")
    return config
