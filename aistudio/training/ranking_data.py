"""What the ranking head looks at: pairs, their texts and POIs, as numbers of rows in arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.poi_table import BEST_IMAGES, MAX_POIS, PoiTable, build_table, kept_pois, query_text
from aistudio.training.arrays import ArrayReader, ArrayWriter
from aistudio.training.dataset import Dataset, hashes
from aistudio.training.pairs_data import PairRows

TEXTS_AT_ONCE = 4_096
ROWS_AT_ONCE = 8_192

EncodeTexts = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class RankingRows:
    """Pairs with the numbers of their images, texts and POIs; (P,) each."""

    pairs: PairRows
    image_a: NDArray[np.int64]
    image_b: NDArray[np.int64]
    text: NDArray[np.int64]  # number among `texts`
    poi: NDArray[np.int64]  # number among `poi_names`
    texts: list[str]  # distinct texts that stand for items
    poi_names: list[str]  # distinct comma-joined POI names
    label: NDArray[np.float32]  # 1 where a was clicked more often


def ranking_rows(data: Dataset, pairs: PairRows) -> RankingRows:
    """Number texts and POIs of pairs; both are those of the a side."""
    image, rows = data.column("image"), pairs.row_a
    text_hashes, poi_hashes = np.empty(len(rows), np.uint64), np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        texts, names = (data.readable(rows[part], column) for column in ("text", "poi_names"))
        text_hashes[part] = hashes(pa.array(_queries(texts, names), pa.string()))
        poi_hashes[part] = hashes(pa.array(names, pa.string()))
    text, first_text = _coded(text_hashes)
    poi, first_poi = _coded(poi_hashes)
    shown = [data.readable(rows[first_text], column) for column in ("text", "poi_names")]
    return RankingRows(
        pairs, image[rows], image[pairs.row_b], text, poi,
        _queries(shown[0], shown[1]), data.readable(rows[first_poi], "poi_names"),
        (pairs.ctr_a > pairs.ctr_b).astype(np.float32),
    )  # fmt: skip


def _queries(texts: list[str], names: list[str]) -> list[str]:
    return [query_text(name, text) for text, name in zip(texts, names, strict=True)]


def _coded(hashed: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number distinct values: codes (N,), and where each first stands."""
    _, first, codes = np.unique(hashed, return_index=True, return_inverse=True)
    return codes.astype(np.int64), first


def encoded(texts: Sequence[str], encode: EncodeTexts, dim: int, folder: Path) -> ArrayReader:
    """Encode texts into an array on disk: (T, dim) float32 however many there are."""
    writer = ArrayWriter(folder, "texts", "f4", (dim,))
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        writer.append(encode(texts[start : start + TEXTS_AT_ONCE]))
    return ArrayReader(folder, writer.info)


class PoiArrays:
    """A POI table as arrays: row 0 is "not known", all zeros."""

    def __init__(self, table: PoiTable, poi_names: Sequence[str]) -> None:
        """Number the POIs of each distinct string of names, as poi_table.item_pois chooses them."""
        known = sorted({*table.pictures, *table.names})
        number = {name: i for i, name in enumerate(known, 1)}
        self.pictures, self.names = np.zeros((2, len(known) + 1, table.dim), np.float32)
        for name, i in number.items():
            self.pictures[i], self.names[i] = table.pictures.get(name, 0.0), table.names.get(name, 0.0)
        self.index = np.zeros((len(poi_names), MAX_POIS), np.int64)
        self.count = np.zeros(len(poi_names), np.int64)
        for row, names in enumerate(poi_names):
            kept = kept_pois(names, table.counts)
            self.index[row, : len(kept)] = [number.get(name, 0) for name in kept]
            self.count[row] = len(kept)


@dataclass(frozen=True)
class PoiImages:
    """For each POI the images that show it best, by the towers that training began with."""

    images: dict[str, list[int]]  # numbers of images in the training data
    counts: dict[str, tuple[int, int, int]]


def choose_poi_images(data: Dataset, usable: NDArray[np.bool_], encode: EncodeTexts) -> PoiImages:
    """Choose the BEST_IMAGES images of each POI that a row names alone, by the cosine of image and name.

    Needs stored vectors; without them the first images count as best.
    """
    image, found = data.column("image"), dict[str, list[int]]()
    for start in range(0, len(data), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(data)))
        rows = rows[usable[rows]]
        for row, names in zip(rows.tolist(), data.readable(rows, "poi_names"), strict=True):
            if len(names.strip()) > 1 and "," not in names:
                found.setdefault(names.rstrip(), []).append(int(image[row]))
    distinct = {name: list(dict.fromkeys(mine)) for name, mine in found.items()}
    counts = {name: (len(mine), 0, 0) for name, mine in distinct.items()}
    vectors = data.arrays.get("vectors")
    if vectors is None:
        return PoiImages({name: mine[:BEST_IMAGES] for name, mine in distinct.items()}, counts)
    best = {}
    for name, mine in distinct.items():
        scores = vectors[mine] @ encode([name])[0]
        best[name] = [mine[i] for i in np.argsort(-scores, kind="stable")[:BEST_IMAGES]]
    return PoiImages(best, counts)


def poi_rows(chosen: PoiImages, vectors_of: Callable[[list[int]], np.ndarray], encode: EncodeTexts) -> pa.Table:
    """Make a POI table of the chosen images' vectors and the names' vectors."""
    names = [name for name, mine in chosen.images.items() for _ in mine]
    images = [i for mine in chosen.images.values() for i in mine]
    vectors = vectors_of(images)
    name_vectors = dict(zip(chosen.images, encode(list(chosen.images)), strict=True))
    return build_table(names, np.zeros(len(names)), vectors, name_vectors, chosen.counts)
