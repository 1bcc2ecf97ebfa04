"""From image addresses to what training keeps of them: pixels at one size, or vectors of a frozen tower.

Download, decoding and resizing are those of scoring, with its failures: a failed image has a `problem`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aistudio.config import ImageSpec, JobConfig, ModelConfig
from aistudio.schema import Status
from aistudio.scoring.cropping import load_detectors
from aistudio.scoring.image_source import ImageSource, Request

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class MadeImage(NamedTuple):
    """One distinct image: `value` is (S,S,3) uint8 or (dim,) float32, or there is a problem."""

    value: NDArray[Any]
    content_hash: str | None
    thumbnail: bytes | None
    problem: str | None


class ImageMaker:
    """Fetches and decodes while entered; `encode` None: keeps pixels as the array `pixels`, else `vectors`."""

    def __init__(
        self,
        config: JobConfig,
        spec: ImageSpec,
        encode: Encode | None = None,
        encoder: str = "",
        conf: ModelConfig | None = None,
    ) -> None:
        """`encoder`: the fingerprint of the image tower that `encode` runs; `conf`: names what crops, if it does."""
        self._config, self._spec, self._encode, self._conf = config, spec, encode, conf
        self.array = "pixels" if encode is None else "vectors"
        images = config.images.model_dump(mode="json", exclude={"decode_timeout_s", "thumbnail_px"})
        what = [spec.identity(), images, encoder, self.array]
        self.identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def __enter__(self) -> "ImageMaker":
        detectors = load_detectors([self._conf] if self._conf else [], self._config)
        self._source = ImageSource(self._config, [self._spec], detectors=detectors)
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def make(self, requests: Sequence[Request]) -> list[MadeImage]:
        """Return one image for each request, in their order."""
        out: list[MadeImage | None] = [None] * len(requests)
        for row in self._source.images(requests):
            if row.status == Status.OK:
                out[row.number] = MadeImage(row.pixels[0], row.content_hash, row.thumbnail, None)
            else:
                nothing = np.empty(0, np.uint8)
                out[row.number] = MadeImage(nothing, None, None, f"the image failed: {row.status.value}")
        made = [image for image in out if image is not None]
        assert len(made) == len(requests)
        return made if self._encode is None else self._encoded(made, self._encode)

    def _encoded(self, made: list[MadeImage], encode: Encode) -> list[MadeImage]:
        good = [i for i, image in enumerate(made) if image.problem is None]
        if good:
            vectors = encode(np.stack([made[i].value for i in good]))
            for i, vector in zip(good, vectors, strict=True):
                made[i] = made[i]._replace(value=vector)
        return made


def training_spec(spec: ImageSpec, cache_px: int) -> ImageSpec:
    """Return how pixels are cached at `cache_px` for a model that takes `spec`: the same recipe, larger."""
    if cache_px == spec.size:
        return spec
    shortest = spec.resize_shortest and round(spec.resize_shortest * cache_px / spec.size)
    return spec.model_copy(update={"size": cache_px, "resize_shortest": shortest})


def augmented(pixels: NDArray[np.uint8], size: int, mirror: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(P,P,3) -> a random (size,size,3) square of it, mirrored in half of all cases if `mirror`; size at most P."""
    room = pixels.shape[0] - size
    if room:
        y, x = rng.integers(0, room + 1, 2)
        pixels = pixels[y : y + size, x : x + size]
    return pixels[:, ::-1] if mirror and rng.random() < 0.5 else pixels
