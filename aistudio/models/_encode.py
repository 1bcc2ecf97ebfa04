"""Running towers on batches: uint8 pixels or texts in, unit float32 rows out. Chunks, precision and caching live here.

Knows nothing of a family: a tower is a module from normalised float pixels (N,3,S,S), or from token ids and mask, to
(N,D). On a CPU in float32 a row's result is the same bits in every batch, order and number of threads; on a GPU and in
lower precision it depends on its neighbours by rounding.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ImageSpec
from aistudio.models import pixel_digest
from aistudio.models._device import exact_float32, ready_device
from aistudio.models._lookup import lookup_in
from aistudio.models._one_by_one import OneByOne, wants_single_rows
from aistudio.models._optimise import ready_tower, ready_transformer
from aistudio.models._upload import PinnedFeed

IMAGES_PER_CORE = 16  # in one pass on a CPU; _optimise.py sees to it that large activations stay in the caches
IMAGES_PER_PASS = 256  # on a GPU, unless the caller knows better: bounds activation memory to a few GB
IMAGE_CACHE = 4_096  # distinct images; 8 MB of 512-wide vectors
TEXTS_PER_PASS = 64  # on a GPU or in low precision
SMALL_TOWER = 2_000_000  # parameters without embeddings: up to here a pass costs its calls more than its numbers
SMALL_TOWER_TEXTS = 16  # in each pass of such a tower, filled up
TEXT_CACHE = 50_000  # distinct texts; 100 MB of 512-wide vectors


@dataclass(frozen=True)
class LoadOptions:
    """How a model is run. `optimize` changes results by rounding only; `compile` needs a C++ compiler at hand.

    `images_per_pass` is the most that a GPU is given at once; a CPU takes IMAGES_PER_CORE whatever it says.
    `recomputed`: texts, and sha256 digests of pixels, that are computed again whenever others were computed.
    """

    device: str = "cpu"
    precision: str = "float32"
    optimize: bool = True
    compile: bool = False
    images_per_pass: int = IMAGES_PER_PASS
    recomputed: frozenset[str | bytes] = frozenset()


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Keeps the `size` most recently used values.

    A key of `again` is computed again with, or after, every computation of others: its value shows what they were
    computed by. `keep` says whether a value is worth remembering.
    """

    def __init__(
        self, size: int, again: Collection[Any] = frozenset(), keep: Callable[[V], bool] | None = None
    ) -> None:
        self._size, self._again, self._keep = size, again, keep
        self._items: OrderedDict[K, V] = OrderedDict()
        self._fresh: set[K] = set()  # keys of `again` since whose computation nothing else was computed

    def __len__(self) -> int:
        return len(self._items)

    def get_many(self, keys: Sequence[K], compute: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """One value per key, computing the distinct unknown ones in one call."""
        unique = list(dict.fromkeys(keys))
        unknown = {key for key in unique if key not in self._items}
        if any(key not in self._again for key in unknown):
            self._fresh.clear()
        new = [key for key in unique if key in unknown or (key in self._again and key not in self._fresh)]
        found = dict(zip(new, compute(new), strict=True)) if new else {}
        self._fresh.update(key for key in new if key in self._again)
        found = {key: self._items[key] for key in unique if key not in found} | found
        for key in unique:
            if self._keep is None or self._keep(found[key]):
                self._items[key] = found[key]
                self._items.move_to_end(key)
        while len(self._items) > self._size:
            self._items.popitem(last=False)
        return [found[key] for key in keys]


def is_finite(vector: np.ndarray) -> bool:
    """Whether a vector is worth remembering: one that is not finite is asked for again, to see whose fault it was."""
    return bool(np.isfinite(vector).all())


class ImageRunner:
    """Pixels -> rows, unit rows by default, through one image tower.

    On a CPU equal pixels are encoded once as long as they are remembered: an image that a catalogue repeats costs
    nothing, and gets the very same vector wherever it stands in a batch (a pair of equal images must tie exactly).

    On a GPU several threads may call at once: while it computes for one, the others' pixels are copied.
    """

    def __init__(
        self, tower: nn.Module, spec: ImageSpec, dim: int, options: LoadOptions, *, normalised: bool = True,
        one_by_one: bool = False,
    ) -> None:  # fmt: skip
        """`tower` maps normalised (N,3,S,S) to (N,dim); it is taken over: folded, moved and cast.

        Args:
            normalised: rows have length one; False: they are as the tower gives them.
            one_by_one: on a CPU give the tower one image at a time, so that no image's last bits depend on its
                neighbours; for towers whose layers _optimise.py does not know.
        """
        self.spec, self.dim, self.normalised = spec, dim, normalised
        self._device, self._dtype = ready_device(options.device, options.precision)
        self._feed = PinnedFeed(self._device) if self._device.type == "cuda" else None
        self._images_per_pass = options.images_per_pass
        self._turn = threading.Lock()
        self._tower = ready_tower(tower, self._device, self._dtype, options.optimize)
        single = self._device.type == "cpu" and one_by_one
        single = single or wants_single_rows(self._tower, self._device, self._dtype)
        self._one_by_one = OneByOne() if single else None
        self._cache: BoundedCache[bytes, np.ndarray] = BoundedCache(IMAGE_CACHE, options.recomputed, is_finite)
        if options.compile:
            self._tower.compile()
        home = self._device if self._device.type == "cuda" else torch.device("cpu")  # Metal has no float64
        self._mean = torch.tensor(spec.mean, dtype=torch.float64, device=home).view(3, 1, 1)
        self._std = torch.tensor(spec.std, dtype=torch.float64, device=home).view(3, 1, 1)
        every_value = torch.arange(256, dtype=torch.uint8, device=home).view(1, 256, 1, 1).expand(1, 256, 1, 3)
        self._looked_up = lookup_in(self._normalised(every_value).cpu().reshape(3, 256))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 rows, of length one where `normalised`; N may be 0.

        Raises:
            ValueError: another shape or dtype.
        """
        size = self.spec.size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {size}, {size}, 3)")
        if self._feed is not None:  # hashing would keep a GPU waiting
            return self._encode_on_gpu(pixels, self._feed)
        keys = [pixel_digest(np.ascontiguousarray(image)) for image in pixels]
        place = {key: i for i, key in enumerate(keys)}
        rows = self._cache.get_many(keys, lambda new: list(self._encode(pixels[[place[key] for key in new]])))
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        if self._one_by_one is not None:
            return np.concatenate(self._one_by_one.map(self._pass, list(pixels[:, None])))
        chunk = IMAGES_PER_CORE * torch.get_num_threads()
        return np.concatenate([self._pass(pixels[start : start + chunk]) for start in range(0, len(pixels), chunk)])

    def _pass(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 -> (N,dim) float32 rows, all at once."""
        with torch.inference_mode():
            return self._forward(self.normalise(pixels)).cpu().numpy()

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
        rows = self._tower(x.to(self._device, self._dtype)).float()
        return F.normalize(rows, dim=-1) if self.normalised else rows

    def normalise(self, pixels: np.ndarray) -> torch.Tensor:
        """(N,S,S,3) uint8 -> (N,3,S,S) float32 in channels-last order, on the device (of Metal: still on the CPU).

        Equal to the reference bit for bit, for a deep tower amplifies its input's last bit.
        """
        if self._device.type != "cuda":  # a table of the 256 values of each channel: several times as fast
            return self._looked_up(pixels).permute(0, 3, 1, 2)
        return self._normalised(torch.from_numpy(pixels).to(self._device))

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same on the device, in float64 as the reference does it."""
        x = pixels.permute(0, 3, 1, 2).double()
        return x.div_(255).sub_(self._mean).div_(self._std).float()


class Padding(NamedTuple):
    """The token that fills texts up, and the length of the longest text."""

    token: int
    max_tokens: int


class TextEncoder:
    """Texts -> unit rows through one text tower; repeated texts are computed once.

    On a CPU in float32 the shape of a pass follows from the tower and from the text's own length, never from other
    texts: a large tower takes one text as it is; a small one, whose passes cost the more the more of them there are,
    SMALL_TOWER_TEXTS texts filled up to a power of two of tokens.
    """

    def __init__(
        self,
        tokenize: Callable[[list[str]], list[list[int]]],
        tower: nn.Module,
        dim: int,
        options: LoadOptions,
        padding: Padding,
    ) -> None:
        """`tower` maps ids and mask (N,L) to (N,dim); it is taken over: moved and made faster."""
        self.tokenize, self.dim, self._padding = tokenize, dim, padding
        self._device, self._dtype = ready_device(options.device, options.precision)
        self._tower = ready_transformer(tower, self._device, self._dtype, options.optimize)
        self._one_by_one = OneByOne() if wants_single_rows(self._tower, self._device, self._dtype) else None
        inner = sum(p.numel() for m in tower.modules() if isinstance(m, nn.Linear) for p in m.parameters(recurse=False))
        self._small = inner <= SMALL_TOWER
        self._cache: BoundedCache[str, np.ndarray] = BoundedCache(TEXT_CACHE, options.recomputed, is_finite)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N strings -> (N,dim) float32 unit rows; N may be 0."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack(self._cache.get_many(list(texts), self._encode))

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        tokens = self.tokenize(texts)
        lengths = [len(own) for own in tokens]
        if self._one_by_one is not None and self._small:
            lengths = [self._filled_up(length) for length in lengths]
        parts = list(self._passes(lengths))
        forward = self._one_by_one.map if self._one_by_one is not None else map
        rows: list[np.ndarray] = [np.empty(0)] * len(texts)
        for part, found in zip(parts, forward(lambda part: self._pass(part, tokens, lengths), parts), strict=True):
            for i, row in zip(part, found, strict=False):  # rows beyond the part were fillers
                rows[i] = row
        return rows

    def _filled_up(self, length: int) -> int:
        return max(length, min(1 << (length - 1).bit_length(), self._padding.max_tokens))

    def _passes(self, lengths: list[int]) -> Iterator[list[int]]:
        """Texts that go together, by their numbers: neighbours of like length, so that there is little padding."""
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        if self._one_by_one is None:
            return (order[start : start + TEXTS_PER_PASS] for start in range(0, len(order), TEXTS_PER_PASS))
        size = SMALL_TOWER_TEXTS if self._small else 1
        groups = (list(same) for _, same in itertools.groupby(order, key=lambda i: lengths[i]))
        return (same[start : start + size] for same in groups for start in range(0, len(same), size))

    def _pass(self, part: list[int], tokens: list[list[int]], lengths: list[int]) -> np.ndarray:
        """Vectors of the texts numbered in `part`, and of the fillers behind them."""
        ids = [tokens[i] for i in part]
        if self._one_by_one is not None and self._small:
            ids += ids[:1] * (SMALL_TOWER_TEXTS - len(ids))
        return self._forward(ids, max(lengths[i] for i in part))

    def _forward(self, tokens: list[list[int]], length: int) -> np.ndarray:
        fill = [length - len(own) for own in tokens]
        token, device = self._padding.token, self._device
        ids = torch.tensor([own + [token] * more for own, more in zip(tokens, fill, strict=True)], device=device)
        mask = torch.tensor([[1] * (length - more) + [0] * more for more in fill], device=device)
        low = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, self._dtype, enabled=low):
            features = self._tower(ids, mask)
        return F.normalize(features.float(), dim=-1).cpu().numpy()


class TwoTowers:
    """What a model with an image tower and a text tower of these kinds answers by; families fill in the two."""

    _images: ImageRunner
    _texts: TextEncoder

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 unit rows; N may be 0."""
        return self._images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """N strings -> (N,dim) float32 unit rows; N may be 0."""
        return self._texts(texts)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text as the model's own tokenizer gives them, special tokens included."""
        return self._texts.tokenize(texts)
