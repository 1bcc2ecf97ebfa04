"""What a shard takes over from the base run: its rows there are looked up, checked and brought into this run's form.

A row of the base counts only as far as it proves itself: it went well, it has the very address, its vectors are whole.
What cannot be read is as good as not there, for its rows can be had from the network; it is said. All is done by
columns (base_file.py, image_columns.py), for a row that is taken over should cost next to nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import StoreSettings, Trust
from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.delta_join import base_scores, matches_of
from aistudio.runs.reuse import Reuse
from aistudio.schema import has_text, vector_matrix
from aistudio.scoring.base_file import ADDRESS, OUTCOME, SCORES, TEXTS, BaseFile
from aistudio.scoring.image_columns import NO_IMAGES, ImageColumns, together
from aistudio.storable import error_text
from aistudio.store import Store, open_store

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

    columns: tuple[str, ...] = ()  # of the images' vectors, in their order
    images: ImageColumns = NO_IMAGES  # as they are if they have not changed
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
            matches = matches_of(self._run, self._delta.firsts, shard)
        except StoreError as e:
            self._tell(str(e))
            return NOTHING_KNOWN
        found = _Found(self._delta.reuse, rows, of_row)
        for name in pc.unique(matches["base_shard"]).to_pylist():
            wanted = matches.filter(pc.equal(matches["base_shard"], name))
            if self._delta.reuse.texts:
                self._guarded(found.take_texts, self._text_vectors, name, wanted)
            if self._delta.reuse.vectors:
                self._guarded(found.take_rows, self._rows, name, wanted)
        return found.known()

    def _guarded(
        self, take: Callable[[Any, Any], None], read: Callable[[str], Any], name: str, wanted: pa.Table
    ) -> None:
        try:
            take(wanted, read(name))
        except Exception as e:  # noqa: BLE001 - whatever a file of the base holds: its rows can be had from their hosts
            self._tell(f"{name}: {error_text(e)}")

    def _read_rows(self, name: str) -> BaseFile:
        reuse = self._delta.reuse
        wanted = dict.fromkeys([*ADDRESS, *TEXTS, *OUTCOME, *SCORES, *reuse.vectors.values(), *reuse.crops.values()])
        table = base_scores(self._base, name, self._delta.fingerprint, list(wanted))
        vectors = [(stored, self._delta.dims[column]) for column, stored in reuse.vectors.items()]
        boxes = [(reuse.crops.get(column, ""), number) for column, number in self._delta.crops.items()]
        return BaseFile(table, vectors, boxes, self._delta.num_formats, self._delta.max_bytes)

    def _read_texts(self, name: str) -> dict[str, np.ndarray]:
        key = layout.texts_key(name)
        table = self._base.read_table(key)
        try:
            vectors, texts = vector_matrix(table["embedding"]), table["text"].to_pylist()
        except (ValueError, KeyError) as e:
            raise StoreError(f"{self._base.path(key)}: no text vectors: {e}") from None
        if vectors.shape != (len(texts), self._delta.text_dim) or vectors.dtype != np.float32:
            return {}
        finite = np.isfinite(vectors).all(axis=1).tolist()
        return {t: v for t, v, fine in zip(texts, vectors, finite, strict=True) if fine}


class _Found:
    """Collects what the base's files say of one shard."""

    def __init__(self, reuse: Reuse, rows: pa.Table, of_row: np.ndarray) -> None:
        self._reuse, self._of_row = reuse, of_row
        self._ours = {name: rows[name].combine_chunks() for name in (*ADDRESS, *TEXTS)}
        self._distinct_texts = pc.unique(self._ours["text"]).to_pylist()
        self._has_image = np.zeros(int(of_row.max(initial=-1)) + 1, bool)  # by number
        self._images: list[ImageColumns] = []
        self._texts: dict[str, np.ndarray] = {}
        self._stored = np.zeros(len(of_row), bool)  # the row is the same in all, so its scores are these, NaN: none
        self._scores = {name: np.full(len(of_row), np.nan, np.float32) for name in SCORES}

    def take_texts(self, _: pa.Table, vectors: Mapping[str, np.ndarray]) -> None:
        self._texts.update((text, vectors[text]) for text in self._distinct_texts if text in vectors)

    def take_rows(self, matches: pa.Table, file: BaseFile) -> None:
        row, there = (matches[name].to_numpy().astype(np.int64) for name in ("row", "base_row"))
        same_text = matches["same_text"].to_numpy()
        usable = (row >= 0) & (row < len(self._of_row)) & (there >= 0) & (there < file.num_rows)
        usable[usable] = self._are_same(ADDRESS, file, row[usable], there[usable])
        row, there, same_text = row[usable], there[usable], same_text[usable]
        number = self._of_row[row]
        fresh = np.flatnonzero(file.whole[there] & ~self._has_image[number])
        numbers, first = np.unique(number[fresh], return_index=True)
        since = np.full(len(self._has_image), len(row))  # by number: the match from which on it has an image
        since[self._has_image] = -1
        since[numbers] = fresh[first]
        if len(numbers):
            self._images.append(file.images(there[fresh[first]], numbers))
            self._has_image[numbers] = True
        same = same_text & (since[number] <= np.arange(len(row)))
        same[same] = self._are_same(TEXTS, file, row[same], there[same])
        self._stored[row[same]] = True
        for name, scores in self._scores.items():
            scores[row[same]] = file.scores[name][there[same]]

    def _are_same(self, names: Sequence[str], file: BaseFile, row: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Whether rows are like those of the file that they were matched with: (N,) bool."""
        found = np.ones(len(row), bool)
        for name in names:
            ours, theirs = self._ours[name].take(pa.array(row)), file.texts[name].take(pa.array(there))
            equal = pc.fill_null(pc.equal(ours, theirs), False)
            none = pc.and_(pc.is_null(ours), pc.is_null(theirs))
            found &= pc.or_(equal, none).to_numpy(zero_copy_only=False)
        return found

    def known(self) -> Known:
        reuse, images = self._reuse, together(self._images)
        if not reuse.exact:  # what is rounded gives no scores: each row of the image must have its own in the base
            images = images.without(np.unique(self._of_row[~self._settled()]))
        recall = self._by_row("recall_score") if not reuse.exact else {}
        rank = self._by_row("rank_score") if reuse.rank_score else {}
        return Known(tuple(reuse.vectors), images, self._texts, recall, rank)

    def _settled(self) -> np.ndarray:
        """Whether the base has every score that a row must have: (rows,) bool."""
        recall, rank = (np.isfinite(self._scores[name]) for name in SCORES)
        textless = ~has_text(self._ours["text"]).to_numpy(zero_copy_only=False)
        has_recall = recall | textless | (not self._reuse.recall_score)
        return np.asarray(self._stored & has_recall & (rank | (not self._reuse.rank_score)))

    def _by_row(self, name: str) -> dict[int, float | None]:
        rows = np.flatnonzero(self._stored)
        scores = self._scores[name][rows].tolist()
        return {row: None if math.isnan(score) else score for row, score in zip(rows.tolist(), scores, strict=True)}
