"""Running towers on batches: uint8 pixels or texts in, unit float32 rows out. Chunks, precision and caching live here.

Knows nothing of a family: a tower is a module from normalised float pixels (N,3,S,S), or from token ids and mask, to
(N,D). Row results do not depend on their neighbours beyond rounding (1e-5 images, 1e-6 texts).
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ImageSpec
from aistudio.models._device import exact_float32, ready_device
from aistudio.models._optimise import ready_tower, ready_transformer
from aistudio.models._pinned import PinnedFeed

IMAGES_PER_CORE = 16  # in one pass on a CPU; _optimise.py sees to it that large activations stay in the caches
IMAGES_PER_PASS = 256  # on a GPU, unless the caller knows better: bounds activation memory to a few GB
IMAGE_CACHE = 4_096  # distinct images; 8 MB of 512-wide vectors
TEXTS_PER_PASS = 64
TEXT_CACHE = 20_000  # distinct texts; 40 MB of 512-wide vectors


@dataclass(frozen=True)
class LoadOptions:
    """How a model is run. `optimize` changes results by rounding only; `compile` needs a C++ compiler at hand.

    `images_per_pass` is the most that a GPU is given at once; a CPU takes IMAGES_PER_CORE whatever it says.
    """

    device: str = "cpu"
    precision: str = "float32"
    optimize: bool = True
    compile: bool = False
    images_per_pass: int = IMAGES_PER_PASS


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Keeps the `size` most recently used values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get_many(self, keys: Sequence[K], compute: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """One value per key, computing the distinct unknown ones in one call."""
        unique = list(dict.fromkeys(keys))
        new = [key for key in unique if key not in self._items]
        found = dict(zip(new, compute(new), strict=True)) if new else {}
        found |= {key: self._items[key] for key in unique if key in self._items}
        for key in unique:
            self._items[key] = found[key]
            self._items.move_to_end(key)
        while len(self._items) > self._size:
            self._items.popitem(last=False)
        return [found[key] for key in keys]


class ImageEncoder:
    """Pixels -> unit rows through one image tower.

    On a CPU equal pixels are encoded once as long as they are remembered: an image that a catalogue repeats costs
    nothing, and gets the very same vector wherever it stands in a batch (a pair of equal images must tie exactly).

    On a GPU several threads may call at once: while it computes for one, the others' pixels are copied.
    """

    def __init__(
        self,
        tower: nn.Module,
        spec: ImageSpec,
        dim: int,
        options: LoadOptions,
        normalise: bool = True,
        one_by_one: bool = False,
    ) -> None:
        """`tower` maps normalised (N,3,S,S) to (N,dim); it is taken over: folded, moved and cast.

        Args:
            normalise: scale rows to length 1; False: the tower's vectors as they are.
            one_by_one: on a CPU give the tower one image at a time, so that no image's last bits depend on its
                neighbours; for towers whose layers _optimise.py does not know.
        """
        self.spec, self.dim, self._unit_rows, self._one_by_one = spec, dim, normalise, one_by_one
        self._device, self._dtype = ready_device(options.device, options.precision)
        self._feed = PinnedFeed(self._device) if self._device.type == "cuda" else None
        self._images_per_pass = options.images_per_pass
        self._turn = threading.Lock()
        self._tower = ready_tower(tower, self._device, self._dtype, options.optimize)
        self._cache: BoundedCache[bytes, np.ndarray] = BoundedCache(IMAGE_CACHE)
        if options.compile:
            self._tower.compile()
        self._mean = torch.tensor(spec.mean, dtype=torch.float64, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(spec.std, dtype=torch.float64, device=self._device).view(3, 1, 1)
        every_value = torch.arange(256, dtype=torch.uint8, device=self._device).view(1, 256, 1, 1).expand(1, 256, 1, 3)
        self._table = self._normalised(every_value).permute(0, 2, 3, 1).cpu().numpy().reshape(1, 256, 3)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 rows, of length 1 where `normalise` is set; N may be 0.

        Raises:
            ValueError: another shape or dtype.
        """
        size = self.spec.size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {size}, {size}, 3)")
        if self._feed is not None:  # hashing would keep a GPU waiting
            return self._encode_on_gpu(pixels, self._feed)
        keys = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in pixels]
        place = {key: i for i, key in enumerate(keys)}
        rows = self._cache.get_many(keys, lambda new: list(self._encode(pixels[[place[key] for key in new]])))
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        rows = np.empty((len(pixels), self.dim), np.float32)
        chunk = 1 if self._one_by_one else IMAGES_PER_CORE * torch.get_num_threads()
        with torch.inference_mode():
            for start in range(0, len(pixels), chunk):
                part = slice(start, start + chunk)
                rows[part] = self._forward(self.normalise(pixels[part])).numpy()
        return rows

    def _encode_on_gpu(self, pixels: np.ndarray, feed: PinnedFeed) -> np.ndarray:
        parts = []
        for start in range(0, len(pixels), self._images_per_pass):
            part = pixels[start : start + self._images_per_pass]
            # The copy is under way while another thread has its turn; kernels are queued, not waited for.
            with feed.upload(part) as upload, self._turn, torch.inference_mode(), exact_float32(self._device):
                parts.append(self._forward(self._normalised(upload.arrived())))
        return feed.fetch(torch.cat(parts)) if parts else np.empty((0, self.dim), np.float32)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised (N,3,S,S) float32 -> (N,dim) float32 rows, both on the device."""
        rows = self._tower(x.to(self._dtype)).float()
        return F.normalize(rows, dim=-1) if self._unit_rows else rows

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """(N,S,S,3) uint8 -> (N,3,S,S) float32 in channels-last order, on the device.

        Equal to the reference bit for bit, for a deep tower amplifies its input's last bit.
        """
        if self._device.type == "cpu":  # a table of the 256 values: six times as fast
            looked_up = cv2.LUT(pixels.reshape(1, -1, 3), self._table).reshape(pixels.shape)
            return torch.from_numpy(looked_up).permute(0, 3, 1, 2)
        return self._normalised(torch.from_numpy(pixels).to(self._device))

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same on the device, in float64 as the reference does it."""
        x = pixels.permute(0, 3, 1, 2).double()
        return x.div_(255).sub_(self._mean).div_(self._std).float()


class TextEncoder:
    """Texts -> unit rows through one text tower; repeated texts are computed once."""

    def __init__(
        self,
        tokenize: Callable[[list[str]], list[list[int]]],
        tower: nn.Module,
        dim: int,
        options: LoadOptions,
        pad_id: int = 0,
    ) -> None:
        """`tower` maps ids and mask (N,L) to (N,dim); it is taken over: moved and made faster."""
        self.tokenize, self.dim, self._pad_id = tokenize, dim, pad_id
        self._device, self._dtype = ready_device(options.device, options.precision)
        self._tower = ready_transformer(tower, self._device, self._dtype, options.optimize)
        self._cache: BoundedCache[str, np.ndarray] = BoundedCache(TEXT_CACHE)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N strings -> (N,dim) float32 unit rows; N may be 0."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack(self._cache.get_many(list(texts), self._encode))

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        tokens = self.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # neighbours of like length: little padding
        rows: list[np.ndarray] = [np.empty(0)] * len(texts)
        for start in range(0, len(order), TEXTS_PER_PASS):
            part = order[start : start + TEXTS_PER_PASS]
            for i, row in zip(part, self._forward([tokens[i] for i in part]), strict=True):
                rows[i] = row
        return rows

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        longest = max(map(len, tokens))
        ids = torch.tensor([t + [self._pad_id] * (longest - len(t)) for t in tokens], device=self._device)
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in tokens], device=self._device)
        low = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=low):
            features = self._tower(ids, mask)
        return F.normalize(features.float(), dim=-1).cpu().numpy()
