"""Family `siamese_poi`: the ranking model, two towers of its own and a head with attention over the item's POIs.

score = linear2(relu(linear4(relu(linear3([image, text, attended POIs]))))); higher means more clicks. Trained on pairs
with BCE(sigmoid(score_a - score_b)). Which POIs an item has, and their vectors, is poi_table.py's.
"""

import torch
from pydantic import Field
from torch import nn

from aistudio.models.align import AlignArch, AlignModel
from aistudio.models.align import published_names as align_names

MAX_POIS = 5
DICE_EPS = 1e-9


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
