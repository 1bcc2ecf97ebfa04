"""What the published composers have in common: both towers, the normalisation layer, and the shape of a composer.

TIRG (arXiv 1812.07119), ComposeAE (arXiv 2006.11149) and its ablation RealSpaceConcatAE compose an image vector z and a
text vector q into a vector of the image space. State-dict names and their order are the published ones.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from aistudio.config import Settings
from aistudio.models._torchvision import torchvision

INITIAL_A = (1.0, 10.0, 1.0, 1.0)  # of which the first two are used
INITIAL_NORM = 4.0
RESNET_FEATURES = 512


class ComposerArch(Settings):
    """Sizes of a composer; the defaults are the published ones.

    `text`: "lstm" (in the weights file), "bert" (a transformers folder, `tokenizer`) or "tower" (`towers.text`).
    """

    dim: int = Field(512, ge=1)  # of image vectors and of composed ones
    text_dim: int = Field(512, ge=1)
    text: Literal["lstm", "bert", "tower"] = "lstm"
    stages: int | None = Field(None, ge=1)  # width of towers.trunk's pooled stages; null: not encoded by them
    text_dropout: float = Field(0.1, ge=0, lt=1)  # training only, as the next one
    image_dropout: float = Field(0.5, ge=0, lt=1)  # of ComposeAE's image branch; the fork's is 0.2


class Composed(NamedTuple):
    """Composed vectors (N,dim); what the decoders make of them, (N,dim) and (N,text_dim), where there are decoders."""

    vectors: torch.Tensor
    image: torch.Tensor | None = None
    text: torch.Tensor | None = None


class StageHead(nn.Module):
    """(N,C) pooled stages of another tower (_composer_stages.py) -> (N,dim).

    Each is brought to mean 0 and deviation 1 over the training pictures, then one layer.
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.fc = nn.Sequential(nn.Linear(features, dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(features))


class NormalizationLayer(nn.Module):
    """x -> norm_s * x / |x|, row by row. Used in losses only; a row of zeros becomes NaN, as in the published code."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_s = nn.Parameter(torch.full((1,), INITIAL_NORM))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.norm_s * rows / rows.norm(dim=1, keepdim=True)


class LstmText(nn.Module):
    """Word ids -> hidden state at each text's own last word -> dropout -> linear."""

    def __init__(self, num_words: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.embedding_layer = nn.Embedding(num_words, dim)
        self.lstm = nn.LSTM(dim, dim)
        self.fc_output = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim))

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(N,L) int64 ids padded on the right, (N,) int64 lengths of at least 1 -> (N,dim)."""
        states, _ = self.lstm(self.embedding_layer(ids.T))
        return self.fc_output(states[lengths - 1, torch.arange(len(lengths), device=ids.device)])


class Concat(nn.Module):
    """Puts z (N,dim) and q (N,text_dim) side by side."""

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.cat(pair, dim=1)


class ComposerModel(nn.Module):
    """The towers and learnt scalars of a composer; a family adds its own layers behind them and `mix`."""

    rotates = False  # knows a conjugate: there is a loss for it
    img_model: nn.Module
    text_model: LstmText

    def __init__(self, arch: ComposerArch, num_words: int | None, own_images: bool = True) -> None:
        """Freshly initialised.

        Args:
            num_words: of the LSTM's vocabulary; None: the text side is another one, and there is no `text_model`.
            own_images: False: the image tower is another model, and there is no `img_model`.
        """
        super().__init__()
        self.arch = arch
        self.a = nn.Parameter(torch.tensor(INITIAL_A))
        self.normalization_layer = NormalizationLayer()
        if own_images:
            self.img_model = StageHead(arch.stages, arch.dim) if arch.stages else image_tower(arch.dim)
        if num_words is not None:
            self.text_model = LstmText(num_words, arch.text_dim, arch.text_dropout)

    def vectors(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> torch.Tensor:
        """(N,dim) image and (N,text_dim) text vectors, as the towers give them -> composed ones, not normalised.

        `conjugate`: rotate back (ComposeAE); other composers do not know it.
        """
        raise NotImplementedError

    def decode(self, vectors: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Decode composed vectors: an image and a text vector; None without decoders."""
        return None, None

    def mix(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> Composed:
        """`vectors` and `decode` at once: what losses need."""
        vectors = self.vectors(z, q, conjugate)
        return Composed(vectors, *self.decode(vectors))


class ComposerAutoencoder(ComposerModel):
    """A composer with decoders; its last step makes them by `add_decoders`, so that the published order stays."""

    def add_decoders(self) -> None:
        dim, text_dim = self.arch.dim, self.arch.text_dim
        self.decoder, self.txtdecoder = mapping(dim, dim, dim), mapping(dim, text_dim, text_dim)

    def decode(self, vectors: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return self.decoder(vectors), self.txtdecoder(vectors)


def image_tower(dim: int) -> nn.Module:
    """(N,3,S,S) normalised pixels -> (N,dim): ResNet-18, of which the last layer is `fc.0`. Freshly initialised."""
    net = torchvision.models.resnet18()
    net.fc = nn.Sequential(nn.Linear(RESNET_FEATURES, dim))
    return net


def mapping(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """BatchNorm, ReLU, linear, ReLU, linear: what ComposeAE calls a mapping, and its decoders."""
    layers = (nn.BatchNorm1d(inputs), nn.ReLU(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return nn.Sequential(*layers)


def steady(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """function(x); for frozen float32 in float64, rounded once.

    A vectorised float32 sigmoid differs in its last bit from the scalar one that takes what is left at a chunk's end,
    so a row's value would depend on its place in the batch.
    """
    if x.requires_grad or torch.is_grad_enabled() or x.device.type != "cpu":
        return function(x)
    return function(x.double()).to(x.dtype)
