"""Which manifest column becomes which candidate column, and which are kept beside them.

Knows names and types only; reads no data.
"""

import difflib
import fnmatch
import glob
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from aistudio.catalogue.table import Columns
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.schema import CANDIDATE_COLUMNS, RESERVED_COLUMNS, passthrough_name

REQUIRED = ("item_id", "image_url")
# row_id is missing on purpose: rows are numbered unless a column is mapped to it explicitly.
SAME_NAMES = {name: name for name in ("item_id", "image_url", "fallback_url", "text", "poi_names")}


def resolve(
    found: Sequence[str],
    types: Mapping[str, pa.DataType],
    settings: ManifestSettings,
    file: str,
    *,
    defaults: Mapping[str, str] = SAME_NAMES,
    fixed: Collection[str] = (),
    optional: Collection[str] = (),
) -> Columns:
    """The column mapping of a manifest.

    Args:
        found: the manifest's columns, in order.
        types: stored type of a passthrough column; string where not named.
        settings: `columns` overrides `defaults`, `passthrough` chooses what is kept.
        file: name used in messages.
        defaults: candidate column -> manifest column, used where the manifest has it.
        fixed: candidate columns that the format itself fills; they cannot be mapped.
        optional: candidate columns that need not be there, because the format has something to put in their place.

    Raises:
        ManifestError: a mapped, kept or required column is missing, or a name is not a candidate column.
    """
    _check_unique(found, file)
    mapping = {c: name for c, name in defaults.items() if name in found}
    images: tuple[str, ...] = ()
    for column, wanted in settings.columns.items():
        _check_known(column, settings, file, fixed)
        if column == "image_url":
            images = _image_columns(wanted, found, file)
            wanted = images[0] if images else wanted
        if not isinstance(wanted, str):
            raise ManifestError(f"{file}: manifest.columns.{column}: takes one column; only image_url takes several")
        if wanted not in found:
            raise ManifestError(
                f"{file}: manifest.columns maps {column} to {wanted!r}, which the file does not have; "
                f"columns found: {_listed(found)}{_hint(wanted, found)}"
            )
        mapping[column] = wanted
    if settings.image_separator and "image_url" in fixed:
        raise ManifestError(f"{file}: manifest.image_separator has no meaning in format {settings.format}")
    if images or settings.image_separator:
        _drop_fallback(mapping, settings, file)
    for column in REQUIRED:
        if column not in mapping and column not in fixed and column not in optional:
            raise ManifestError(
                f"{file}: no column for {column}; columns found: {_listed(found)}; mapping: {mapping or 'none'}; "
                f"expected a column {column!r} or manifest.columns: {{{column}: <its name>}}{_hint(column, found)}"
            )
    used = {*mapping.values(), *images}
    return Columns(tuple(found), mapping, _passthrough(found, types, used, settings, file), images)


def without_fallback(columns: Columns, settings: ManifestSettings, file: str) -> Columns:
    """Return the columns of a file whose image_url holds lists. Raises ManifestError as `resolve`."""
    mapping = dict(columns.mapping)
    _drop_fallback(mapping, settings, file)
    return replace(columns, mapping=mapping)


def _drop_fallback(mapping: dict[str, str], settings: ManifestSettings, file: str) -> None:
    """One fallback cannot stand for several images: none is used, and a mapped one is refused."""
    if "fallback_url" in settings.columns:
        raise ManifestError(
            f"{file}: manifest.columns.fallback_url: an item has several images here, and one address cannot stand in "
            "for each of them; leave it out"
        )
    mapping.pop("fallback_url", None)


def _check_known(column: str, settings: ManifestSettings, file: str, fixed: Collection[str]) -> None:
    if column in CANDIDATE_COLUMNS and column not in fixed:
        return
    known = [c for c in CANDIDATE_COLUMNS if c not in fixed]
    raise ManifestError(
        f"{file}: manifest.columns.{column} is not a column that can be mapped in format "
        f"{settings.format}; known: {', '.join(known)}{_hint(column, known)}"
    )


def _image_columns(wanted: str | list[str], found: Sequence[str], file: str) -> tuple[str, ...]:
    """The columns of an item's images in their order; () when `wanted` is one column's name."""
    if isinstance(wanted, str):
        if wanted in found or not glob.has_magic(wanted):
            return ()
        wanted = sorted((name for name in found if fnmatch.fnmatchcase(name, wanted)), key=_natural)
        if not wanted:
            raise ManifestError(f"{file}: manifest.columns.image_url: no column fits; columns found: {_listed(found)}")
        return tuple(wanted)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ManifestError(f"{file}: manifest.columns.image_url: expected columns, each once; found {wanted}")
    for name in wanted:
        if name not in found:
            raise ManifestError(
                f"{file}: manifest.columns maps image_url to {name!r}, which the file does not have; "
                f"columns found: {_listed(found)}{_hint(name, found)}"
            )
    return tuple(wanted)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts img_2 before img_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _passthrough(
    found: Sequence[str],
    types: Mapping[str, pa.DataType],
    used: Collection[str],
    settings: ManifestSettings,
    file: str,
) -> tuple[tuple[str, pa.Field], ...]:
    if settings.passthrough == "all":
        kept = [name for name in found if name not in used]
    else:
        kept = list(dict.fromkeys(settings.passthrough))
        missing = [name for name in kept if name not in found]
        if missing:
            raise ManifestError(
                f"{file}: manifest.passthrough names {missing[0]!r}, which the file does not have; "
                f"columns found: {_listed(found)}{_hint(missing[0], found)}"
            )
    stored = _stored_names(kept)
    return tuple((name, pa.field(stored[name], types.get(name, pa.string()))) for name in kept)


def _stored_names(kept: Iterable[str]) -> dict[str, str]:
    """Stored name of each passthrough column; a clash after renaming gets a number."""
    kept = list(kept)
    stored = {name: name for name in kept if passthrough_name(name) == name}  # unchanged names go first
    taken = {*stored, *RESERVED_COLUMNS}
    for name in kept:
        if name not in stored:
            base = new = passthrough_name(name)
            number = 2
            while new in taken:
                new, number = f"{base}_{number}", number + 1
            stored[name] = new
            taken.add(new)
    return stored


def _check_unique(found: Sequence[str], file: str) -> None:
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ManifestError(f"{file}: column {twice[0]!r} appears more than once; columns found: {_listed(found)}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:50]) or "none"
    return shown if len(names) <= 50 else f"{shown}, ... ({len(names)} in all)"


def _hint(name: str, known: Sequence[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""
