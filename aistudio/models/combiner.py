"""Family `combiner`: late fusion of a dual encoder's image and text vectors by a small network.

After Baldrati et al., Composed Image Retrieval using Contrastive Learning and Task-oriented CLIP-based Features (arXiv
2308.11485, section 3.3): s * text + (1 - s) * image + output(combined), of length one; s is a sigmoid of the same
projections. Any `align` or `hf_dual` model may be `towers.base`; only the network is trained, on stored vectors.
State-dict names are those of the paper's code.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from aistudio.config import ModelConfig, Settings
from aistudio.models import Kind
from aistudio.models._checkpoint import fit, load_into, read_weights
from aistudio.models._composer import LoadedComposer
from aistudio.models._composer_open import check_towers, composer_info, load_tower, own_files, tower_images
from aistudio.models._composer_parts import steady
from aistudio.models._composer_texts import TowerSide
from aistudio.models._encode import LoadOptions
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo

KIND = Kind.COMPOSER
REMEMBERED = True

DROPOUT = 0.5  # training only


class CombinerArch(Settings):
    """Sizes of the network; the paper's are four and eight times the vectors' width."""

    projection: int = Field(2560, ge=1)
    hidden: int = Field(5120, ge=1)


class CombinerModel(nn.Module):
    """The network, differentiable; it holds no tower."""

    def __init__(self, dim: int, arch: CombinerArch) -> None:
        super().__init__()
        both = 2 * arch.projection
        self.text_projection_layer = nn.Linear(dim, arch.projection)
        self.image_projection_layer = nn.Linear(dim, arch.projection)
        self.dropout = nn.Dropout(DROPOUT)
        self.combiner_layer = nn.Linear(both, arch.hidden)
        self.output_layer = nn.Linear(arch.hidden, dim)
        self.dynamic_scalar = nn.Sequential(
            *(nn.Linear(both, arch.hidden), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(arch.hidden, 1))
        )

    def vectors(self, z: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """(N,dim) unit image and text vectors -> (N,dim) unit vectors."""
        projected = (self.text_projection_layer(q), self.image_projection_layer(z))
        both = torch.cat([self.dropout(F.relu(side)) for side in projected], dim=1)
        combined = self.dropout(F.relu(self.combiner_layer(both)))
        share = steady(torch.sigmoid, self.dynamic_scalar(both))
        return F.normalize(self.output_layer(combined) + share * q + (1 - share) * z, dim=1)


def _open(cfg: ModelConfig) -> tuple[WeightsInfo, CombinerModel]:
    arch = parse_arch(CombinerArch, cfg)
    towers = check_towers(cfg, required=("base",))
    files = own_files(cfg)
    dim = towers["base"].dim
    model = CombinerModel(dim, arch)
    state = model.state_dict()
    found = {name: value for name, value in read_weights(cfg.weights.path)[0].items() if name != "logit_scale"}
    tensors = fit(found, {name: value.shape for name, value in state.items()}, cfg.weights.path)
    load_into(model, tensors, {name: name for name in state}, cfg.weights.path)
    return composer_info(cfg, files, towers, arch.model_dump(mode="json") | {"dim": dim}, tensors), model.eval()


def open_combiner(cfg: ModelConfig) -> CombinerModel:
    """The checked network in eval mode, float32, on the CPU; it can be trained. Raises WeightsError or ConfigError."""
    return _open(cfg)[1]


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check the network's file and the base model. Raises WeightsError or ConfigError."""
    return _open(cfg)[0]


def load(cfg: ModelConfig, options: LoadOptions) -> LoadedComposer:
    """Load the combiner on its base model, ready to compose. Raises WeightsError or ConfigError."""
    info, model = _open(cfg)
    base = load_tower(cfg.towers["base"], options)
    return LoadedComposer(tower_images(base), TowerSide(base), model, info.fingerprint, options)
