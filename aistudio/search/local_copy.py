"""The local copy of a run's gallery that a Searcher maps into memory: exact vectors, their codes, and the columns.

    rows.f32          (N, D) unit rows, as a search of the stored run reads them
    codes.i8          (N, P), and step.f32, error.f32 (N,): index/int8.py
    ids.i64           (N,) places in the gallery, ascending
    order_<key>.i32   (N,) rows sorted by a key's text: row_id, item_id, content_hash
    columns.arrow     what is shown, filtered and compared; Arrow IPC file
    about.json        what it was made from; written last

A copy lies in a folder named after what it holds and is made whole or not at all. It is made anew when a score file
changes. Leaves out: searching (searcher.py).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import ConfigError, StoreError
from aistudio.index import int8
from aistudio.runs import layout
from aistudio.schema import is_vector_column
from aistudio.search.gallery import Vectors
from aistudio.search.naming import whole
from aistudio.search.searched import Searched, texts_of

VERSION = 1
KEYS = ("row_id", "item_id", "content_hash")
NOT_SHOWN = ("thumbnail",)
BLOCK_ROWS = 32_768
_ABOUT = "about.json"


@dataclass(frozen=True)
class Copy:
    """A copy, opened: `rows_ND` and `table` are memory-mapped, the rest is in memory."""

    folder: Path
    rows_ND: NDArray[np.float32]
    ids_N: NDArray[np.int64]
    order: dict[str, NDArray[np.int32]]
    table: pa.Table

    @property
    def disk_bytes(self) -> int:
        """Return the bytes that the copy takes on disk."""
        return folder_bytes(self.folder)

    @property
    def memory_bytes(self) -> int:
        """Return the bytes held in memory with the index, mapped files not counted."""
        return held_bytes(*self.rows_ND.shape)

    def codes(self) -> int8.Int8Rows:
        """Open the rows as bytes, memory-mapped, for an index may keep them in an order of its own in their place."""
        num, dim = self.rows_ND.shape
        with _readable(self.folder):
            # "c": torch takes no memory that cannot be written to
            codes = np.memmap(self.folder / "codes.i8", np.int8, "c", shape=(num, int8.padded(dim)))
            step, error = (np.fromfile(self.folder / name, np.float32, num) for name in ("step.f32", "error.f32"))
            if not len(step) == len(error) == num:
                raise ValueError("a file is too short")
            return int8.Int8Rows(codes, step, error)


def copies_folder(setting: str | None = None) -> Path:
    """Return the folder of all copies: the setting, else $AISTUDIO_CACHE/search, else ~/.cache/aistudio/search."""
    if setting:
        return Path(setting).expanduser()
    if root := os.environ.get("AISTUDIO_CACHE"):
        return Path(root).expanduser() / "search"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "aistudio" / "search"
    except RuntimeError:  # no HOME, and a user id without a name, as containers give
        return Path(tempfile.gettempdir(), f"aistudio-{os.getuid()}", "search")


def folder_bytes(folder: Path) -> int:
    """Return the sizes of a folder's files together."""
    return sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())


def shown_columns(stored: Sequence[str]) -> list[str]:
    """Return the stored columns that are texts, numbers and the like: neither vectors nor pictures."""
    return [c for c in stored if not is_vector_column(c) and c not in NOT_SHOWN]


def open_copy(gallery: Searched, columns: Sequence[str], num_rows: int, dim: int, root: Path) -> Copy:
    """Open the copy of a gallery, making it first where there is none of these files.

    Args:
        columns: kept beside the keys.
        num_rows: an upper bound, from which the room needed follows.

    Raises:
        ConfigError: no room on the disk. StoreError: a score file is damaged.
    """
    kept = list(dict.fromkeys([*KEYS, *columns]))
    facts = _facts(gallery, kept)
    folder = root / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    if not (folder / _ABOUT).is_file():
        _make(gallery, kept, folder, facts, copy_bytes(num_rows, dim))
    return _opened(folder)


def copy_bytes(num_rows: int, dim: int) -> int:
    """Return the bytes that the vectors of `num_rows` rows take in a copy; columns come on top."""
    return num_rows * (4 * dim + int8.padded(dim) + 8 + 8 + 4 * len(KEYS))


def held_bytes(num_rows: int, dim: int) -> int:
    """Return the bytes that `num_rows` rows take in memory: codes, steps, errors, ids and orders."""
    return num_rows * (int8.padded(dim) + 8 + 8 + 4 * len(KEYS))


def _facts(gallery: Searched, columns: Sequence[str]) -> dict[str, Any]:
    """Return the facts that decide whether a copy can be used again."""
    sizes = {e.key: (e.size, e.etag) for e in gallery.store.list(layout.SCORES)}
    files = []
    for _, key in gallery.files:
        changed = os.stat(gallery.store.path(key)).st_mtime_ns if gallery.store.is_local else 0  # noqa: PTH116
        files.append([key, *sizes.get(key, (0, "")), changed])
    where = [[column, values.to_pylist()] for column, values in gallery.where]
    return {
        "version": VERSION, "run": gallery.store.root, "vectors": gallery.vectors.name,
        "normalised": gallery.vectors.normalised, "columns": list(columns), "where": where, "files": files,
    }  # fmt: skip


def _make(gallery: Searched, columns: Sequence[str], folder: Path, facts: dict[str, Any], need: int) -> None:
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_older(root, facts)
    free = shutil.disk_usage(root).free
    if need > free:
        raise ConfigError(
            f"{root}: the local copy needs {need / 2**30:,.2f} GiB, {free / 2**30:,.2f} GiB are free: choose another "
            "folder with --set serve.cache=..., or fewer rows with --where"
        )
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
    try:
        num = _Writer(temporary, columns).write(gallery)
        (temporary / _ABOUT).write_text(json.dumps(facts | {"rows": num}), encoding="utf-8")
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / _ABOUT).is_file():  # else another process was first
                raise
    except OSError as e:
        raise StoreError(f"{root}: the local copy cannot be written: {e}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_older(root: Path, facts: dict[str, Any]) -> None:
    """Remove copies of the same selection that were made from other files; who has them open keeps them."""
    same = {name: facts[name] for name in ("run", "vectors", "columns", "where")}
    for about in root.glob(f"*/{_ABOUT}"):
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and all(found.get(name) == value for name, value in same.items()):
            shutil.rmtree(about.parent, ignore_errors=True)


class _Writer:
    """Writes the files of a copy, block by block."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.folder, self.columns = folder, list(columns)
        self.schema: pa.Schema | None = None
        self.orders: dict[str, list[pa.Array]] = {key: [] for key in KEYS}

    def write(self, gallery: Searched) -> int:
        """Write everything and return the number of rows."""
        num, dim, sink = 0, 0, None
        files = {name: (self.folder / name).open("wb") for name in
                 ("rows.f32", "codes.i8", "step.f32", "error.f32", "ids.i64")}  # fmt: skip
        try:
            for block in gallery.blocks(gallery.files, BLOCK_ROWS, self.columns):
                _write_vectors(files, block)
                batch = self._batch(block)
                if sink is None:
                    sink = pa.ipc.new_file(str(self.folder / "columns.arrow"), batch.schema)
                sink.write_batch(batch)
                num, dim = num + len(block.ids_N), block.rows_ND.shape[1]
        finally:
            for file in files.values():
                file.close()
            if sink is not None:
                sink.close()
        if sink is None:
            raise StoreError(f"{gallery.store.root}: no row has a vector of {gallery.vectors.name} and passes --where")
        self._write_orders(num)
        np.save(self.folder / "shape.npy", np.array([num, dim]))
        return num

    def _batch(self, block: Vectors) -> pa.RecordBatch:
        arrays = {c: _plain(block.values[c]) for c in self.columns}
        if self.schema is None:
            self.schema = pa.schema([pa.field(c, a.type) for c, a in arrays.items()])
        for key in KEYS:
            self.orders[key].append(texts_of(block.values[key]))
        try:
            return pa.record_batch([arrays[f.name].cast(f.type) for f in self.schema], schema=self.schema)
        except pa.ArrowException as e:
            raise StoreError(
                f"a column has another type in another score file: {e}; leave it out with --columns"
            ) from None

    def _write_orders(self, num: int) -> None:
        for key, parts in self.orders.items():
            order = pc.sort_indices(pa.chunked_array(parts, pa.string()))
            order.to_numpy().astype(np.int32).tofile(self.folder / f"order_{key}.i32")


def _write_vectors(files: Mapping[str, BinaryIO], block: Vectors) -> None:
    held = int8.quantised(block.rows_ND)
    arrays = (block.rows_ND, held.codes_NP, held.step_N, held.error_N, block.ids_N)
    for file, array in zip(files.values(), arrays, strict=True):
        file.write(np.ascontiguousarray(array).data)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _opened(folder: Path) -> Copy:
    with _readable(folder):
        num, dim = np.load(folder / "shape.npy").tolist()
        rows = np.memmap(folder / "rows.f32", np.float32, "r", shape=(num, dim))
        order = {key: np.fromfile(folder / f"order_{key}.i32", np.int32) for key in KEYS}
        table = pa.ipc.open_file(pa.memory_map(str(folder / "columns.arrow"))).read_all()
        return Copy(folder, rows, np.fromfile(folder / "ids.i64", np.int64), order, table)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as e:
        raise StoreError(f"{folder}: the local copy cannot be read ({e}); remove the folder to make it anew") from None


def whole_texts(column: pa.ChunkedArray) -> pa.Array:
    """Return a column's values as texts, in one array."""
    return whole(pa.chunked_array([texts_of(chunk) for chunk in column.chunks], pa.string()))


__all__ = ["KEYS", "Copy", "copies_folder", "copy_bytes", "held_bytes", "open_copy", "shown_columns"]
