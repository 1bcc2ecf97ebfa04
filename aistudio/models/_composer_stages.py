"""A composer's image encoder on another model's image tower: pooled feature maps of all its stages, and a head on them.

A recall model's last layer keeps what tells items apart and drops what a text may ask to change: light, weather,
people. Its earlier stages still hold it. The tower stays as it is; only the head belongs to the composer's file.
"""

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.errors import ConfigError
from aistudio.models._composer_parts import StageHead
from aistudio.models._efficientnet import build_image_tower
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._optimise import Foldable
from aistudio.models._settings import parse_arch
from aistudio.models._tower_sizes import AlignArch
from aistudio.models.align import open_align

TRUNK = "trunk"  # the tower's key in `towers`


class StageFeatures(Foldable):
    """Normalised pixels (N,3,S,S) -> (N,C): mean and standard deviation of every channel after every stage."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        found, x = [], input
        for stage in self:
            x = stage(x)
            flat = x.flatten(2).double()  # rounded once, so that no sum's order is seen
            found += [flat.mean(dim=2), flat.std(dim=2, correction=0)]
        return torch.cat(found, dim=1).to(x.dtype)


def stage_width(trunk: ModelConfig) -> int:
    """Width of the pooled stages of a model. Raises ConfigError for a family without such stages."""
    if trunk.family != "align":
        raise ConfigError(f"towers.trunk: {trunk.name} is of family {trunk.family}; stages are known of family align")
    arch = parse_arch(AlignArch, trunk).image
    with torch.device("meta"):
        stages = StageFeatures(*build_image_tower(arch).features)
        return int(stages.eval()(torch.empty(1, 3, arch.static_size, arch.static_size)).shape[1])


def require_width(cfg: ModelConfig, stages: int) -> None:
    """Raise ConfigError unless `arch.stages` is the width of the trunk's."""
    found = stage_width(cfg.towers[TRUNK])
    if found != stages:
        raise ConfigError(f"{cfg.name}: arch.stages is {stages}, but the stages of towers.trunk are {found} wide")


def load_stages(trunk: ModelConfig, options: LoadOptions, head: StageHead | None = None) -> ImageRunner:
    """The encoder of pooled stages, with a head behind them if one is given, which is taken over."""
    stages = StageFeatures(*open_align(trunk).image_model.features)
    dim = stage_width(trunk) if head is None else head.dim
    tower = stages if head is None else nn.Sequential(stages, head)
    return ImageRunner(tower, trunk.image, dim, options, normalised=False)
