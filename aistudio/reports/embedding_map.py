"""The embedding map: a 2-D projection of image vectors, its colours, and pictures packed by place.

Thumbnails of 20,000 points would be 20,000 files; they are packed as base64 into scripts of neighbours
(Morton order), so that moving the pointer over one part of the map loads one or two packs.
"""

import base64
import itertools
import re
from typing import Any, Literal

import numpy as np

from aistudio.reports.cards import Tile
from aistudio.reports.safe import clip, script_data
from aistudio.values import NUMBER_TEXT

PACK_IMAGES = 100
_LEVELS = 10  # categories with a colour of their own; the rest is "other"
_BINS = 6  # colour steps of a numeric column
_TEXT_CHARS = 80


def pca_2d(vectors_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project on the two directions of most variance: float32 (N, 2) and the share of variance of each axis, (2,)."""
    points, shares = principal_axes(vectors_ND, 2)
    return points.astype(np.float32), shares


def principal_axes(vectors_ND: np.ndarray, num_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Project on the directions of most variance.

    Args:
        vectors_ND: float (N, D).

    Returns:
        float64 (N, num_axes) and the share of variance of each axis, (num_axes,). Zeros when N or the variance is 0,
        and for axes beyond D. An axis points to where its largest coefficient is positive, so the picture does not
        flip.
    """
    n, d = vectors_ND.shape
    points, shares = np.zeros((n, num_axes)), np.zeros(num_axes)
    if n == 0 or d == 0:
        return points, shares
    centred = vectors_ND.astype(np.float64) - vectors_ND.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :num_axes]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points[:, : axes.shape[1]] = centred @ axes
    shares[: axes.shape[1]] = values[::-1][:num_axes].clip(0) / max(values.sum(), 1e-30)
    return points, shares


def tsne_2d(vectors_ND: np.ndarray) -> np.ndarray:
    """Place near what is near among the 50 directions of most variance, by scikit-learn's t-SNE: float32 (N, 2).

    The same points come out of the same vectors on one machine. Below 4 points it is the PCA.
    """
    if len(vectors_ND) < 4:
        return pca_2d(vectors_ND)[0]
    from sklearn.manifold import TSNE  # takes a second to import
    from threadpoolctl import threadpool_limits

    axes = principal_axes(vectors_ND, min(50, vectors_ND.shape[1]))[0]
    spread = axes[:, :2].std()
    start = axes[:, :2] / (1e4 * spread) if spread > 0 else np.zeros((len(axes), 2))
    perplexity = min(30.0, (len(axes) - 1) / 3)
    layout = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=0, learning_rate="auto")
    with threadpool_limits(1):  # its threads wait for each other in a loop: on a busy machine a hundred times slower
        return np.asarray(layout.fit_transform(axes.astype(np.float32)), dtype=np.float32)


def morton_order(points_N2: np.ndarray, bits: int = 10) -> np.ndarray:
    """Order of the points along a Z-curve over their bounding box, int64 (N,): neighbours come together."""
    low = points_N2.min(axis=0, initial=np.inf)
    size = np.maximum(points_N2.max(axis=0, initial=-np.inf) - low, 1e-12)
    cells = ((points_N2 - low) / size * (2**bits - 1)).astype(np.int64)
    code = np.zeros(len(points_N2), np.int64)
    for bit in range(bits):
        for axis in (0, 1):
            code |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")


def colouring(name: str, values: list[Any]) -> dict[str, Any] | None:
    """Return colour classes of one column: {name, kind, levels, codes}; None when it has one value or too many.

    Numbers with more values than there are colours are cut at their quantiles; of other columns the most
    frequent values get a colour. A null has code -1. Texts that are all numbers, as a CSV has them, are numbers. Of a
    crop the method counts, of any other list or struct its text.
    """
    values = _as_numbers([_plain(v) for v in values])
    present = [v for v in values if v is not None and v == v]
    distinct = set(present)
    if len(distinct) < 2:
        return None
    if len(distinct) > _LEVELS and all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct):
        return _binned(name, values, np.array(present, np.float64))
    frequency: dict[Any, int] = {}
    for v in present:
        frequency[v] = frequency.get(v, 0) + 1
    top = sorted(frequency, key=lambda v: (-frequency[v], str(v)))[:_LEVELS]
    if sum(frequency[v] for v in top) < len(present) * 0.05:  # nearly all different: an id
        return None
    code = {v: i for i, v in enumerate(top)}
    levels = [clip(v, 40) for v in top] + (["other"] if len(distinct) > len(top) else [])
    codes = [-1 if v is None or v != v else code.get(v, len(top)) for v in values]
    return {"name": name, "kind": "category", "levels": levels, "codes": codes}


def _plain(value: Any) -> Any:
    """A value that can be counted: stored lists and structs cannot."""
    if isinstance(value, dict) and "method" in value:
        return value["method"]
    return clip(value, _TEXT_CHARS) if isinstance(value, dict | list | tuple | bytearray) else value


def _as_numbers(values: list[Any]) -> list[Any]:
    """Numbers in place of texts where all are numbers (blank ones are null), else the values as they are."""
    texts = [v for v in values if v is not None and not (isinstance(v, str) and not v.strip())]
    if not texts or not all(isinstance(v, str) and re.match(NUMBER_TEXT, v) for v in texts):
        return values
    return [float(v) if isinstance(v, str) and v.strip() else None for v in values]


def _binned(name: str, values: list[Any], present: np.ndarray) -> dict[str, Any] | None:
    edges = np.unique(np.quantile(present, np.linspace(0, 1, _BINS + 1)))
    if len(edges) < 3:
        return None
    codes = [-1 if v is None or v != v else int(np.searchsorted(edges[1:-1], v, side="right")) for v in values]
    levels = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(edges)]
    return {"name": name, "kind": "number", "levels": levels, "codes": codes}


def map_files(
    vectors_ND: np.ndarray, rows: list[dict[str, Any]], thumbnails: list[bytes | None], columns: list[str], total: int,
    layout: Literal["pca", "tsne"] = "pca",
) -> tuple[dict[str, bytes], list[float]]:  # fmt: skip
    """The map's script and its packs (path inside the report -> bytes), and the variance share of each axis.

    t-SNE's axes have no share of the variance: an empty list.

    Args:
        vectors_ND: (N, D) image vectors.
        rows: N dicts of stored fields.
        thumbnails: N JPEG files or None.
        columns: those of `rows` that may colour the map.
        total: images in the run, of which the N are a sample.
    """
    points, shares = (tsne_2d(vectors_ND), np.empty(0)) if layout == "tsne" else pca_2d(vectors_ND)
    order = morton_order(points).tolist()
    points, rows, thumbnails = points[order], [rows[i] for i in order], [thumbnails[i] for i in order]
    colours = [c for name in columns if (c := colouring(name, [r.get(name) for r in rows]))]
    colours.sort(key=lambda c: c["kind"] != "category")  # the first one is what the map opens with
    index = {
        "total": total, "packImages": PACK_IMAGES, "shares": shares.round(4).tolist(),
        "x": points[:, 0].astype(float).round(4).tolist(), "y": points[:, 1].astype(float).round(4).tolist(),
        "names": [clip(r.get("text") or r.get("item_id"), _TEXT_CHARS) for r in rows], "colours": colours,
    }  # fmt: skip
    out = {"data/map.js": script_data("map", index)}
    for n, start in enumerate(range(0, len(rows), PACK_IMAGES)):
        part = zip(rows[start : start + PACK_IMAGES], thumbnails[start : start + PACK_IMAGES], strict=True)
        out[f"data/map-{n:04d}.js"] = script_data(f"map-{n:04d}", [_pack_entry(r, t) for r, t in part])
    return out, shares.tolist()


def _pack_entry(row: dict[str, Any], thumbnail: bytes | None) -> dict[str, Any]:
    entry = Tile(None, "", "", "", row.get("recall_score"), "", row).as_data()
    # safe.plain would clip base64 text like any other, so it goes in as pieces below that limit.
    text = base64.b64encode(thumbnail).decode() if thumbnail else ""
    return entry | {"thumbnail": [text[i : i + 8000] for i in range(0, len(text), 8000)]}
