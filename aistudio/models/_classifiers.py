"""Image classification networks without their classifiers: pixels -> what they see where, and that -> one vector.

A backbone gives a map (N,C,H,W) or tokens (N,T,C), of which the first may stand for the whole image.
"""

from typing import Any

import torch
from torch import nn

from aistudio.models._torchvision import VisionTransformer, torchvision

WHOLE_IMAGE_TOKENS = ("cls_token", "class_token", "class_embedding", "distillation_token", "register_tokens")
AUXILIARY = ("AuxLogits", "aux1", "aux2")  # classifiers half-way through, for training
GEM_EPS = 1e-6  # as in the paper's code: numbers below count as this one


class Backbone(nn.Module):
    """Base class. `num_prefix`: tokens before those of the image's parts, the first of them the class token."""

    num_prefix = 0

    def norm(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return the network's normalisation of a pooled (N,C) vector before its classifier."""
        return pooled


class TorchvisionMap(Backbone):
    """Any of torchvision's networks that end in a feature map."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers_to_the_map(net))
        classifier = getattr(net, "classifier", None)
        first = classifier[0] if isinstance(classifier, nn.Sequential) else None
        self.after = first if isinstance(first, nn.LayerNorm) else None  # ConvNeXt

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)

    def norm(self, pooled: torch.Tensor) -> torch.Tensor:
        return pooled if self.after is None else self.after(pooled[:, :, None, None]).flatten(1)


def _layers_to_the_map(net: nn.Module) -> list[nn.Module]:
    """The layers before the average, in order.

    Nearly all networks keep them as children, in the order in which they run, before a child named `avgpool`.
    """
    children = {name: child for name, child in net.named_children() if name not in AUXILIARY}
    if "avgpool" in children:
        names = list(children)
        return [children[name] for name in names[: names.index("avgpool")]]
    if isinstance(net, torchvision.models.MaxVit):
        return [net.stem, *net.blocks]
    if isinstance(net, torchvision.models.DenseNet):
        return [net.features, nn.ReLU()]
    return [child for name, child in children.items() if name not in ("classifier", "fc")]


class TorchvisionTokens(Backbone):
    """torchvision's ViT."""

    num_prefix = 1

    def __init__(self, net: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj, self.class_token, self.encoder = net.conv_proj, net.class_token, net.encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        parts = self.conv_proj(pixels).flatten(2).transpose(1, 2)
        return self.encoder(torch.cat([self.class_token.expand(len(parts), -1, -1), parts], dim=1))


class HuggingFaceBackbone(Backbone):
    """A model of transformers whose `last_hidden_state` is a map or tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        marks = [p for name, p in model.named_parameters() if name.rpartition(".")[2] in WHOLE_IMAGE_TOKENS]
        self.num_prefix = sum(p.shape[1] if p.ndim == 3 else 1 for p in marks)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixels).last_hidden_state

    def norm(self, pooled: torch.Tensor) -> torch.Tensor:
        convnext = self.model.config.model_type in ("convnext", "convnextv2")  # others have normed their tokens before
        return self.model.layernorm(pooled) if convnext else pooled


class Pooled(nn.Module):
    """Pixels (N,3,S,S) -> vectors (N,C): the class token, the mean of all places, or their generalised mean.

    GeM: Radenovic et al., arXiv 1711.02512, eq. 3.
    """

    def __init__(self, backbone: Backbone, pooling: str | None, gem_power: float) -> None:
        super().__init__()
        self.backbone, self.power = backbone, gem_power
        self.pooling = pooling or ("cls" if backbone.num_prefix else "mean")
        if self.pooling == "cls" and not backbone.num_prefix:
            raise ValueError("pooling: cls, but this model has no class token; use mean or gem")

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.backbone(pixels)
        if self.pooling == "cls":
            return self.backbone.norm(found[:, 0])
        places = found.flatten(2) if found.ndim == 4 else found[:, self.backbone.num_prefix :].transpose(1, 2)
        if self.pooling == "mean":
            return self.backbone.norm(places.mean(-1))
        return self.backbone.norm(places.clamp(min=GEM_EPS).pow(self.power).mean(-1).pow(1 / self.power))


def build_torchvision(name: str, size: int) -> tuple[nn.Module, Backbone]:
    """A freshly initialised network of torchvision, and the part of it that is used, which shares its tensors."""
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = size  # its positions are learned for one size
    elif name.startswith("maxvit"):
        options["input_size"] = (size, size)
    elif name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    net = torchvision.models.get_model(name, weights=None, **options)
    return net, TorchvisionTokens(net) if isinstance(net, VisionTransformer) else TorchvisionMap(net)


def torchvision_skeleton(name: str, size: int) -> tuple[nn.Module, Backbone]:
    """The same without numbers. RegNet works its widths out with tensors, which must have some."""
    with torch.device("cpu" if name.startswith("regnet_") else "meta"):
        net, backbone = build_torchvision(name, size)
    net.to("meta")
    return net, backbone


def used_tensors(net: nn.Module, backbone: Backbone) -> dict[str, torch.Size]:
    """Names (in `net`, as in its files) and shapes of the floating-point tensors that the backbone uses."""
    own = {id(t) for t in (*backbone.parameters(), *backbone.buffers())}
    return {
        name: tensor.shape
        for name, tensor in net.state_dict(keep_vars=True).items()
        if id(tensor) in own and tensor.is_floating_point()
    }
