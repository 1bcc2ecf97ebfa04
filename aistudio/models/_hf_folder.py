"""A Hugging Face model's folders, local or from the hub: its files, its tensors, and what its image processor does."""

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
import transformers
from pydantic import Field
from transformers.image_processing_backends import PilBackend
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from aistudio.config import ImageSpec, ModelConfig, Resize, Settings
from aistudio.errors import WeightsError
from aistudio.models._hub import WANTED, hub_folder
from aistudio.weights.files import file_sha256, require_files

FOLDER_ERRORS = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError, EOFError),
    *(pickle.UnpicklingError, safetensors.SafetensorError),
)
RESAMPLE = {3: "bicubic", 2: "bilinear"}  # Pillow's numbers
CROPPED: dict[str, Resize] = {"bicubic": "pil_bicubic_center_crop", "bilinear": "pil_bilinear_center_crop"}
SQUASHED: dict[str, Resize] = {"bicubic": "pil_bicubic", "bilinear": "pil_bilinear"}
CONVNEXT_SQUASHES = 384  # pixels from which on its processor squashes instead of cropping
FIXED_LENGTH = ("siglip", "siglip2")  # trained on texts filled up to one length, without a mask
STEPS = ("preprocess", "_preprocess", "resize", "center_crop", "rescale", "normalize")


class HfArch(Settings):
    """Where the parts are; null means the folder of `weights.path`."""

    model: str | None = None  # folder or hub id of the dual encoder
    text_model: str | None = None  # folder or hub id of a text tower of its own
    text_weights: str | None = None  # file that replaces that tower's weights (fine-tuned)
    revision: str | None = None  # of the hub repository
    max_tokens: int | None = Field(None, ge=3)  # null: what the text tower can take
    # max_length, without a mask: SigLIP was trained so. auto: by the kind of model, and only pixels that are proved.
    padding: Literal["longest", "max_length", "auto"] = "longest"


class Folders:
    """The local folders of a model, found or fetched."""

    def __init__(self, cfg: ModelConfig, arch: HfArch) -> None:
        # Files of a hub model are not listed in the conf; those that can be fetched by it are.
        self.files = {} if arch.model and not cfg.weights.url else require_files(cfg)
        self.model = _folder(arch.model or str(Path(cfg.weights.path).parent), arch.revision)
        self.text = _folder(arch.text_model, arch.revision) if arch.text_model else self.model
        for folder in (self.model, self.text):
            found = (path for pattern in WANTED for path in folder.glob(pattern))
            self.files |= {str(path): file_sha256(path) for path in found}
        if arch.text_weights:
            if not Path(arch.text_weights).is_file():
                raise WeightsError(f"{arch.text_weights}: no such weights file (arch.text_weights of {cfg.name})")
            self.files[arch.text_weights] = file_sha256(arch.text_weights)


def _folder(name: str, revision: str | None) -> Path:
    """A local folder as it is, else a hub repository's files. Raises WeightsError when neither can be had."""
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise WeightsError(f"{name}: no such folder; fetch it with python -m aistudio weights fetch")
    return hub_folder(name, revision)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """transformers reports damaged or foreign files by many exceptions; all mean that the folder is not usable."""
    try:
        yield
    except FOLDER_ERRORS as e:
        raise WeightsError(f"{folder}: not a usable model folder: {type(e).__name__}: {e}") from None


def pretrained(auto: Any, folder: Path, **options: Any) -> Any:
    """A model with every one of its tensors from the folder. Raises WeightsError otherwise."""
    with explained(folder):
        model, report = auto.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32, **options
        )
    missing = sorted(map(str, report["missing_keys"])) + sorted(map(str, report.get("mismatched_keys", ())))
    if missing:
        raise WeightsError(f"{folder}: {len(missing)} tensors missing or mis-shaped: {', '.join(missing[:8])}")
    return model.eval()


def image_spec(folder: Path, conf: ImageSpec) -> ImageSpec:
    """Pixels as the folder's own image processor makes them, of what `conf` crops to.

    Raises:
        WeightsError: no processor, or one that does something else than resize, crop and normalise.
    """
    with explained(folder):
        p = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    size, kernel = _plain(p.size), RESAMPLE.get(int(p.resample))
    crop = _plain(getattr(p, "crop_size", None)) if getattr(p, "do_center_crop", False) else None
    mean, std = tuple(p.image_mean), tuple(p.image_std)
    if not (p.do_resize and p.do_normalize and kernel) or abs(p.rescale_factor * 255 - 1) > 1e-6:
        raise WeightsError(f"{folder}: an image processor that does not resize (bilinear or bicubic) and normalise")
    colours: Any = {"mean": mean, "std": std, "crop": conf.crop, "detector": conf.detector}
    if "shortest_edge" in size and hasattr(p, "crop_pct"):  # ConvNeXt's: the shares of a crop instead of its size
        edge = size["shortest_edge"]
        if edge >= CONVNEXT_SQUASHES:
            return ImageSpec(size=edge, resize=SQUASHED[kernel], **colours)
        return ImageSpec(size=edge, resize=CROPPED[kernel], resize_shortest=int(edge / p.crop_pct), **colours)
    if crop and "shortest_edge" in size and crop["height"] == crop["width"]:
        shortest = size["shortest_edge"]
        return ImageSpec(size=crop["height"], resize=CROPPED[kernel], resize_shortest=shortest, **colours)
    if not crop and "height" in size and size["height"] == size["width"]:
        return ImageSpec(size=size["height"], resize=SQUASHED[kernel], **colours)
    raise WeightsError(f"{folder}: image processor with size {size}, crop {crop}, {kernel} is not supported")


def require_plain_steps(folder: Path) -> None:
    """Are the settings of the folder's processor all there is to it? `image_spec` reads nothing else.

    Raises:
        WeightsError: its class has steps of its own, or it resizes tensors, which gives other pixels than Pillow.
    """
    with explained(folder):
        p = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    kind, known = type(p), (PilBackend, ConvNextImageProcessorPil)
    own = [step for step in STEPS if not any(getattr(kind, step, None) is getattr(k, step) for k in known)]
    if own or getattr(p, "do_pad", None):
        what = ", ".join(own) or "do_pad"
        raise WeightsError(f"{folder}: image processor {kind.__name__} has steps that are not supported here: {what}")


def _plain(size: Any) -> dict[str, int]:
    """A processor's size as a dict without its unset entries."""
    entries = size if isinstance(size, dict) else vars(size) if hasattr(size, "__dict__") else {}
    return {key: value for key, value in entries.items() if value is not None}
