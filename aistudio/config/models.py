"""Settings of the section `models`, and of one conf/models/*.yaml."""

import importlib.util
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aistudio.config.base import Settings
from aistudio.places import in_bucket

ENCODER_NAME = r"[a-z][a-z0-9_]{0,30}"


class ModelsSettings(Settings):
    """conf/models/*.yaml of each role; any may be absent, but not all of them."""

    recall: str | None = None
    """The model that says whether a picture shows what its text says: a built-in name, a conf file, or a model in one
    string (docs/models.md). Example: `published_recall`
    """
    ranking: str | None = None
    """The model that predicts which of an item's pictures is clicked; named as `recall` is. Example:
    `published_ranking`
    """
    encoders: dict[str, str] = {}
    """Further models whose vectors are stored: a name of one's own -> the model. Example: `{look: embedder_lite0}` is
    stored as `embedding_look`
    """
    poi_table: str | None = None  # Parquet made by `aistudio poi_table`; null: POIs have no vectors

    @field_validator("encoders")
    @classmethod
    def _names(cls, encoders: dict[str, str]) -> dict[str, str]:
        for name in encoders:
            if not re.fullmatch(ENCODER_NAME, name):
                raise ValueError(f"{name!r}: an encoder's name is 1 to 31 of a-z, 0-9 and _, a letter first")
        return encoders

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not (self.recall or self.ranking or self.encoders):
            raise ValueError("name at least one model: recall, ranking or one of encoders")
        return self


Resize = Literal[  # images/transform.py says what each does
    "opencv_bilinear",
    "pil_bicubic_center_crop",
    "pil_bilinear_center_crop",
    "torchvision_bicubic_center_crop",
    "torchvision_bilinear_center_crop",
    "pil_bicubic",
    "pil_bilinear",
]


class DetectorSettings(Settings):
    """Which of torchvision's detectors crops to the object, and by which of its boxes (models/_detector.py)."""

    model: str  # torchvision's name, e.g. maskrcnn_resnet50_fpn_v2, fasterrcnn_mobilenet_v3_large_320_fpn
    num_classes: int = Field(2, ge=2)  # with the background, which is class 0
    classes: tuple[int, ...] | None = None  # that count as the object; null: all
    score_threshold: float = Field(0.82, gt=0, le=1)
    """Lowest score with which a box counts as found."""
    lower_by: float = Field(0.2, gt=0)  # where nothing is found, again and again
    lowest_score: float = Field(0.2, gt=0, le=1)
    """Lowest score that is tried where nothing is found."""
    pick: Literal["largest", "best_score"] = "best_score"
    """Which of several boxes is taken."""
    mask_background: str | None = Field(None, pattern=r"^#[0-9a-fA-F]{6}$")  # painted outside the mask, e.g. #F5F5F5
    sha256: str | None = None  # of its weights; filled in from the model's extra_files.detector

    @field_validator("classes")
    @classmethod
    def _no_background(cls, classes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if classes is not None and (not classes or min(classes) < 1):
            raise ValueError("expected class numbers from 1 on; 0 is the background")
        return classes


class ImageSpec(Settings):
    """Pixels that a model was trained on: a property of its weights."""

    size: int = Field(224, ge=8)
    """Side of the square of pixels that the model takes."""
    resize: Resize = "opencv_bilinear"
    """How a picture of any size becomes those pixels: as the model's own training did it (docs/images.md)."""
    resize_shortest: int | None = None  # for *_center_crop; null: the size itself
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of each colour channel, which is subtracted; of pixels between 0 and 1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of each colour channel, which pixels are divided by."""
    crop: Literal["none", "border", "grabcut", "model"] = "none"  # to the object, before resizing (docs/images.md)
    detector: DetectorSettings | None = None  # with crop: model; its weights are the model's extra_files.detector

    @model_validator(mode="after")
    def _detector_where_it_is_used(self) -> Self:
        if (self.crop == "model") != (self.detector is not None):
            raise ValueError("crop: model and detector go together")
        return self

    def identity(self) -> dict[str, Any]:
        """Return what of it enters a model's fingerprint, as plain data.

        Settings that came after the first version are part of it only where they differ from their default: the
        fingerprints of models that do not use them stay as they were.
        """
        first = {"size", "resize", "resize_shortest", "mean", "std"}
        changed = self.model_dump(mode="json", exclude_defaults=True).keys()
        return {k: v for k, v in self.model_dump(mode="json").items() if k in first or k in changed}


class WeightsFile(Settings):
    """One file that a model needs: where it is looked for first, and where it comes from when it is not there."""

    path: str  # its folder and name are those that the model asks for
    url: str | None = None  # http(s):// or s3://; every node without the file fetches it once (docs/cluster.md)
    size_bytes: int | None = None
    """Size that the file must have; null: not compared."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")  # null: what the driver finds holds for all nodes
    licence: str | None = None
    """Licence of the weights, for people; nothing reads it."""

    @field_validator("path")
    @classmethod
    def _path_in_package(cls, path: str) -> str:
        """`package:NAME/FILE` is FILE in the installed Python package NAME; left as it is where there is none."""
        name, _, file = path.removeprefix("package:").partition("/")
        found = importlib.util.find_spec(name) if path.startswith("package:") and name.isidentifier() else None
        return str(Path(found.origin).parent / file) if found is not None and found.origin else path

    @field_validator("url")
    @classmethod
    def _url_scheme(cls, url: str | None) -> str | None:
        scheme, colon, rest = (url or "").partition(":")
        url = url and f"{scheme.lower()}{colon}{rest}"
        if url is not None and not (in_bucket(url) or url.startswith(("https://", "http://"))):
            raise ValueError("expected an address that begins with https://, http://, s3://, gs:// or az://")
        return url


class ModelConfig(Settings):
    """One conf/models/*.yaml. `family` is the name of a file in aistudio/models/."""

    family: str
    """Which code builds the model: the name of a file in aistudio/models/, or of another package's family. Example:
    `align`
    """
    name: str
    """Name of the model in messages, reports and run.json."""
    weights: WeightsFile
    tokenizer: str | None = None  # folder with vocab.txt (BERT) or a Hugging Face folder
    image: ImageSpec = ImageSpec()
    arch: dict[str, Any] = {}
    """Sizes and options; each family checks its own. Example: `{dim: 128}`"""
    extra_files: dict[str, WeightsFile] = {}
    """Files that the model needs beside its weights: name -> file. Example: `{vocab: {path: weights/mine/vocab.txt,
    url: "https://models.example/vocab.txt"}}`
    """
    towers: dict[str, "ModelConfig"] = {}
    """Other models that this one is built on: the role -> a conf file or a built-in name. Example: `{base:
    clip_vit_b32}`
    """
    licence: str | None = None
    """Licence of the model, for people; nothing reads it."""
    notes: str | None = None
    """Anything that people should know; nothing reads it."""

    @model_validator(mode="before")
    @classmethod
    def _weights_of_a_tower(cls, data: Any) -> Any:
        """A model without weights of its own (a weighted sum, say) names those of its first tower."""
        if isinstance(data, dict) and "weights" not in data and isinstance(data.get("towers"), dict):
            first = next(iter(data["towers"].values()), None)
            weights = first.get("weights") if isinstance(first, dict) else getattr(first, "weights", None)
            return data if weights is None else {**data, "weights": weights}
        return data

    @model_validator(mode="before")
    @classmethod
    def _detector_is_pinned(cls, data: Any) -> Any:
        """Write the checksum of a detector's weights into `image`: what crops a picture decides its vector."""
        image = data.get("image") if isinstance(data, dict) else None
        if not isinstance(image, dict) or not isinstance(image.get("detector"), dict):
            return data
        file = (data.get("extra_files") or {}).get("detector")
        sha256 = file.get("sha256") if isinstance(file, dict) else getattr(file, "sha256", None)
        if not sha256:
            raise ValueError("image.crop: model needs extra_files.detector (path and sha256)")
        return data | {"image": image | {"detector": image["detector"] | {"sha256": str(sha256).lower()}}}

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """Every file that is named here, those of the towers included."""
        own = (self.weights, *self.extra_files.values())
        return (*own, *(file for tower in self.towers.values() for file in tower.files))
