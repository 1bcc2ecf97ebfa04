"""Training pictures: drawn, encoded, decoded and resized exactly as a scored image would be, kept in memory.

No torch here: the workers that draw are separate processes and start quickly.
"""

import io
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from PIL import Image

from aistudio.config import ImageSpec
from aistudio.demo.draw import Attributes, draw_image
from aistudio.demo.encode import encode_image
from aistudio.demo.preference import click_rate, observed_clicks, utility
from aistudio.demo.sights import SIGHTS
from aistudio.images.transform import resize


@dataclass(frozen=True)
class RenderedSet:
    """N pictures, sight by sight.

    pixels: (N, S, S, 3) uint8; sight: (N,) int64 index into SIGHTS; shown: N attributes; clicks: (N,) int64, as
    observed among equal numbers of impressions.
    """

    pixels: np.ndarray
    sight: np.ndarray
    shown: list[Attributes]
    clicks: np.ndarray

    def __len__(self) -> int:
        return len(self.sight)


def render(seed: int, indices: range, spec: ImageSpec, num_sights: int | None = None, workers: int = 2) -> RenderedSet:
    """Draw pictures number `indices` of every sight (or of the first `num_sights`).

    The same arguments give the same pictures and clicks, whatever the number of workers.
    """
    chosen = range(len(SIGHTS))[:num_sights]
    jobs = [(i, seed, indices, spec) for i in chosen]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_render_sight, jobs))
    else:
        parts = [_render_sight(job) for job in jobs]
    return RenderedSet(
        pixels=np.concatenate([p[0] for p in parts]),
        sight=np.repeat(np.array(chosen, dtype=np.int64), len(indices)),
        shown=[shown for p in parts for shown in p[1]],
        clicks=np.concatenate([p[2] for p in parts]),
    )


def _render_sight(job: tuple[int, int, range, ImageSpec]) -> tuple[np.ndarray, list[Attributes], np.ndarray]:
    number, seed, indices, spec = job
    sight = SIGHTS[number]
    rng = np.random.default_rng([seed, number, indices.start])
    pixels = np.empty((len(indices), spec.size, spec.size, 3), dtype=np.uint8)
    shown, clicks = [], np.empty(len(indices), dtype=np.int64)
    for i, index in enumerate(indices):
        image, attributes = draw_image(sight, seed, index)
        body, _ = encode_image(image, random.Random(f"{seed}/{sight.key}/{index}/file"))
        pixels[i] = resize(Image.open(io.BytesIO(body)).convert("RGB"), spec)
        shown.append(attributes)
        clicks[i] = observed_clicks(click_rate(utility(sight, attributes)), rng)
    return pixels, shown, clicks
