"""What a device is asked before it is used: is it there, has it the precision, are its float32 sums exact?"""

import contextlib
from collections.abc import Iterator

import torch

from aistudio.errors import ConfigError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BFLOAT16_SINCE = 8  # NVIDIA compute capability (Ampere); older GPUs emulate it, many times slower


def torch_dtype(precision: str) -> torch.dtype:
    """Raises ConfigError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is not known; one of {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def ready_device(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype to compute with.

    A GPU without bfloat16 is an error, not a silent float16: precision belongs to what a run's scores are of. On a
    CPU without bfloat16 instructions the numbers are right and only slower, so there is no warning.

    Raises:
        ConfigError: unknown precision; no such GPU here; a GPU that lacks the precision.
    """
    place, dtype = torch.device(device), torch_dtype(precision)
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            f"engine.device is {device}, but torch {torch.__version__} finds no Apple GPU (Metal) on this node; "
            "set engine.device: cpu"
        )
    if place.type != "cuda":
        return place, dtype
    if not torch.cuda.is_available():
        why = "is built for CPUs only" if torch.version.cuda is None and torch.version.hip is None else "sees no GPU"
        raise ConfigError(
            f"engine.device is {device}, but torch {torch.__version__} {why} on this node; "
            "install a torch build for its GPU and driver, or set engine.device: cpu"
        )
    if dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        major, minor = torch.cuda.get_device_capability(place)
        raise ConfigError(
            f"engine.precision: {torch.cuda.get_device_name(place)} (compute capability {major}.{minor}) has no "
            f"bfloat16, which needs {_BFLOAT16_SINCE}.0; use float16 or float32"
        )
    return place, dtype


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """No TF32 in convolutions, which costs three digits, and no timing of algorithms (cuDNN's benchmark mode): the
    one that wins would differ from batch size to batch size and from run to run, and the last digits with it.

    The flags belong to the process, not to the thread: callers take turns.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield
