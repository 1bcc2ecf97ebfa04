"""Exports a run: writes, reads back, compares, then gives the result its name."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aistudio.errors import AIStudioError, ConfigError, StoreError
from aistudio.exports.bucket import new_objects, require_free
from aistudio.exports.checking import check
from aistudio.exports.format import Format, format_of
from aistudio.exports.overlap import K, Overlap, Sample
from aistudio.exports.place import ABOUT, new_folder, target_of
from aistudio.exports.source import Batch, Source, Tally, Wanted, source_of
from aistudio.places import in_bucket, require_place
from aistudio.runs.record import recorded
from aistudio.search.held import Range
from aistudio.secrets import redact
from aistudio.storable import error_text
from aistudio.store import Store, open_store
from aistudio.version import version

FORMAT_VERSION = 1
SAMPLE = 200  # rows that ask


@dataclass(frozen=True)
class Exported:
    """A finished export: its place, what export.json says, and a line of Python that opens it."""

    place: str  # a local folder or s3://, gs://, az://
    about: dict[str, Any]
    opened_by: str
    from_bucket: bool = True  # whether the line opens it where it lies


@dataclass(frozen=True)
class _Target:
    """Where an export goes; `folder` gives the empty local folder that becomes it, whole or not at all."""

    place: str
    folder: contextlib.AbstractContextManager[Path]


def export_run(
    store: Store, to: str, out: str, wanted: Wanted, *, overwrite: bool = False, sample: int = SAMPLE
) -> Exported:
    """Export the rows of a run to `out`, which is whole and checked afterwards, or as it was before.

    In a bucket, an error while files are sent leaves a place without export.json (bucket.py).

    Args:
        to: a name of FORMATS.
        out: a local folder, or a place in a bucket.
        overwrite: replace an export that is there.
        sample: rows that measure what shorter or int8 vectors lose.

    Raises:
        ConfigError: a format, place, column or length that is not possible; no row to export.
        StoreError: the run is damaged, the disk is full, or what was read back is not what the run holds.
    """
    form = format_of(to)
    if wanted.int8 and form.int8 is None:
        raise ConfigError(f"--int8: {to} has no vectors of one byte; export float32")
    target = _target(store, out, overwrite=overwrite)
    source = source_of(
        store, wanted, unit=form.unit, missing=form.missing, pictures=form.pictures,
        own_codes=form.int8 == "own",
    )  # fmt: skip
    reduced = wanted.int8 or wanted.truncate_dim is not None
    with target.folder as folder:
        tally, drawn = Tally(), Sample(sample if reduced else 0)
        try:
            facts = _written(form, source, folder, tally, drawn)
            overlap = None
            if reduced and drawn.stored_SD is not None and len(drawn.rows_S):
                overlap = Overlap(drawn.rows_S, drawn.stored_SD, source.dim)
            checked = check(form, source, folder, overlap)
        except (AIStudioError, OSError):
            raise
        except Exception as e:  # noqa: BLE001 - each library fails in its own way
            raise StoreError(f"--to {to}: {form.package or to}: {error_text(e)}") from None
        about = _about(form, source, wanted, tally, checked) | facts
        if overlap is not None:
            about["overlap"] = {"k": K, "value": overlap.value(), "queries": len(drawn.rows_S), "against": "float32"}
        open_store(str(folder)).write_json(ABOUT, about)
    remote = in_bucket(target.place)
    opened_by = form.opened_by.format(out=target.place if form.from_bucket or not remote else "FOLDER")
    return Exported(target.place, about, opened_by, form.from_bucket or not remote)


def _target(store: Store, out: str, *, overwrite: bool) -> _Target:
    """Raises ConfigError for a place that must not be written."""
    place = require_place("--out", out)
    if not in_bucket(place):
        target = target_of(place, out, store.root, overwrite=overwrite)
        return _Target(str(target), new_folder(target))
    objects = open_store(place, store.settings)
    require_free(objects, store.root, overwrite=overwrite)
    return _Target(objects.root, new_objects(objects, store.root, overwrite=overwrite))


def _written(form: Format, source: Source, folder: Path, tally: Tally, drawn: Sample) -> dict[str, Any]:
    """Write the rows. Raises ConfigError where none was there."""
    if not source.width:
        raise ConfigError(f"{source.store.root}: no row has a vector in {source.name}; nothing to export")
    trouble: list[AIStudioError] = []
    try:
        facts = form.write(source, drawn.watch(_remembered(source.batches(tally=tally), trouble)), folder)
    except Exception:
        if trouble:  # a library has put words of its own around it
            raise trouble[0] from None
        raise
    if not tally.rows:
        why = f"{tally.without_vector:,} rows have no vector" if tally.without_vector else "no row passes --where"
        raise ConfigError(f"nothing to export: {why}")
    return facts


def _remembered(batches: Iterator[Batch], trouble: list[AIStudioError]) -> Iterator[Batch]:
    try:
        yield from batches
    except AIStudioError as e:
        trouble.append(e)
        raise


def _about(form: Format, source: Source, wanted: Wanted, tally: Tally, checked: int) -> dict[str, Any]:
    record = recorded(source.store)
    role = {"embedding": "recall", "rank_embedding": "ranking"}.get(
        source.name, source.name.replace("embedding_", "encoders.", 1)
    )
    model = record.models.get(role)
    whole = source.vectors.normalised or form.unit or source.truncate_dim is not None
    return {
        "format": form.name, "format_version": FORMAT_VERSION, "aistudio": version(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": redact(source.store.root), "run_fingerprint": record.fingerprint,
        "model": {"role": role, "name": model.name, "fingerprint": model.fingerprint} if model else {"role": role},
        "rows": tally.rows, "rows_read_back": checked, "without_vector": tally.without_vector,
        "without_vector_are": "kept, with a null vector" if form.missing else "left out",
        "vectors": {
            "column": source.name, "dim": source.dim, "stored_dim": source.width,
            "dtype": "int8" if wanted.int8 else "float32", "unit_length": bool(whole),
        },
        "where": {c: [v.low, v.high] if isinstance(v, Range) else v for c, v in source.where.items()},
        "columns": ["row_id", *source.columns], "told_as_text": source.told_as_text,
    }  # fmt: skip
