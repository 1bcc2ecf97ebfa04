"""A loaded composer: image vectors and texts -> query vectors of the same image space, row by row.

"This picture, but as the text says." How one is opened is _composer_open.py's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aistudio.config import ImageSpec
from aistudio.models._composer_parts import Composed
from aistudio.models._composer_texts import TextSide
from aistudio.models._device import exact_float32
from aistudio.models._encode import LoadOptions
from aistudio.models._optimise import ready_transformer
from aistudio.models._passes import in_passes

COMPOSE_ROWS = 256  # rows a pass: fewer are slower on several cores; a single query waits 80 ms for TIRG on one core


@dataclass(frozen=True)
class ImageSide:
    """Where a composer's image vectors come from."""

    spec: ImageSpec
    dim: int
    normalised: bool  # vectors have length one
    fingerprint: str | None  # of the image tower's numbers
    encode: Callable[[np.ndarray], np.ndarray]


class LoadedComposer:
    """A composer, loaded.

    `image_spec`, `dim`, `normalised`, `fingerprint`, `image_tower_fingerprint` and `encode_images` are those of any
    image encoder: gallery images are scored with them. `compose` makes query vectors.
    """

    def __init__(
        self, images: ImageSide, texts: TextSide, mixer: torch.nn.Module, fingerprint: str, options: LoadOptions
    ) -> None:
        """`mixer` has `vectors(z, q)`; it is taken over: moved and made faster."""
        self.image_spec, self.dim, self.normalised = images.spec, images.dim, images.normalised
        self.image_tower_fingerprint, self.fingerprint = images.fingerprint, fingerprint
        self._encode, self._texts = images.encode, texts
        self._device = torch.device(options.device)
        # float32 in every precision: it costs little beside the towers
        self._mixer: Any = ready_transformer(mixer, self._device, torch.float32, options.optimize)

    @property
    def text_dim(self) -> int:
        """Width of the text vectors."""
        return self._texts.dim

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32; of length one only where `normalised`; N may be 0."""
        return self._encode(pixels)

    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """N texts -> (N,text_dim) float32, NaN where `refusals` gives a reason. Not of the image space."""
        return _where_usable(self.refusals(texts), self.text_dim, lambda rows: self._texts([texts[i] for i in rows]))

    def refusals(self, texts: Sequence[str]) -> list[str | None]:
        """Why each text cannot be composed; None where it can."""
        return self._texts.refusals(texts)

    def compose(self, image_vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Query vectors (N,dim) float32, not normalised: compare them by cosine. N may be 0.

        A row whose text is refused (`refusals` says why), or whose image vector is not finite, is NaN; others are not
        touched by it.

        Args:
            image_vectors: (N,dim) as `encode_images` gives them.

        Raises:
            ValueError: vectors of another shape.
        """
        if len(image_vectors) != len(texts):
            raise ValueError(f"{len(image_vectors)} image vectors and {len(texts)} texts")
        return self.compose_vectors(image_vectors, self.text_vectors(texts))

    def compose_vectors(self, image_vectors: np.ndarray, text_vectors: np.ndarray) -> np.ndarray:
        """The same with ready text vectors, (N,text_dim)."""
        z, q = self._checked(image_vectors, text_vectors)
        usable = np.isfinite(z).all(axis=1) & np.isfinite(q).all(axis=1)
        problems = [None if good else "not finite" for good in usable]
        return _where_usable(problems, self.dim, lambda rows: in_passes(COMPOSE_ROWS, self._vectors, z[rows], q[rows]))

    def mix(self, image_vectors: np.ndarray, text_vectors: np.ndarray, *, conjugate: bool = False) -> Composed:
        """Composed vectors and what the decoders make of them, as tensors; for the published composers.

        `conjugate`: with the text's rotation undone (ComposeAE).
        """
        columns = self._checked(image_vectors, text_vectors)
        with torch.inference_mode(), exact_float32(self._device):
            return self._mixer.mix(*(torch.from_numpy(c).to(self._device) for c in columns), conjugate=conjugate)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, unpadded."""
        side: Any = self._texts
        return side.tokenize(texts)

    def _checked(self, image_vectors: np.ndarray, text_vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z, q = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (image_vectors, text_vectors))
        wanted = (len(z), self.dim), (len(z), self.text_dim)
        if (z.shape, q.shape) != wanted:
            raise ValueError(f"image and text vectors are {z.shape} and {q.shape}, expected {wanted}")
        return z, q

    def _vectors(self, z: np.ndarray, q: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), exact_float32(self._device):
            return self._mixer.vectors(*(torch.from_numpy(c).to(self._device) for c in (z, q))).cpu().numpy()


def _where_usable(problems: Sequence[str | None], dim: int, compute: Callable[[list[int]], np.ndarray]) -> np.ndarray:
    """(N,dim) float32: computed rows where there is no problem, NaN elsewhere."""
    out = np.full((len(problems), dim), np.nan, np.float32)
    rows = [i for i, problem in enumerate(problems) if problem is None]
    if rows:
        out[rows] = compute(rows)
    return out
