"""What the readers of composed-retrieval data sets share: files, pictures, queries, and the tables made of them.

Pictures that are listed and not there are left out and counted: hundreds of FashionIQ's links are dead.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import pyarrow as pa

from aistudio.catalogue.lines import Line, Lines
from aistudio.catalogue.table import Batch, Columns, Gathered, Reading, Reject, Rows, rejected_table, storable
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

BATCH_ROWS = 1000
NO_PICTURE = "missing picture"
NOT_TEXT = "the file name is not valid text"

QUERY_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),  # of the reference picture, in the gallery of its split
        pa.field("image_url", pa.string(), nullable=False),  # the same picture
        pa.field("text", pa.string(), nullable=False),  # the modification
        pa.field("complete_text", pa.string()),  # the target described whole; null where the data set has none
        pa.field("relevant", pa.list_(pa.string())),  # row ids; null where the split's answers are not published
        pa.field("category", pa.string()),
        pa.field("source_caption", pa.string()),
        pa.field("target_caption", pa.string()),  # every picture of this caption is relevant
    ]
)


class DatasetFiles(Protocol):
    """The files of a data set below its root, local or in a bucket. Paths are relative, with `/`."""

    root: str

    def paths(self, folder: str) -> list[str]:
        """Files below `folder` at any depth, sorted folder by folder; empty where there is no such folder."""

    def open(self, path: str) -> BinaryIO:
        """The file's bytes, at their start. Raises ManifestError."""

    def url(self, path: str) -> str:
        """The file's address in a manifest."""


class LocalFiles:
    """A data set in a folder of this machine."""

    def __init__(self, root: str | Path) -> None:
        """Raises ManifestError where `root` is no folder."""
        if not Path(root).is_dir():
            raise ManifestError(f"manifest.path: {root}: not a folder; expected the data set's root folder")
        self.root = str(Path(root).absolute())

    def paths(self, folder: str) -> list[str]:
        found: list[str] = []
        for place, folders, files in os.walk(Path(self.root) / folder):
            folders.sort()
            below = os.path.relpath(place, self.root).replace(os.sep, "/")
            found += (f"{below}/{name}" for name in files)
        return in_listing_order(found)

    def open(self, path: str) -> BinaryIO:
        try:
            return (Path(self.root) / path).open("rb")
        except OSError as e:
            raise ManifestError(f"{self.url(path)}: cannot be read: {e.strerror or e}") from None

    def url(self, path: str) -> str:
        return f"{self.root}/{path}"


def in_listing_order(paths: Iterable[str]) -> list[str]:
    """Paths as nested sorted listings give them, which is not their order as strings ("a b-c" comes after "a b")."""
    return sorted(paths, key=lambda path: path.split("/"))


def read_lines(files: DatasetFiles, path: str, encoding: str) -> Iterator[Line]:
    """Lines of one text file of at most a few ten MB; none of an empty one."""
    with files.open(path) as stream:
        data = stream.read()
    return iter(Lines(io.BytesIO(data), files.url(path), encoding)) if data.strip() else iter(())


class Picture(NamedTuple):
    """A picture of a data set; `kept` are the passthrough values, in the order of the format's columns."""

    row_id: str
    path: str
    item_id: str
    text: str
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """Pictures in the published order (listings sorted), and what was left out of them."""

    pictures: list[Picture]
    rejects: list[tuple[str, Reject]] = field(default_factory=list)  # file, line


class Query(NamedTuple):
    """A query of a data set: picture and text, and which pictures are right."""

    source: Picture
    text: str
    complete_text: str | None
    relevant: tuple[str, ...] | None
    category: str | None
    source_caption: str | None
    target_caption: str | None


@dataclass(frozen=True)
class Queries:
    """A query table (QUERY_SCHEMA), and how many queries were left out for which reason."""

    table: pa.Table
    left_out: dict[str, int]


class Pair(NamedTuple):
    """A training pair: two pictures by row id, and the text that leads from the first to the second."""

    source: str
    target: str
    text: str
    target_caption: str | None
    complete_text: str | None


def gallery_batches(listing: Listing, files: DatasetFiles, columns: Columns, names: Sequence[str]) -> Iterator[Batch]:
    """The listing as batches of a manifest; `names`: the format's own columns, as `Picture.kept` has them."""
    kept = [names.index(name) for name, _ in columns.passthrough]
    rows = Gathered(files.root, "")
    for number, p in enumerate(listing.pictures, 1):
        row = (p.row_id, p.item_id, files.url(p.path), None, p.text, None, *(p.kept[i] for i in kept))
        rows.add(Rows(number, [row]))
        if len(rows.rows) == BATCH_ROWS:
            yield _batch(rows, rejected_table([], files.root), columns)
            rows = Gathered(files.root, "")
    refused: dict[str, list[Reject]] = {}
    for file, reject in listing.rejects:
        refused.setdefault(file, []).append(reject)
    tables = [rejected_table(rejects, files.url(file)) for file, rejects in refused.items()]
    rejected = pa.concat_tables(tables) if tables else rejected_table([], files.root)
    if rows.rows or len(rejected):
        yield _batch(rows, rejected, columns)


def _batch(rows: Gathered, rejected: pa.Table, columns: Columns) -> Batch:
    num, refused = len(rows.rows), len(rejected)
    return Batch(rows.table(columns.schema), rejected, Reading(num + refused, num, refused))


def query_table(queries: Sequence[Query], files: DatasetFiles, left_out: dict[str, int]) -> Queries:
    """Queries as a table; query ids count from 0 in the published order."""
    width = len(str(max(len(queries) - 1, 0)))
    columns = {
        "query_id": [f"q{i:0{width}d}" for i in range(len(queries))],
        "row_id": [q.source.row_id for q in queries],
        "image_url": [files.url(q.source.path) for q in queries],
        "text": [storable(q.text) for q in queries],
        "complete_text": [q.complete_text for q in queries],
        "relevant": [q.relevant for q in queries],
        "category": [q.category for q in queries],
        "source_caption": [q.source_caption for q in queries],
        "target_caption": [q.target_caption for q in queries],
    }
    return Queries(pa.table(columns, schema=QUERY_SCHEMA), left_out)


def dataset_columns(settings: ManifestSettings, names: Sequence[str]) -> Columns:
    """The columns of a data set's manifest. Raises ManifestError where the settings ask for others."""
    if settings.columns:
        raise ManifestError(f"manifest.columns: format {settings.format} fills them itself; found {settings.columns}")
    kept = list(names) if settings.passthrough == "all" else settings.passthrough
    unknown = [name for name in kept if name not in names]
    if unknown:
        raise ManifestError(
            f"manifest.passthrough names {unknown[0]!r}, which format {settings.format} does not have; "
            f"columns found: {', '.join(names)}"
        )
    return Columns(tuple(names), {}, tuple((name, pa.field(name, pa.string())) for name in kept))


def by_caption(pictures: Iterable[Picture]) -> dict[str, list[Picture]]:
    """Pictures of each caption (`text`), in order."""
    found: dict[str, list[Picture]] = {}
    for picture in pictures:
        found.setdefault(picture.text, []).append(picture)
    return found


def choose(settings: ManifestSettings, splits: Sequence[str], categories: Sequence[str]) -> tuple[str, list[str]]:
    """Split and categories of the settings; `splits[0]` and all categories where they are not set.

    Raises:
        ManifestError: one that the format does not have.
    """
    split, wanted = settings.split or splits[0], settings.categories or list(categories)
    if split not in splits:
        raise ManifestError(f"manifest.split: {settings.format} has no split {split!r}; known: {', '.join(splits)}")
    unknown = [name for name in wanted if name not in categories]
    if unknown or (settings.categories is not None and not settings.categories):
        known = ", ".join(categories) or "none"
        raise ManifestError(f"manifest.categories: {settings.format} has no {unknown or 'empty list'}; known: {known}")
    return split, [name for name in categories if name in wanted]


def require_pictures(pictures: Sequence[Picture], files: DatasetFiles, expected: str) -> None:
    """Raises ManifestError where not one picture was found: then it is the layout that is wrong."""
    if not pictures:
        raise ManifestError(f"manifest.path: {files.root}: no picture of this split and these categories; {expected}")
