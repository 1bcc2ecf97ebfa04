"""What autoencoders decode: strips of pictures that stand below each other, and a chart of KL by dimension."""

import io
from typing import Any

import numpy as np
from PIL import Image

from aistudio.reports.figures import Figure, Series
from aistudio.reports.safe import clip

TILE_PX, GAP_PX = 96, 4


def strip(pictures: np.ndarray) -> bytes:
    """Put pictures side by side: (N,S,S,3) uint8 RGB -> PNG of one row."""
    return mosaic(pictures, max(1, len(pictures)))


def mosaic(pictures: np.ndarray, columns: int) -> bytes:
    """Put pictures into rows of `columns`: (N,S,S,3) uint8 RGB -> PNG with transparent gaps."""
    rows = -(-len(pictures) // columns)
    step = TILE_PX + GAP_PX
    out = Image.new("RGBA", (columns * step - GAP_PX, max(1, rows * step - GAP_PX)))
    for i, pixels in enumerate(pictures):
        tile = Image.fromarray(pixels).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
        out.paste(tile, (i % columns * step, i // columns * step))
    data = io.BytesIO()
    out.save(data, "PNG")
    return data.getvalue()


def kl_figure(name: str, kl: list[float] | None) -> Figure | None:
    """Chart of each dimension's mean KL, the largest first; None for a plain autoencoder."""
    if kl is None:
        return None
    points: list[list[Any]] = [[i + 1, value] for i, value in enumerate(kl)]
    note = "mean over pictures, the largest first; a dimension at 0 says nothing about a picture"
    return Figure(f"decoded-kl-{name}", f"KL by dimension: {clip(name, 40)}", note, "line", "dimension", "nats",
                  [Series("KL", points, area=True)], x_max=len(kl))  # fmt: skip
