"""What a shard takes over from the base run: its rows there are looked up, checked and brought into this run's form.

A row of the base counts only as far as it proves itself: it went well, it has the very address, its vectors are whole.
What cannot be read is as good as not there, for its rows can be had from the network; it is said.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.config import StoreSettings, Trust
from aistudio.errors import StoreError
from aistudio.images.validators import entity_tag, http_date
from aistudio.runs import layout
from aistudio.runs.delta_join import base_scores, matches_of
from aistudio.runs.reuse import Reuse
from aistudio.schema import Crop, Status, has_text, vector_matrix
from aistudio.scoring.image_source import ImageRow, storable_row
from aistudio.storable import error_text
from aistudio.store import Store, open_store

_ADDRESS = ("image_url", "fallback_url")
_TEXTS = ("text", "poi_names")
_OUTCOME = ("http_status", "num_bytes", "final_url", "width", "height", "content_hash", "thumbnail")
_KEPT = 3  # files of the base that a worker holds: a shard's neighbours need the same ones


class Delta(NamedTuple):
    """What every worker of a run knows of its base; picklable."""

    base: str
    store: StoreSettings
    fingerprint: str  # of the base
    reuse: Reuse
    trust: Trust
    firsts: tuple[str, ...]  # first shard of each group of the join
    dims: dict[str, int]  # width of each column of `reuse.vectors`
    text_dim: int
    crops: dict[str, int]  # column of boxes -> pixel format
    num_formats: int
    max_bytes: int


class Known(NamedTuple):
    """What the base knows of a shard."""

    columns: tuple[str, ...] = ()  # of ImageRow.vectors, in their order
    images: Mapping[int, ImageRow] = {}  # by number of the distinct image: as it is if it has not changed
    texts: Mapping[str, np.ndarray] = {}  # vectors (D,) float32
    recall: Mapping[int, float | None] = {}  # scores by row, where stored vectors are rounded and cannot give them
    rank: Mapping[int, float | None] = {}  # likewise, of rows whose text and POI names are the same


NOTHING_KNOWN = Known()


class BaseRows:
    """Looks up the base's rows for one worker, shard by shard. Its calls may come from several threads."""

    def __init__(self, run: Store, delta: Delta, tell: Callable[[str], None]) -> None:
        """`tell`: called with a message where a part of the base cannot be read."""
        self._run, self._delta, self._tell = run, delta, tell
        self._base = open_store(delta.base, delta.store)
        self._rows = lru_cache(_KEPT)(self._read_rows)
        self._text_vectors = lru_cache(_KEPT)(self._read_texts)

    def of_shard(self, shard: str, rows: pa.Table, of_row: np.ndarray) -> Known:
        """Return what the base knows of a shard.

        Args:
            rows: its candidate rows, all of them.
            of_row: number of the distinct image of each row.
        """
        try:
            matches = matches_of(self._run, self._delta.firsts, shard).to_pylist()
        except StoreError as e:
            self._tell(str(e))
            return NOTHING_KNOWN
        by_file = defaultdict(list)
        for match in matches:
            by_file[match["base_shard"]].append(match)
        found = _Found(self._delta.reuse, {n: rows[n].to_pylist() for n in (*_ADDRESS, *_TEXTS)}, of_row)
        for name, wanted in by_file.items():
            if self._delta.reuse.texts:
                self._guarded(found.take_texts, self._text_vectors, name, wanted)
            if self._delta.reuse.vectors:
                self._guarded(found.take_rows, self._rows, name, wanted)
        return found.known()

    def _guarded(
        self, take: Callable[[Any, Any], None], read: Callable[[str], Any], name: str, matches: list[dict[str, Any]]
    ) -> None:
        try:
            take(matches, read(name))
        except Exception as e:  # noqa: BLE001 - whatever a file of the base holds: its rows can be had from their hosts
            self._tell(f"{name}: {error_text(e)}")

    def _read_rows(self, name: str) -> "_BaseFile":
        reuse = self._delta.reuse
        scores = ("status", *_OUTCOME, "etag", "last_modified", "recall_score", "rank_score")
        wanted = dict.fromkeys([*_ADDRESS, *_TEXTS, *scores, *reuse.vectors.values(), *reuse.crops.values()])
        return _BaseFile(base_scores(self._base, name, self._delta.fingerprint, list(wanted)), self._delta)

    def _read_texts(self, name: str) -> dict[str, np.ndarray]:
        key = layout.texts_key(name)
        table = self._base.read_table(key)
        try:
            vectors, texts = vector_matrix(table["embedding"]), table["text"].to_pylist()
        except (ValueError, KeyError) as e:
            raise StoreError(f"{self._base.path(key)}: no text vectors: {e}") from None
        if vectors.shape != (len(texts), self._delta.text_dim) or vectors.dtype != np.float32:
            return {}
        return {t: v for t, v in zip(texts, vectors, strict=True) if np.isfinite(v).all()}


class _Found:
    """Collects what the base's files say of one shard."""

    def __init__(self, reuse: Reuse, ours: dict[str, list[str | None]], of_row: np.ndarray) -> None:
        self._reuse, self._ours, self._of_row = reuse, ours, of_row
        self._distinct_texts = {text for text in ours["text"] if text is not None}
        self._images: dict[int, ImageRow] = {}
        self._texts: dict[str, np.ndarray] = {}
        self._stored: dict[int, tuple[float | None, float | None]] = {}  # scores of rows that are the same in all

    def take_texts(self, _: Sequence[dict[str, Any]], vectors: Mapping[str, np.ndarray]) -> None:
        self._texts.update((text, vectors[text]) for text in self._distinct_texts if text in vectors)

    def take_rows(self, matches: Sequence[dict[str, Any]], file: "_BaseFile") -> None:
        for match in matches:
            row, there = match["row"], match["base_row"]
            if not file.is_same(there, {name: self._ours[name][row] for name in _ADDRESS}):
                continue
            number = int(self._of_row[row])
            if number not in self._images:
                image = file.image(there, number)
                if image is None:
                    continue
                self._images[number] = image
            if match["same_text"] and file.is_same(there, {name: self._ours[name][row] for name in _TEXTS}):
                self._stored[row] = file.score("recall_score", there), file.score("rank_score", there)

    def known(self) -> Known:
        reuse, images = self._reuse, self._images
        if not reuse.exact:  # what is rounded gives no scores: each row of the image must have its own in the base
            lacking = {int(n) for row, n in enumerate(self._of_row) if not self._is_settled(row)}
            images = {number: image for number, image in images.items() if number not in lacking}
        recall = {row: scores[0] for row, scores in self._stored.items()} if not reuse.exact else {}
        rank = {row: scores[1] for row, scores in self._stored.items()} if reuse.rank_score else {}
        return Known(tuple(reuse.vectors), images, self._texts, recall, rank)

    def _is_settled(self, row: int) -> bool:
        """Whether the base has every score that the row must have."""
        recall, rank = self._stored.get(row, (None, None))
        textless = not has_text(pa.array([self._ours["text"][row]], pa.string()))[0].as_py()
        has_recall = recall is not None or textless or not self._reuse.recall_score
        return row in self._stored and has_recall and (rank is not None or not self._reuse.rank_score)


class _BaseFile:
    """Rows of one score file of the base."""

    def __init__(self, table: pa.Table, delta: Delta) -> None:
        self._delta, self._num_rows = delta, table.num_rows
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        self._vectors = [
            _Vectors(columns[stored], delta.dims[name]) if stored in columns else None
            for name, stored in delta.reuse.vectors.items()
        ]
        self._columns = {n: c for n, c in columns.items() if n not in delta.reuse.vectors.values()}

    def value(self, column: str, row: int) -> Any:
        """Return a row's value; None where there is no such column."""
        values = self._columns.get(column)
        return None if values is None else values[row].as_py()

    def score(self, column: str, row: int) -> float | None:
        """Return a row's score; None where there is none that is finite."""
        value = self.value(column, row)
        return value if isinstance(value, float) and math.isfinite(value) else None

    def is_same(self, row: int, values: Mapping[str, str | None]) -> bool:
        """Whether there is such a row, with these values."""
        return 0 <= row < self._num_rows and all(self.value(name, row) == value for name, value in values.items())

    def image(self, row: int, number: int) -> ImageRow | None:
        """Return a row's picture as this run stores it; None where it is not whole, or would not be taken now."""
        if self.value("status", row) != Status.OK or not self.value("content_hash", row):
            return None
        if (self.value("num_bytes", row) or 0) > self._delta.max_bytes:
            return None
        vectors = [column.of(row) if column is not None else None for column in self._vectors]
        crops = self._crops(row)
        if crops is None or any(v is None for v in vectors):
            return None
        return storable_row(
            ImageRow(
                number,
                Status.OK,
                crops=crops,
                vectors=tuple(v for v in vectors if v is not None),
                etag=entity_tag(self.value("etag", row)),
                last_modified=http_date(self.value("last_modified", row)),
                **{name: self.value(name, row) for name in _OUTCOME},
            )
        )

    def _crops(self, row: int) -> tuple[Crop | None, ...] | None:
        """The boxes, one for each pixel format; None where one is missing."""
        boxes: list[Crop | None] = [None] * self._delta.num_formats
        for column, number in self._delta.crops.items():
            box = self.value(self._delta.reuse.crops.get(column, ""), row)
            if not isinstance(box, dict) or set(box) != set(Crop._fields):
                return None
            boxes[number] = Crop(**box)
        return tuple(boxes)


class _Vectors:
    """A column of vectors, by row."""

    def __init__(self, column: pa.Array, dim: int) -> None:
        try:
            self._matrix = vector_matrix(column)
        except ValueError:  # several widths, say: none of it is to be trusted
            self._matrix = np.zeros((0, 0), np.float32)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        whole = self._matrix.shape == (int(valid.sum()), dim)
        self._place = np.where(valid & whole, np.cumsum(valid) - 1, -1)

    def of(self, row: int) -> np.ndarray | None:
        """Return the row's vector (D,) as float32; None where there is none that is finite."""
        if self._place[row] < 0:
            return None
        vector = self._matrix[self._place[row]].astype(np.float32)
        return vector if np.isfinite(vector).all() else None
