"""torchvision, without the second that importing torch's compiler takes: every process with a model begins with it.

torchvision 0.29 asks torch._dynamo one thing, in `roi_align` on CUDA alone, and imports some 500 modules for it.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "EfficientNet",
    "MBConv",
    "MBConvConfig",
    "ResNet",
    "SqueezeExcitation",
    "VisionTransformer",
    "torchvision",
]
_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _take_away()
        return getattr(importlib.import_module(self.__name__), name)


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type))


def _take_away() -> None:
    for name in _COMPILER:
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Within the block the compiler is not imported, unless more is asked of it than that one thing."""
    if not {"torchvision", *_COMPILER} & set(sys.modules):
        found = importlib.util.find_spec("torch")
        standing = [_Later(name) for name in _COMPILER]
        standing[0].__path__ = [f"{place}/_dynamo" for place in (found and found.submodule_search_locations) or ()]
        standing[1].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
        sys.modules |= {module.__name__: module for module in standing}
    try:
        yield
    finally:
        _take_away()


with _without_compiler():
    import torchvision
    from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.models.vision_transformer import VisionTransformer
    from torchvision.ops import SqueezeExcitation
