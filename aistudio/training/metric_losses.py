"""Losses and miners of pytorch-metric-learning by name, with their own keyword arguments and honest means.

The library's distances are of *normalised* vectors and its mean is over pairs or triplets with a loss above 0 only;
here both are settings, and the mean is the textbook's unless `nonzero_mean` is set. Labels are numbered 0 .. C - 1
first: the library's own code rounds large ones. Losses with weights of their own (proxies) are modules with
parameters, which belong into the optimiser.
"""

import difflib
import inspect
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from aistudio.errors import ConfigError

LOSSES = {
    "triplet": "TripletMarginLoss",
    "contrastive": "ContrastiveLoss",
    "nt_xent": "NTXentLoss",
    "supcon": "SupConLoss",
    "multi_similarity": "MultiSimilarityLoss",
    "proxy_anchor": "ProxyAnchorLoss",
    "arcface": "ArcFaceLoss",
}
MINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "hard": ("BatchHardMiner", {}),
    "semihard": ("TripletMarginMiner", {"type_of_triplets": "semihard"}),
    "all_violating": ("TripletMarginMiner", {"type_of_triplets": "all"}),
    "multi_similarity": ("MultiSimilarityMiner", {}),
}
OF_DISTANCES = {"triplet", "contrastive"}  # the others' formulas are of cosines, or they have defaults of their own


@dataclass(frozen=True)
class LossSettings:
    """A loss and a miner by name: ours (`LOSSES`, `MINERS`) or the library's class names.

    options and miner_options are the library's keyword arguments. normalise and power (2: squared): of the distances of
    `triplet`, `contrastive` and their miners; everything else normalises. nonzero_mean: see the head of this file.
    """

    name: str = "supcon"
    options: dict[str, Any] = field(default_factory=dict)
    miner: str | None = None
    miner_options: dict[str, Any] = field(default_factory=dict)
    normalise: bool = True
    power: int = 1  # 2: squared distances
    nonzero_mean: bool = False


class BatchLoss(NamedTuple):
    """A batch's loss; None where the miner found nothing: skip the batch and count it."""

    loss: torch.Tensor | None
    num_mined: int | None  # triplets or pairs that the miner found; None without a miner


class MetricLoss(nn.Module):
    """A loss with its miner, for vectors of `dim` and `num_classes` classes numbered from 0."""

    def __init__(self, settings: LossSettings, num_classes: int, dim: int) -> None:
        """Build both.

        Raises:
            ConfigError: the library is not installed, a name is unknown, or an option is not the class's.
        """
        super().__init__()
        self.settings = settings
        self.loss = _build_loss(settings, num_classes, dim)
        self.miner = _build_miner(settings) if settings.miner else None

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> BatchLoss:
        """(N, dim) vectors and (N,) class numbers -> the batch's loss, in float32 at least."""
        x = vectors if vectors.dtype == torch.float64 else vectors.float()
        if self.miner is None:
            return BatchLoss(self.loss(x, labels), None)
        found = self.miner(x, labels)
        size = len(found[0]) if len(found) == 3 else len(found[0]) + len(found[2])
        return BatchLoss(self.loss(x, labels, found) if size else None, size)


def class_numbers(labels: list[str]) -> tuple[torch.Tensor, list[str]]:
    """Number labels from 0 in sorted order: (N,) int64, and the label of each number."""
    names = sorted(set(labels))
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[label] for label in labels], dtype=torch.int64), names


def _build_loss(settings: LossSettings, num_classes: int, dim: int) -> nn.Module:
    losses, _, distances, reducers = _library()
    cls = _class_of(losses, LOSSES.get(settings.name, settings.name), settings.name, "loss", LOSSES)
    options = dict(settings.options)
    taken = inspect.signature(cls.__init__).parameters
    if "num_classes" in taken:
        options |= {"num_classes": num_classes, "embedding_size": dim}
    elif settings.name in OF_DISTANCES:
        options.setdefault(
            "distance", distances.LpDistance(normalize_embeddings=settings.normalise, p=2, power=settings.power)
        )
    if settings.name in OF_DISTANCES and not settings.nonzero_mean:
        options.setdefault("reducer", reducers.MeanReducer())
    if settings.name == "triplet" and options.pop("soft", False):
        options |= {"smooth_loss": True, "margin": 0.0}
    return _built(cls, options, f"loss {settings.name}")


def _build_miner(settings: LossSettings) -> nn.Module:
    _, miners, distances, _ = _library()
    name, preset = MINERS.get(settings.miner or "", (settings.miner or "", {}))
    cls = _class_of(miners, name, settings.miner or "", "miner", MINERS)
    options = {**preset, **settings.miner_options}
    if settings.miner in ("hard", "semihard", "all_violating"):
        options.setdefault(
            "distance", distances.LpDistance(normalize_embeddings=settings.normalise, p=2, power=settings.power)
        )
    if settings.miner in ("semihard", "all_violating") and "margin" in settings.options:
        options.setdefault("margin", settings.options["margin"])  # one margin, unless two are asked for
    return _built(cls, options, f"miner {settings.miner}")


def _class_of(module: Any, name: str, asked: str, what: str, ours: dict[str, Any]) -> Any:
    suffix = what.capitalize()
    known = [n for n in dir(module) if n.endswith(suffix) and not n.startswith("Base")]
    if name not in known:
        near = difflib.get_close_matches(asked, [*ours, *known], n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join([*ours, *known])}"
        raise ConfigError(f"{what} {asked!r} is not known; {hint}")
    return getattr(module, name)


def _built(cls: Any, options: dict[str, Any], what: str) -> nn.Module:
    own = [p for c in cls.__mro__ for p in inspect.signature(c.__init__).parameters if c is not object]
    known = sorted(set(own) - {"self", "args", "kwargs"})
    wrong = [name for name in options if name not in known]
    if wrong:
        near = difflib.get_close_matches(wrong[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{what}: {wrong[0]} is not one of its options; {hint}")
    try:
        return cls(**options)
    except (TypeError, ValueError, AssertionError) as e:
        raise ConfigError(f"{what}: {e}") from None


def _library() -> tuple[Any, Any, Any, Any]:
    try:
        from pytorch_metric_learning import distances, losses, miners, reducers
    except ImportError:
        raise ConfigError(
            "training an embedder needs pytorch-metric-learning; install it with\n"
            "  pip install 'aistudio-catalogue[train]'"
        ) from None
    return losses, miners, distances, reducers
