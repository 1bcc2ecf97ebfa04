"""Settings of the section `models`, and of one conf/models/*.yaml."""

from typing import Any, Literal

from pydantic import Field, field_validator

from aistudio.config.base import Settings


class ModelsSettings(Settings):
    """conf/models/*.yaml of each stage; ranking may be null."""

    recall: str
    ranking: str | None = None
    poi_table: str | None = None  # Parquet made by jobs.poi_table; null: POIs have no vectors


class ImageSpec(Settings):
    """Pixels that a model was trained on: a property of its weights."""

    size: int = Field(224, ge=8)
    resize: Literal["opencv_bilinear", "pil_bicubic_center_crop", "pil_bicubic", "pil_bilinear"] = "opencv_bilinear"
    resize_shortest: int | None = None  # for *_center_crop; null: the size itself
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class WeightsFile(Settings):
    """One file that a model needs: where it is looked for first, and where it comes from when it is not there."""

    path: str  # its folder and name are those that the model asks for
    url: str | None = None  # http(s):// or s3://; every node without the file fetches it once (docs/cluster.md)
    size_bytes: int | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")  # null: what the driver finds holds for all nodes
    licence: str | None = None

    @field_validator("url")
    @classmethod
    def _url_scheme(cls, url: str | None) -> str | None:
        scheme, colon, rest = (url or "").partition(":")
        url = url and f"{scheme.lower()}{colon}{rest}"
        if url is not None and not url.startswith(("https://", "http://", "s3://")):
            raise ValueError("expected an address that begins with https://, http:// or s3://")
        return url


class ModelConfig(Settings):
    """One conf/models/*.yaml. `family` is the name of a file in aistudio/models/."""

    family: str
    name: str
    weights: WeightsFile
    tokenizer: str | None = None  # folder with vocab.txt (BERT) or a Hugging Face folder
    image: ImageSpec = ImageSpec()
    arch: dict[str, Any] = {}  # sizes; each family validates its own
    extra_files: dict[str, WeightsFile] = {}
    licence: str | None = None
    notes: str | None = None

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """Every file that is named here."""
        return (self.weights, *self.extra_files.values())
