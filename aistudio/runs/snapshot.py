"""The manifest, normalised once into `<output>/manifest/`, cut into fixed shards: the work list of a run.

Files are grouped; each group is one Ray task that streams its files into shard files (shard_writer.py)
and its rejected lines into `rejected/`. Memory is a few batches per task, whatever the manifest's size.
`manifest/_index.json` is written last: a snapshot without it is made again, over itself, with the same
rows. A resumed run reads only the snapshot.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, SerializerFunctionWrapHandler, ValidationError, model_serializer

from aistudio.catalogue import (
    DATASET_FORMATS,
    Batch,
    Columns,
    find_duplicates,
    folder_candidates,
    inspect_folder,
    inspect_manifest,
    read_manifest,
)
from aistudio.config import JobConfig
from aistudio.errors import ManifestError
from aistudio.hub_files import in_hub, without_commit
from aistudio.run_record import DuplicateFacts
from aistudio.runs import layout
from aistudio.runs.address_order import DRAFT_ROWS
from aistudio.runs.dataset_files import dataset_batches, find_dataset
from aistudio.runs.manifest_files import (
    InputFile,
    content_sha256,
    is_web,
    list_images,
    list_inputs,
    open_input,
    refuse_if_grown,
)
from aistudio.runs.manifest_lance import inspect_lance, list_lance, read_lance
from aistudio.runs.manifest_sql import find_sql, read_sql
from aistudio.runs.picture_files import PictureFiles, Pictures
from aistudio.runs.shape import shaping
from aistudio.runs.shard_writer import Shard, ShardWriter
from aistudio.secrets import CREDENTIALS_HINT, redact, redact_credentials, redacted
from aistudio.store import Store, open_store

_HASHED_BYTES = 256 << 20  # a quarter of a second of sha256
# Formats whose manifest is a listing of pictures: what was listed stands for it.
LISTED_FORMATS = ("folder", *DATASET_FORMATS)
ONE_TASK_FORMATS = (*LISTED_FORMATS, "sql")  # read as a whole by one task
NOT_HASHED = (*ONE_TASK_FORMATS, "lance")  # what was found says of which content it is
# Formats whose columns are guessed from the first samples: other files of the manifest may hold others.
FIRST_FILE_DECIDES = ("webdataset", "zip")
_KEPT_AS = {"webdataset": "tar", "zip": "zip", "parquet": "parquet"}  # formats with pictures inside -> ending
_LOOKED_FILES = 10  # of those, for one that can be read
_BUCKET_ROWS = 5_000_000  # row ids looked at together when duplicates are searched: about 1 GB


class Snapshot(BaseModel):
    """What the snapshot's index holds."""

    shards: list[Shard]
    passthrough: list[tuple[str, str]]  # name, Arrow type
    num_rejected: int
    rejected_reasons: dict[str, int]
    identity: dict[str, Any]
    # What was read, catalogue.Reading as a mapping; empty in snapshots of earlier versions. With manifest.limit it goes
    # a little beyond the last stored row.
    reading: dict[str, Any] = {}
    duplicates: DuplicateFacts | None = None  # None: the rows stand in the manifest's order (engine.deduplicate)

    @property
    def num_rows(self) -> int:
        return sum(s.rows for s in self.shards)

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `duplicates` out where there are none: that was no key of earlier versions."""
        data: dict[str, Any] = dump(self)
        if self.duplicates is None:
            data.pop("duplicates", None)
        return data


def manifest_identity(config: JobConfig, files: list[InputFile]) -> dict[str, Any]:
    """Return the identity of a manifest in a run folder: its content and how it is read.

    The content is hashed up to _HASHED_BYTES; of a larger manifest, sizes and versions (mtime, ETag) stand for it.
    """
    if config.manifest.format not in NOT_HASHED and _hashable(files):
        listing = content_sha256(files, config.store, config.download)
    else:
        listing = listing_sha256(files)
    return {
        **manifest_settings(config),
        "num_files": len(files),
        "num_bytes": sum(max(f.size, 0) for f in files),
        "files_sha256": listing,
    }


def listing_sha256(files: list[InputFile], hide: Callable[[str], str] = redact) -> str:
    """One sha256 over path (what `hide` leaves of it), size and version of each file."""
    return hashlib.sha256(
        json.dumps([(hide(without_commit(f.path)), f.size, f.version) for f in files]).encode()
    ).hexdigest()


def _hashable(files: list[InputFile]) -> bool:
    if any(in_hub(f.path) or (is_web(f) and not f.sha256) for f in files):
        return False  # what the hub lists are checksums of the contents already; web archives were not fetched yet
    return sum(f.size for f in files) <= _HASHED_BYTES


def manifest_settings(config: JobConfig) -> dict[str, Any]:
    """The section `manifest` as a run's identity holds it: settings that came later are left out at their default."""
    return dict(redacted(shaping(config.manifest)))


def find_manifest(config: JobConfig) -> tuple[list[InputFile], Columns]:
    """The manifest's files and resolved columns, without reading them whole.

    Raises:
        ManifestError: nothing there, unreadable, or a needed column is missing.
    """
    if config.manifest.format == "folder":
        root, paths = list_images(config.manifest, config.store)
        return [_listed(root, paths)], inspect_folder(root, config.manifest)
    if config.manifest.format in DATASET_FORMATS:
        found, columns = find_dataset(config)
        return [found], columns
    if config.manifest.format == "sql":
        found, columns = find_sql(config.manifest)
        return [found], columns
    if config.manifest.format == "lance":
        files = list_lance(config.manifest, config.store)
        return files, inspect_lance(files[0], config.manifest, config.store)
    files = list_inputs(config.manifest, config.store, config.download)
    return files, _columns(config, files)


def _columns(config: JobConfig, files: list[InputFile]) -> Columns:
    """Columns by the first file; of archives, by the first one that can be read."""
    last = min(len(files), _LOOKED_FILES if config.manifest.format in FIRST_FILE_DECIDES else 1) - 1
    for number, file in enumerate(files):
        try:
            with open_input(file, config.store, config.download) as stream:
                return inspect_manifest(stream, file.shown, config.manifest)
        except ManifestError:
            if number >= last:
                raise
    raise AssertionError("unreachable: the last file gives columns or raises")


def _listed(root: str, paths: list[str]) -> InputFile:
    """Return the entry of a folder of images; its "size" is their number."""
    names = "\n".join(paths).encode("utf-8", "surrogateescape")
    return InputFile(root, len(paths), hashlib.sha256(names).hexdigest())


def load_snapshot(store: Store) -> Snapshot | None:
    """The finished snapshot of a run folder, or None. One whose index is damaged counts as none: it is made again."""
    if not store.exists(layout.MANIFEST_INDEX):
        return None
    data = store.read_bytes(layout.MANIFEST_INDEX)
    try:
        return Snapshot.model_validate_json(data)
    except ValidationError:
        return None


class NormaliseGroup:
    """One group of manifest files -> shard files, rejected lines, a summary row. Runs as a Ray task.

    With `engine.deduplicate: run` the shard files are a draft, which address_order.py makes the shards from.
    """

    def __init__(
        self, config: dict[str, Any], files: list[InputFile], columns: Columns, many: bool, num_actors: int
    ) -> None:
        self.config, self.files, self.columns, self.many = config, files, columns, many
        self.num_actors = num_actors

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        config = JobConfig.model_validate(self.config)
        group, first, last = (int(batch[k][0]) for k in ("group", "first", "last"))
        store = open_store(config.output, config.store)
        if config.engine.deduplicate == "run":
            writer = ShardWriter(store, f"{group:05d}", DRAFT_ROWS, 0, layout.draft_key)
        else:
            writer = ShardWriter(store, f"{group:05d}", config.engine.shard_rows, self.num_actors)
        pictures = PictureFiles(store, f"{group:05d}", config.download.max_bytes)
        for candidates in _limited(self._batches(config, (first, last), writer, pictures), config.manifest.limit):
            writer.add(candidates)
        writer.finish()
        pictures.finish()
        return {
            "shards": [json.dumps(writer.shards)],
            "num_bytes": [writer.num_bytes],
            "reasons": [json.dumps(writer.reasons)],
            "passthrough": [json.dumps(writer.passthrough)],
            "reading": [json.dumps(writer.reading)],
        }

    def _batches(
        self, config: JobConfig, group: tuple[int, int], writer: ShardWriter, pictures: PictureFiles
    ) -> Iterator[pa.Table]:
        for index in range(*group):
            for batch in read_input(config, self.files, index, self.columns, many=self.many, pictures=pictures):
                writer.reading = writer.reading.plus(batch.reading)
                writer.reject(without_passwords(batch.rejected))
                yield without_passwords(batch.candidates)


def copies_pictures(config: JobConfig, files: list[InputFile], columns: Columns) -> bool:
    """Whether the pictures lie in the manifest itself, where workers cannot read them: the run copies them."""
    inside = bool(columns.inline) or config.manifest.format in FIRST_FILE_DECIDES
    return inside and (config.manifest.format == "sql" or any(is_web(file) for file in files))


def read_input(
    config: JobConfig,
    files: list[InputFile],
    index: int,
    columns: Columns,
    *,
    many: bool,
    pictures: Pictures | None = None,
) -> Iterator[Batch]:
    """Rows of one of the manifest's files, or of the listing that stands for it.

    Args:
        files, columns: as `find_manifest` gave them.
        many: whether the manifest has several files: row ids then begin with the file's number.
        pictures: takes the pictures of a database.

    Raises:
        ManifestError: it cannot be read, or is another one than when it was found.
    """
    if config.manifest.format == "folder":
        root, paths = list_images(config.manifest, config.store)
        if _listed(root, paths) != files[0]:
            raise ManifestError(f"manifest.path: {root}: images came or went while the run was starting; try again")
        yield from folder_candidates(paths, root, config.manifest)
        return
    if config.manifest.format in DATASET_FORMATS:
        yield from dataset_batches(config, files[0])
        return
    if config.manifest.format == "sql":
        yield from read_sql(config.manifest, columns, pictures=pictures)
        return
    file = files[index]
    prefix = f"{index}-" if many else ""
    if config.manifest.format == "lance":
        own = columns if index == 0 else inspect_lance(file, config.manifest, config.store)
        own = replace(own, inline=columns.inline)
        yield from read_lance(file, config.manifest, own, config.store, id_prefix=prefix)
        return
    with open_input(file, config.store, config.download) as stream:
        first = index == 0 or config.manifest.format in FIRST_FILE_DECIDES
        own = columns if first else inspect_manifest(stream, file.shown, config.manifest)
        own = replace(own, inline=columns.inline)  # which no other file decides again
        stream.seek(0)
        place = None
        if pictures is not None and copies_pictures(config, [file], own):
            place = pictures.keep(stream, _KEPT_AS[config.manifest.format])  # in parts it is read from there
            stream.seek(0)
        yield from read_manifest(stream, file.shown, config.manifest, own, id_prefix=prefix, place=place)
    refuse_if_grown(file)


def without_passwords(table: pa.Table) -> pa.Table:
    """The table with user and password of every URL in its text columns replaced by `***`: neither is stored."""
    for position, field in enumerate(table.schema):
        text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if text and pc.any(pc.match_substring_regex(table[field.name], CREDENTIALS_HINT)).as_py():
            clean = [None if v is None else redact_credentials(v) for v in table[field.name].to_pylist()]
            table = table.set_column(position, field, pa.array(clean, field.type))
    return table


def _limited(batches: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        yield batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


def refuse_duplicates(store: Store, snapshot: Snapshot) -> None:
    """Row ids taken from the manifest must be unique; buckets by hash bound the memory."""
    num_buckets = -(-snapshot.num_rows // _BUCKET_ROWS)
    for bucket in range(num_buckets):
        ids = (store.read_table(layout.manifest_key(s.name), ["row_id"])["row_id"] for s in snapshot.shards)
        twice = find_duplicates((chunk for column in ids for chunk in column.chunks), bucket, num_buckets)
        if twice:
            names = ", ".join(twice[:5])
            raise ManifestError(f"manifest: row_id must be unique; {len(twice)} occur more than once, such as {names}")
