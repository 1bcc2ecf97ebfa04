"""Query vectors from a run's own models: texts, fresh images, and a picture with a text that changes it.

Distinct texts and distinct images are encoded once. A text or picture that cannot be used costs its own query.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aistudio.config import DetectorSettings, ImageSpec, JobConfig
from aistudio.images.crop import Cropper
from aistudio.models import Composer, Kind, LoadKeywords, RecallModel, kind, load_model
from aistudio.schema import Status
from aistudio.scoring.cropping import load_detectors
from aistudio.scoring.image_source import ImageRow, ImageSource, Request
from aistudio.scoring.pinned_models import PinnedModel, load_pinned

Vectors = NDArray[np.float32]
TEXTS_AT_ONCE = 4_096
NOT_FINITE = "the model gave a vector that is not finite"


class Encoded(NamedTuple):
    """N vectors, (N, D) float32 as the model gives them, and why a row has none (else None)."""

    vectors_ND: Vectors
    problems: list[str | None]


class FreshImage(NamedTuple):
    """Outcome of one distinct picture; its vector is there when its status is ok."""

    row: ImageRow
    vector_D: Vectors | None


class QueryVectors(Protocol):
    """Encodes queries: `QueryEncoder` in this process, `pipeline.query_actors` on a cluster's actors."""

    def texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts into the space of the images; for a recall model. N may be 0."""

    def compose(self, images_ND: Vectors, texts: Sequence[str]) -> Encoded:
        """Compose image vectors, as `encode_images` gave them, with texts; for a composer. N may be 0."""

    def images(self, requests: Sequence[Request], batch_size: int) -> Iterator[FreshImage]:
        """Fetch, decode and encode pictures; each outcome once, in completion order."""


class QueryEncoder:
    """The model whose vectors are searched, loaded to encode queries."""

    def __init__(self, config: JobConfig, model: PinnedModel, device: str = "cpu") -> None:
        """Load the model. Raises WeightsError and ConfigError as `load_pinned`."""
        self._config, self.kind = config, kind(model.config)
        self._conf = model.config
        options: LoadKeywords = {"device": device, "precision": config.engine.precision}
        self._model = load_pinned(model, config, lambda settings: load_model(settings, **options))
        self.dim = self._model.dim

    def texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts into the space of the images; for a recall model. N may be 0."""
        distinct, place_N = distinct_texts(texts)
        parts = [self.encode(distinct[i : i + TEXTS_AT_ONCE]) for i in range(0, len(distinct), TEXTS_AT_ONCE)]
        return spread(joined(parts, self.dim), place_N)

    def compose(self, images_ND: Vectors, texts: Sequence[str]) -> Encoded:
        """Compose image vectors, as `encode_images` gave them, with texts; for a composer. N may be 0."""
        if not len(texts):
            return Encoded(np.zeros((0, self.dim), np.float32), [])
        distinct, place_N = distinct_texts(texts)
        given = spread(self.text_vectors(distinct), place_N)
        return with_reasons(self.mix(images_ND, given.vectors_ND), given.problems)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode distinct texts with a recall model, all at once."""
        assert self.kind is Kind.RECALL, self.kind
        vectors = cast(RecallModel, self._model).encode_texts(texts)
        return Encoded(vectors, _unusable(vectors))

    def text_vectors(self, texts: Sequence[str]) -> Encoded:
        """Encode distinct texts as a composer takes them, (N, text_dim); NaN where it refuses one, with the reason."""
        return Encoded(self._composer.text_vectors(texts), self._composer.refusals(texts))

    def mix(self, images_ND: Vectors, texts_NT: Vectors) -> Encoded:
        """Compose image vectors with text vectors, row by row."""
        vectors = self._composer.compose_vectors(images_ND, texts_NT)
        return Encoded(vectors, _unusable(vectors))

    @property
    def _composer(self) -> Composer:
        assert self.kind is Kind.COMPOSER, self.kind
        return cast(Composer, self._model)

    def images(self, requests: Sequence[Request], batch_size: int) -> Iterator[FreshImage]:
        """Fetch, decode and encode pictures; each outcome once, in completion order."""
        detectors = load_detectors([self._conf], self._config)
        source = ImageSource(self._config, [self._model.image_spec], detectors=detectors)
        try:
            held: list[ImageRow] = []
            for row in source.images(requests):
                if row.status != Status.OK:
                    yield FreshImage(row, None)
                    continue
                held.append(row)
                if len(held) == batch_size:
                    yield from self._encoded(held)
                    held = []
            yield from self._encoded(held)
        finally:
            source.close()

    @property
    def image_spec(self) -> ImageSpec:
        """The pixels that the model takes."""
        return self._model.image_spec

    def encode_pixels(self, pixels_NSSC: NDArray[np.uint8]) -> Encoded:
        """Encode pictures that are decoded already, (N, S, S, 3) as `image_spec` says."""
        vectors = self._model.encode_images(pixels_NSSC)
        return Encoded(vectors, _unusable(vectors))

    def detectors(self) -> Mapping[DetectorSettings, Cropper]:
        """Load what crops pictures for the model; nothing where its pictures are not cropped by a detector."""
        return load_detectors([self._conf], self._config)

    def _encoded(self, rows: list[ImageRow]) -> Iterator[FreshImage]:
        if not rows:
            return
        vectors = self._model.encode_images(np.stack([row.pixels[0] for row in rows]))
        for row, vector, problem in zip(rows, vectors, _unusable(vectors), strict=True):
            plain = row._replace(pixels=())
            if problem is None:
                yield FreshImage(plain, vector)
            else:
                yield FreshImage(plain._replace(status=Status.MODEL_ERROR, error=problem), None)


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts in order, and the place of each text among them, (N,)."""
    distinct = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    return distinct, np.array([place[text] for text in texts], np.int64)


def joined(parts: Sequence[Encoded], dim: int) -> Encoded:
    """Put parts behind one another; `dim` is the width where there are none."""
    vectors = [part.vectors_ND for part in parts] or [np.zeros((0, dim), np.float32)]
    return Encoded(np.concatenate(vectors), [problem for part in parts for problem in part.problems])


def spread(encoded: Encoded, place_N: NDArray[np.int64]) -> Encoded:
    """Give each of N rows what was found for its distinct text."""
    return Encoded(encoded.vectors_ND[place_N], [encoded.problems[i] for i in place_N.tolist()])


def with_reasons(encoded: Encoded, reasons: Sequence[str | None]) -> Encoded:
    """Put earlier reasons before those of the rows."""
    return Encoded(encoded.vectors_ND, [p or q for p, q in zip(reasons, encoded.problems, strict=True)])


def _unusable(vectors_ND: Vectors) -> list[str | None]:
    return [None if good else NOT_FINITE for good in np.atleast_1d(np.isfinite(vectors_ND).all(axis=1))]
