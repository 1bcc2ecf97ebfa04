"""Family `siamese_poi`: the ranking model, two towers of its own and a head with attention over the item's POIs.

score = linear2(relu(linear4(relu(linear3([image, text, attended POIs]))))); higher means more clicks. Trained on pairs
with BCE(sigmoid(score_a - score_b)). Which POIs an item has, and their vectors, is poi_table.py's.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models import Kind
from aistudio.models._encode import BoundedCache, LoadOptions
from aistudio.models._opening import OpenedFile, open_published
from aistudio.models._settings import parse_arch
from aistudio.models._siamese_head import ExactHead
from aistudio.models._tower_sizes import AlignArch
from aistudio.models.align import AlignModel, image_encoder, text_encoder
from aistudio.models.align import published_names as align_names
from aistudio.poi_table import ItemPois, PoiTable, item_pois, query_text
from aistudio.weights.files import WeightsInfo

KIND = Kind.RANKING
REMEMBERED = True
DICE_EPS = 1e-9
ROWS_PER_PASS = 256  # the head holds 5 x 2048 numbers a row
POI_CACHE = 4_000  # distinct POI strings; 80 MB of 512-wide vectors


class SiameseArch(AlignArch):
    """Sizes of the towers and of the head; the defaults are the published ranking model."""

    attention: tuple[int, int] = (64, 16)
    hidden: int = Field(256, ge=1)


class SiamesePoiModel(nn.Module):
    """Towers under `align_model` and the scoring head."""

    def __init__(self, arch: SiameseArch | None = None) -> None:
        super().__init__()
        self.arch = arch or SiameseArch()
        dim, (first, second) = self.arch.dim, self.arch.attention
        self.align_model = AlignModel(self.arch)
        self.linear1 = nn.Linear(2 * dim, dim)
        self.attention_in = nn.Linear(4 * dim, first)
        self.dice_bn = nn.BatchNorm1d(first, eps=DICE_EPS)
        self.attention_mid = nn.Linear(first, second)
        self.attention_out = nn.Linear(second, 1)
        self.linear3 = nn.Linear(3 * dim, dim)
        self.linear4 = nn.Linear(dim, self.arch.hidden)
        self.linear2 = nn.Linear(self.arch.hidden, 1)

    def attend(
        self, query: torch.Tensor, pictures: torch.Tensor, names: torch.Tensor, num_pois: torch.Tensor
    ) -> torch.Tensor:
        """(N,D) query, (N,P,D) picture and name vectors, (N,) int counts -> (N,D).

        Scores are not normalised by a softmax; those from the num_pois-th on count zero.
        """
        keys = self.linear1(torch.cat([pictures, names], dim=-1))
        q = query.unsqueeze(1).expand_as(keys)
        hidden = self.attention_in(torch.cat([q, keys, q - keys, q * keys], dim=-1))
        hidden = self._dice(hidden)
        scores = self.attention_out(self.attention_mid(hidden)).squeeze(-1)
        mask = torch.arange(keys.shape[1], device=keys.device) < num_pois.unsqueeze(1)
        return ((scores * mask).unsqueeze(-1) * keys).sum(dim=1)

    def score(
        self,
        images: torch.Tensor,
        texts: torch.Tensor,
        pictures: torch.Tensor,
        names: torch.Tensor,
        num_pois: torch.Tensor,
    ) -> torch.Tensor:
        """Scores (N,) of unit image and text vectors (N,D) and POIs as in `attend`. No sigmoid."""
        attended = self.attend(images, pictures, names, num_pois)
        hidden = torch.relu(self.linear3(torch.cat([images, texts, attended], dim=-1)))
        return self.linear2(torch.relu(self.linear4(hidden))).squeeze(-1)

    def _dice(self, x: torch.Tensor) -> torch.Tensor:
        """Dice (arXiv 1706.06978, eq. 3) with alpha 0, as the published model keeps it: sigmoid(BN(x)) * x."""
        normed = self.dice_bn(x.flatten(0, -2)).view_as(x)
        return torch.sigmoid(normed) * x


_HEAD_NAMES = {
    "attention_in": "attention_layer.local_att.fc1.fc.0",
    "dice_bn": "attention_layer.local_att.fc1.fc.1.bn",
    "attention_mid": "attention_layer.local_att.fc1.fc.3",
    "attention_out": "attention_layer.local_att.fc2.fc.0",
}


def published_names(model: SiamesePoiModel) -> dict[str, str]:
    """The model's own key -> the key in a file, for every tensor that a file holds."""
    names = {f"align_model.{key}": f"align_model.{name}" for key, name in align_names(model.align_model).items()}
    for key in model.state_dict():
        if not key.startswith("align_model.") and not key.endswith("num_batches_tracked"):
            module, _, tensor = key.rpartition(".")
            names[key] = f"{_HEAD_NAMES.get(module, module)}.{tensor}"
    return names


def state_dict_published(model: SiamesePoiModel) -> dict[str, torch.Tensor]:
    """The model's tensors under the published names, ready for `save_weights`."""
    state = model.state_dict()
    return {name: state[key] for key, name in published_names(model).items()}


class SiameseRanking:
    """The ranking model, loaded. Attributes as in AlignRecall; its towers are its own."""

    normalised = True

    def __init__(self, opened: OpenedFile[SiamesePoiModel], options: LoadOptions) -> None:
        model = opened.load().requires_grad_(False)
        self.image_spec, self.dim = opened.cfg.image, opened.info.dim
        self.fingerprint = opened.info.fingerprint
        self.image_tower_fingerprint = opened.info.image_tower_fingerprint
        self._device = torch.device(options.device)
        self._images = image_encoder(model.align_model, opened.cfg, options)
        self._texts = text_encoder(model.align_model, opened.cfg, options)
        self._head = model.to(self._device)  # float32 in every precision: it costs nothing
        self._exact = ExactHead(model) if self._device.type == "cpu" else None
        self._set_table(PoiTable.empty(self.dim))

    def with_poi_table(self, table: PoiTable) -> "SiameseRanking":
        """The same model looking POIs up in `table`. Raises ConfigError when its vectors have another width."""
        table.require_dim(self.dim)
        other = copy.copy(self)
        other._set_table(table)
        return other

    def _set_table(self, table: PoiTable) -> None:
        self._table = table
        self._pois: BoundedCache[str, ItemPois] = BoundedCache(POI_CACHE)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 unit rows; N may be 0."""
        return self._images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """N strings -> (N,dim) float32 unit rows, by this model's own text tower; POI tables need them."""
        return self._texts(list(texts))

    def rank(self, image_vectors: np.ndarray, texts: Sequence[str], poi_names: Sequence[str | None]) -> np.ndarray:
        """Scores (N,) float32, higher is better.

        Args:
            image_vectors: (N,dim) unit rows of this model's image tower (or of an equal one).
            texts: the items' titles, used where an item names no POI.
            poi_names: comma-joined POI names; None or blank where there are none.
        """
        if not (len(image_vectors) == len(texts) == len(poi_names)):
            raise ValueError(f"{len(image_vectors)} images, {len(texts)} texts and {len(poi_names)} POI strings")
        names = [name or "" for name in poi_names]
        features = self._texts([query_text(name, text) for name, text in zip(names, texts, strict=True)])
        pois = self._pois.get_many(names, lambda new: [item_pois(name, self._table) for name in new])
        scores = np.empty(len(names), np.float32)
        for start in range(0, len(names), ROWS_PER_PASS):
            part = slice(start, start + ROWS_PER_PASS)
            scores[part] = self._score(np.asarray(image_vectors[part]), features[part], pois[part])
        return scores

    def _score(self, images: np.ndarray, features: np.ndarray, pois: list[ItemPois]) -> np.ndarray:
        if self._exact is not None:
            return self._exact.score(images, features, pois)
        columns = (
            images.astype(np.float32),
            features,
            np.stack([p.pictures for p in pois]),
            np.stack([p.names for p in pois]),
            np.array([p.count for p in pois]),
        )
        with torch.inference_mode():
            return self._head.score(*(torch.from_numpy(c).to(self._device) for c in columns)).cpu().numpy()


def _open(cfg: ModelConfig) -> OpenedFile[SiamesePoiModel]:
    arch = parse_arch(SiameseArch, cfg)
    return open_published(cfg, arch, lambda: SiamesePoiModel(arch), published_names, arch.dim, "align_model.")


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, keys and shapes; nothing is built. Raises WeightsError or ConfigError."""
    return _open(cfg).info


def load(cfg: ModelConfig, options: LoadOptions) -> SiameseRanking:
    """The ranking model without a POI table. Raises WeightsError or ConfigError."""
    return SiameseRanking(_open(cfg), options)
