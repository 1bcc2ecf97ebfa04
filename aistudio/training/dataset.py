"""Prepared training data: rows and arrays in a local folder, built once from a source, then read through memory maps.

rows-*.arrow    what people read: row_id, item_id, text, poi_names, image_url, label
thumbs-*.arrow  small pictures of the images, for the report
<number>-*.bin  numbers of each row (COLUMNS), vectors or pixels of each distinct image
index.json      written last: arrays with checksums, counts, what was left out and why

Memory while building is a chunk of rows and one hash per distinct image; while training, the pages that are touched.
"""

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from aistudio.errors import ConfigError, StoreError
from aistudio.training.arrays import ArrayInfo, ArrayReader, ArrayWriter
from aistudio.training.cache import INDEX, Cache
from aistudio.training.images import ImageMaker
from aistudio.training.sources import THUMBNAIL, Source

READABLE = ("row_id", "item_id", "text", "poi_names", "image_url", "label")
COLUMNS = {"item": "u8", "content": "u8", "pair": "u8", "side": "i1", "ctr": "f8", "image": "i8"}
CHUNK_ROWS = 512  # rows whose images are in memory at once
SIDES = {"a": 0, "b": 1}
NO_SIDE = -1
_HASH_KEY = "aistudio-train01"  # 16 characters, as pandas wants; part of every split

Keep = Callable[[NDArray[np.uint64]], NDArray[np.bool_]]


class DatasetIndex(BaseModel):
    """What index.json holds."""

    source: str
    arrays: dict[str, ArrayInfo]
    row_files: list[int]  # rows in each rows-*.arrow
    thumb_files: list[int] = []  # images in each thumbs-*.arrow
    num_read: int  # rows of the source that belong to this part of the split
    left_out: dict[str, int]  # reason -> rows
    content: str  # digest of all rows: another one is other data
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """What to build from a source; picklable settings and the things that make vectors or pixels."""

    source: Source
    keep: Keep  # rows by the hash of their item
    part: str  # name of `keep`, for the fingerprint
    images: ImageMaker | None  # None: vectors of the source, or, where it has none, no images at all
    thumbnails: bool = False  # keep them, for the report

    @property
    def fingerprint(self) -> str:
        """Name of the data set in the cache."""
        made = self.images.identity if self.images else f"vectors {self.source.vectors}"
        what = [self.source.identity, self.part, made, self.source.label, self.thumbnails]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def hashes(names: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """(N,) uint64, equal for equal texts in every run; null is a text of its own."""
    values = np.array([v if v is not None else "\0" for v in names.to_pylist()], object)
    return pd.util.hash_array(values, hash_key=_HASH_KEY, categorize=False) if len(values) else np.empty(0, np.uint64)


def share_of_items(share: float, validation: bool) -> Keep:
    """Return the split by item: a share of all item hashes is for validation, the rest for training."""
    bound = np.uint64(int(share * 2**64 - 1))
    return lambda items: (items < bound) if validation else (items >= bound)


def every_item(items: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Keep all rows."""
    return np.ones(len(items), bool)


class Dataset:
    """Opened data; rows are numbered 0 .. len - 1 in the source's order."""

    def __init__(self, folder: Path) -> None:
        """Open a finished folder. Raises StoreError when it is damaged."""
        self.folder = folder
        try:
            self.index = DatasetIndex.model_validate_json((folder / INDEX).read_bytes())
            self._tables = [_mapped(folder / _rows_name(n)) for n in range(len(self.index.row_files))]
            self._thumbs = [_mapped(folder / _thumbs_name(n)) for n in range(len(self.index.thumb_files))]
        except (OSError, ValueError, pa.ArrowException) as e:
            raise StoreError(f"{folder}: damaged training data ({e}); delete the folder, it is made again") from None
        self.arrays = {name: ArrayReader(folder, info) for name, info in self.index.arrays.items()}
        self._starts = np.cumsum([0, *self.index.row_files])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> NDArray[Any]:
        """Return one of COLUMNS whole: (N,), at most 8 bytes a row."""
        return self.arrays[name][np.arange(len(self))]

    def readable(self, rows: NDArray[np.int64] | list[int], column: str) -> list[Any]:
        """Return one of READABLE of some rows."""
        return _taken(self._tables, self._starts, column, np.asarray(rows, np.int64))

    def thumbnails(self, images: NDArray[np.int64] | list[int]) -> list[bytes | None]:
        """Return JPEG files of some images, None where there is none."""
        if not self._thumbs:
            return [None] * len(images)
        starts = np.cumsum([0, *self.index.thumb_files])
        return _taken(self._thumbs, starts, THUMBNAIL, np.asarray(images, np.int64))

    def codes(self, column: str) -> tuple[NDArray[np.int64], list[str]]:
        """Number the distinct values of a READABLE column: codes (N,) and the values, in order of appearance."""
        hashed = np.concatenate([hashes(t[column]) for t in self._tables]) if self._tables else np.empty(0, np.uint64)
        return self.distinct(hashed, column)

    def distinct(self, hashed: NDArray[np.uint64], column: str) -> tuple[NDArray[np.int64], list[str]]:
        """The same from hashes of the values."""
        _, first, codes = np.unique(hashed, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank[codes], self.readable(first[order], column)


def _taken(tables: list[pa.Table], starts: NDArray[np.int64], column: str, rows: NDArray[np.int64]) -> list[Any]:
    """Return the values of a column that is cut into tables, in the order of `rows`."""
    files = np.searchsorted(starts, rows, side="right") - 1
    out: list[Any] = [None] * len(rows)
    for number in np.unique(files).tolist():
        mine = np.flatnonzero(files == number)
        taken = tables[number][column].take(pa.array(rows[mine] - starts[number])).to_pylist()
        for place, value in zip(mine.tolist(), taken, strict=True):
            out[place] = value
    return out


def prepare(recipe: Recipe, cache: Cache, say: Callable[[str], None]) -> Dataset:
    """Open the recipe's data set, building it first if it is not there.

    Raises:
        StoreError: full disk, or a source that cannot be read.
        ConfigError: a column is missing, or the cache is too small.
    """
    while True:
        with cache.building(recipe.fingerprint) as folder:
            if folder is not None:
                say(f"preparing data for {recipe.part}, from {recipe.source.name}, in {folder}")
                _Builder(recipe, folder, cache, say).build()
        used = cache.use(recipe.fingerprint)
        if (used / INDEX).is_file():  # else another process made room between the two locks
            return Dataset(used)


class _Builder:
    def __init__(self, recipe: Recipe, folder: Path, cache: Cache, say: Callable[[str], None]) -> None:
        self._recipe, self._folder, self._cache, self._say = recipe, folder, cache, say
        self._writers = {n: ArrayWriter(folder, n, kind, ()) for n, kind in COLUMNS.items()}
        self._image_of: dict[int, tuple[int, int] | str] = {}  # hash of the request -> (image, content), or why not
        self._left_out: Counter[str] = Counter()
        self._row_files: list[int] = []
        self._thumb_files: list[int] = []
        self._content = hashlib.sha256()
        self._num_read = self._num_images = 0
        self._said = self._started = time.monotonic()

    def build(self) -> None:
        with self._recipe.images or contextlib.nullcontext() as images:
            for table in self._chunks():
                self._add(table, images)
        left_out = dict(self._left_out.most_common())
        index = DatasetIndex(
            source=self._recipe.source.name, arrays={n: w.info for n, w in self._writers.items()},
            row_files=self._row_files, thumb_files=self._thumb_files, num_read=self._num_read, left_out=left_out,
            content=self._content.hexdigest(), seconds=time.monotonic() - self._started,
        )  # fmt: skip
        _write(self._folder / INDEX, index.model_dump_json(indent=1).encode())

    def _chunks(self) -> Iterator[pa.Table]:
        for table in self._recipe.source.tables():
            for start in range(0, table.num_rows, CHUNK_ROWS):
                yield table.slice(start, CHUNK_ROWS)

    def _add(self, table: pa.Table, images: ImageMaker | None) -> None:
        items = hashes(table["item_id"])
        mine = self._recipe.keep(items)
        table, items = table.filter(pa.array(mine)), items[mine]
        self._num_read += table.num_rows
        problem: list[str | None] = table["problem"].to_pylist()
        if images is not None:
            place, content = self._fetched(table, images, problem)
        elif self._recipe.source.vectors is not None:
            place, content = self._vectors(table, problem)
        else:
            place, content = self._numbered(table)
        good = np.array([p is None for p in problem], bool)
        self._left_out.update(p for p in problem if p is not None)
        self._store(table.filter(pa.array(good)), items[good], place[good], content[good])
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            self._say(f"{self._num_read:,} rows read, {self._num_images:,} images kept")

    def _vectors(self, table: pa.Table, problem: list[str | None]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Append the vectors of a run's rows; a missing or broken vector is a problem of its row."""
        width = self._width(table["vector"])
        rows = np.zeros((table.num_rows, width), np.float32)
        for i, vector in enumerate(table["vector"]):
            if problem[i] is not None:
                continue
            if not vector.is_valid:
                problem[i] = "no vector is stored"
                continue
            values = vector.values.to_numpy(zero_copy_only=False)
            if len(values) != width:
                problem[i] = f"the stored vector is {len(values)} wide, others {width}"
            elif not np.isfinite(values).all():
                problem[i] = "the stored vector is not finite"
            else:
                rows[i] = values
        good = np.array([p is None for p in problem], bool)
        place = np.full(len(rows), -1, np.int64)
        place[good] = self._num_images + np.arange(good.sum())
        if good.any():
            self._append("vectors", rows[good])
        self._keep_thumbnails(table[THUMBNAIL].filter(pa.array(good)).to_pylist())
        return place, hashes(table["content_hash"])

    def _width(self, column: pa.ChunkedArray) -> int:
        """Return the width of the source's vectors: that of the first one. Raises ConfigError for other columns."""
        kind = column.type
        if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise ConfigError(f"{self._recipe.source.name}: column {self._recipe.source.vectors} is {kind}, no vectors")
        if "vectors" in self._writers:
            return self._writers["vectors"].info.row_shape[0]
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        return next((len(vector) for vector in column if vector.is_valid), 0)

    def _numbered(self, table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Number the distinct images without fetching them, for a dry run."""
        for url in table["image_url"].to_pylist():
            if hash(url) not in self._image_of:
                self._image_of[hash(url)] = (self._num_images, 0)
                self._num_images += 1
        place = [self._image_of[hash(url)][0] for url in table["image_url"].to_pylist()]
        return np.array(place, np.int64), hashes(table["content_hash"])

    def _fetched(
        self, table: pa.Table, images: ImageMaker, problem: list[str | None]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Fetch the images that are new, append what is made of them; a failed image is a problem of its rows."""
        requests = list(zip(table["image_url"].to_pylist(), table["fallback_url"].to_pylist(), strict=True))
        keys = [hash(request) for request in requests]
        new = (p is None and k not in self._image_of for k, p in zip(keys, problem, strict=True))
        wanted = {k: r for k, r, is_new in zip(keys, requests, new, strict=True) if is_new}
        made = images.make(list(wanted.values()))
        self._keep_thumbnails([image.thumbnail for image in made if image.problem is None])
        for key, image in zip(wanted, made, strict=True):
            if image.problem is not None:
                self._image_of[key] = image.problem
                continue
            self._image_of[key] = (self._num_images, int(hashes(pa.array([image.content_hash]))[0]))
            self._append(images.array, image.value[None])
        place, content = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.uint64)
        for i, key in enumerate(keys):
            known = self._image_of.get(key)
            if problem[i] is None and isinstance(known, tuple):
                place[i], content[i] = known
            elif problem[i] is None:
                problem[i] = str(known)
        return place, content

    def _keep_thumbnails(self, files: list[bytes | None]) -> None:
        if self._recipe.thumbnails and files:
            table = pa.table({THUMBNAIL: pa.array(files, pa.binary())})
            self._write_table(_thumbs_name(len(self._thumb_files)), table)
            self._thumb_files.append(len(files))

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        if name not in self._writers:
            self._writers[name] = ArrayWriter(self._folder, name, rows.dtype.str, rows.shape[1:])
        shards = len(self._writers[name].info.crc32)
        self._writers[name].append(rows)
        self._num_images += len(rows)
        if len(self._writers[name].info.crc32) > shards:
            self._cache.make_room(self._folder)

    def _store(
        self, table: pa.Table, items: NDArray[np.uint64], place: NDArray[np.int64], content: NDArray[np.uint64]
    ) -> None:
        if not table.num_rows:
            return
        sides = [SIDES.get((s or "").strip().lower(), NO_SIDE) for s in table["side"].to_pylist()]
        ctr = table["ctr"].to_numpy(zero_copy_only=False).astype(np.float64)
        pair = hashes(table["pair_id"])
        pair[table["pair_id"].combine_chunks().is_null().to_numpy(zero_copy_only=False)] = 0
        columns = {"item": items, "content": content, "pair": pair, "side": sides, "ctr": ctr, "image": place}
        for name, values in columns.items():
            self._writers[name].append(np.asarray(values, COLUMNS[name]))
        kept = table.select(list(READABLE))
        for name in READABLE[:4]:
            self._content.update(hashes(kept[name]).tobytes())
        self._content.update(content.tobytes() + ctr.tobytes() + pair.tobytes())
        self._write_table(_rows_name(len(self._row_files)), kept)
        self._row_files.append(kept.num_rows)

    def _write_table(self, name: str, table: pa.Table) -> None:
        path = self._folder / name
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        except OSError as e:
            raise StoreError(f"{path}: cannot be written: {e}; free space or set data.cache") from None


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _rows_name(number: int) -> str:
    return f"rows-{number:06d}.arrow"


def _thumbs_name(number: int) -> str:
    return f"thumbs-{number:06d}.arrow"


def _write(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as e:
        raise StoreError(f"{path}: cannot be written: {e.strerror or e}; free space or set data.cache") from None
