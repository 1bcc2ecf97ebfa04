"""Archives of pictures as manifests: WebDataset tars and zips, a sample's pictures, texts and JSON beside each other.

Columns: `key` (the members' common name), `folder`, `file` (the picture's name), a column for each ending of texts
(`txt`) and for each field of the JSON objects that the first samples have. Every picture becomes a row, whose address
says where in the archive its bytes lie (parts.py).
"""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple

from aistudio.catalogue.archives import Archive, Damage, Member, Sample, samples_gathered, samples_in_order
from aistudio.catalogue.columns import resolve
from aistudio.catalogue.folder import IMAGE_SUFFIXES
from aistudio.catalogue.inline import place_of_parts, refuse_compressed
from aistudio.catalogue.jsonl import TOO_DEEP, candidate_row, parse_object
from aistudio.catalogue.lines import Line
from aistudio.catalogue.table import Batch, Columns, Gathered, Reading, Reject, Rows, rejected_table
from aistudio.catalogue.tar import Tar
from aistudio.catalogue.zip import Zip
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.parts import Part, part_address

HEAD_SAMPLES = 200  # looked at for the columns
OWN = ("key", "folder", "file")
TEXTS = ("txt", "text", "caption", "title", "label", "cls", "class", "id", "transcript")  # endings
JSONS = ("json", "jsn")
MAX_TEXT_BYTES = 1_000_000  # of a text or JSON object
_PICTURES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)
_DEFAULT_TEXTS = ("text", "txt", "caption", "title")  # the first that is there


class _Kind(NamedTuple):
    """What one kind of archive has of its own."""

    opened: Callable[[BinaryIO], Archive]
    samples: Callable[[Any], Iterator[Sample | Damage]]
    part: Literal["tar", "zip"]
    item_id: str  # column that stands for it where nothing is mapped


class _Parts(NamedTuple):
    """How the pictures of an archive are addressed."""

    kind: Literal["tar", "zip"]
    place: str


_KINDS = {
    "webdataset": _Kind(Tar, samples_in_order, "tar", "key"),
    "zip": _Kind(Zip, samples_gathered, "zip", "folder"),
}


def inspect_archive(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the first HEAD_SAMPLES samples.

    Raises:
        ManifestError: no picture among them, or a column is missing.
    """
    refuse_compressed(file)
    kind = _KINDS[settings.format]
    archive = kind.opened(stream)
    endings: dict[str, None] = {}
    fields: dict[str, None] = {}
    problem = "it is empty"
    for sample in islice(kind.samples(archive.members()), HEAD_SAMPLES):
        if isinstance(sample, Damage):
            problem = sample.reason
            continue
        endings.update(dict.fromkeys(sample.members))
        found = _values(sample, archive)
        fields.update(dict.fromkeys(found) if isinstance(found, dict) else {})
    pictures = [ending for ending in endings if _is_picture(ending)]
    if not pictures:
        among = f"; endings found: {', '.join(list(endings)[:20])}" if endings else ""
        raise ManifestError(f"{file}: no picture among the first {HEAD_SAMPLES} samples ({problem}){among}")
    names = list(dict.fromkeys([*OWN, *(e for e in endings if e in TEXTS), *fields]))
    return _columns(names, pictures, kind.item_id, settings, file)


def _columns(names: list[str], pictures: list[str], item_id: str, settings: ManifestSettings, file: str) -> Columns:
    """The mapping; pictures are columns only for who maps image_url to them."""
    chosen = "image_url" in settings.columns
    found = [*names, *(p for p in pictures if p not in names)] if chosen else names
    defaults: dict[str, str] = {n: n for n in ("item_id", "fallback_url", "poi_names") if n in names}
    defaults.setdefault("item_id", item_id)
    if text := next((t for t in _DEFAULT_TEXTS if t in names), None):
        defaults["text"] = text
    if settings.image_separator:
        raise ManifestError(f"{file}: manifest.image_separator has no meaning in format {settings.format}")
    columns = resolve(found, {}, settings, file, defaults=defaults, fixed=() if chosen else ("image_url",))
    wanted = columns.images or ((columns.mapping["image_url"],) if chosen else ())
    if wrong := [name for name in wanted if name not in pictures]:
        raise ManifestError(f"{file}: manifest.columns.image_url: {wrong[0]!r} is no ending of a picture here")
    kept = tuple((name, field) for name, field in columns.passthrough if name in names)
    mapping = columns.mapping | {"image_url": wanted[0] if wanted else "file"}
    return dataclasses.replace(columns, mapping=mapping, passthrough=kept, images=tuple(wanted))


def read_archive(
    stream: BinaryIO,
    file: str,
    settings: ManifestSettings,
    columns: Columns,
    batch_rows: int,
    id_prefix: str,
    place: str | None,
) -> Iterator[Batch]:
    """Rows of an archive. A sample without a picture, or one that is damaged, is rejected; its number counts.

    What is wrong with the archive as a whole (it ends early, say) is one rejected line after the last whole sample.
    """
    kind = _KINDS[settings.format]
    parts = _Parts(kind.part, place_of_parts(file, place))
    archive = kind.opened(stream)
    rows, rejects, taken = Gathered(file, id_prefix), list[Reject](), 0
    for number, sample in enumerate(kind.samples(archive.members()), 1):
        try:
            event = _event(number, sample, archive, columns, parts, file)
        except RecursionError:  # parsed, but too deep to be written as text again
            event = Reject(number, "", TOO_DEEP)
        if isinstance(event, Reject):
            rejects.append(event)
        else:
            rows.add(event)
            taken += 1
        if len(rows.rows) >= batch_rows or len(rejects) >= batch_rows:
            yield _batch(rows, rejects, taken, columns)
            rows, rejects, taken = Gathered(file, id_prefix), [], 0
    if rows.rows or rejects:
        yield _batch(rows, rejects, taken, columns)


def _batch(rows: Gathered, rejects: list[Reject], taken: int, columns: Columns) -> Batch:
    reading = Reading(taken + len(rejects), taken, len(rejects))
    return Batch(rows.table(columns.schema), rejected_table(rejects, rows.file), reading)


def _event(
    number: int, sample: Sample | Damage, archive: Archive, columns: Columns, parts: _Parts, file: str
) -> Rows | Reject:
    if isinstance(sample, Damage):
        return Reject(number, "", sample.reason)
    raw = f"{sample.key}: {', '.join(sample.members)}"
    values = sample.problem or _values(sample, archive)
    if isinstance(values, str):
        return Reject(number, raw, values)
    pictures = _pictures(sample, columns)
    if not pictures:
        return Reject(number, raw, "no picture in the sample")
    listed = bool(columns.images[1:]) or len(pictures) > 1
    rows = []
    for position, member in pictures:
        url = part_address(parts.place, Part(parts.kind, member.name, member.at, member.num_bytes))
        row = _row(values, sample, member, file, url, columns)
        if isinstance(row, str):
            return Reject(number, raw, row)
        rows.append((row[0] and f"{row[0]}:{position}", *row[1:3], None, *row[4:]) if listed else row)
    return Rows(number, rows, [position for position, _ in pictures] if listed else ())


def _row(
    values: dict[str, Any], sample: Sample, member: Member, file: str, url: str, columns: Columns
) -> tuple[Any, ...] | str:
    folder = sample.folder or PurePosixPath(file).stem
    own = {"key": sample.key, "folder": folder, "file": member.name.rpartition("/")[2]}
    return candidate_row(values | own, columns, url)


def _pictures(sample: Sample, columns: Columns) -> list[tuple[int, Member]]:
    """The sample's pictures and their positions, from 1: those that are mapped, else all with a plain ending."""
    if columns.images:
        return [(i, sample.members[e]) for i, e in enumerate(columns.images, 1) if e in sample.members]
    return list(enumerate((m for ending, m in sample.members.items() if ending in _PICTURES), 1))


def _values(sample: Sample, archive: Archive) -> dict[str, Any] | str:
    """Texts and JSON fields of a sample, or why it has none that can be used."""
    values: dict[str, Any] = {}
    for ending, member in sample.members.items():
        if ending not in TEXTS and ending not in JSONS:
            continue
        try:
            text = archive.read(member, MAX_TEXT_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            return f"not decodable as utf-8: {ending}"
        except ValueError as e:
            return f"{ending} cannot be read: {e}"
        if ending in TEXTS:
            if "\0" in text:
                return f"holds NUL: {ending}"
            values[ending] = text.strip()
            continue
        found = parse_object(Line(0, text, None))
        if isinstance(found, str):
            return f"{ending}: {found}"
        values = found | values
    return values


def _is_picture(ending: str) -> bool:
    return ending.rpartition(".")[2] in _PICTURES
