"""Where a training's rows come from, and how they are split: the section `data` of conf/train/*.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aistudio.config.base import Settings
from aistudio.config.manifest import ManifestSettings


class DrawnData(Settings):
    """Pictures drawn by aistudio/demo: equal settings draw equal pictures."""

    seed: int = Field(1_000, ge=0)  # the demo's own catalogue is 1, the held-out one 2
    images_per_sight: int = Field(20, ge=2)
    """How many pictures are drawn of each sight."""
    num_sights: int | None = Field(None, ge=2)  # how many, from the first; null: all
    num_pairs: int = Field(1_000, ge=1)  # of the task ranking


class SourceSettings(Settings):
    """Where rows come from; exactly one of the three."""

    run: str | None = None  # stored run, local or s3://: its score files give texts, labels and vectors
    manifest: ManifestSettings | None = None
    """A manifest whose pictures are downloaded as scoring does it; settings as in a job's `manifest`. Example:
    `{path: train.csv, format: csv}`
    """
    drawn: DrawnData | None = None
    """Pictures that are drawn, as in the demo: seed, images_per_sight, num_sights, num_pairs. Example: `{seed: 1000,
    images_per_sight: 20}`
    """

    @property
    def num_named(self) -> int:
        """How many of the sources are named."""
        return sum(value is not None for value in (self.run, self.manifest, self.drawn))


class RolesSettings(Settings):
    """A table that says of each row whether it is trained on or judged by; rows that it does not name are neither."""

    path: str  # csv, tsv or parquet, local or s3://
    key: str = "row_id"  # its column with row ids; of a folder of images these are paths below the folder
    column: str = "role"
    """Its column that says what a row is for."""
    train: list[str] = ["train"]
    """Values of that column by which rows are trained on. Example: `[train, extra]`"""
    validation: list[str] = ["validation", "val", "dev"]
    """Values of that column by which rows are for validation. Example: `[dev]`"""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.train) & set(self.validation):
            raise ValueError(f"{', '.join(sorted(both))}: stands in train and in validation")
        return self


class ValidationData(SourceSettings):
    """Rows that are never trained on: a source of their own, or a share of the items."""

    share: float = Field(0.1, gt=0, lt=1)  # of the items, by a hash of item_id; where no source is named

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.num_named > 1:
            raise ValueError("name at most one of run, manifest, drawn; without any, `share` of the items is used")
        return self


class DataSettings(SourceSettings):
    """What is trained on, and what is kept for validation."""

    validation: ValidationData = ValidationData()
    # auto: refuse where validation is a source of its own, else remove. same_items: new images of known items are meant
    # (a fixed catalogue); then only images on both sides are removed.
    overlap: Literal["auto", "refuse", "remove", "same_items"] = "auto"
    vectors: str | None = None  # vector column of a run; null: the one that comes from the model's own image tower
    cache: str | None = None  # local folder; null: $AISTUDIO_CACHE/training, else ~/.cache/aistudio/training
    cache_max_gb: float = Field(50.0, gt=0)  # data sets not in use are removed, oldest first, to stay below it
    cache_px: int | None = Field(None, ge=8)  # side of cached training pixels; null: 1.15 x the input, if cropped
    max_failed_share: float = Field(0.5, ge=0, le=1)  # of the rows, that may be left out before the training stops

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if self.overlap == "same_items" and not self.validation.num_named:
            raise ValueError("overlap: same_items needs a source of its own for validation")
        if self.num_named != 1:
            raise ValueError(f"name exactly one of run, manifest, drawn; found {self.num_named}")
        return self


class AugmentSettings(Settings):
    """What is done to training pixels at random, anew in each epoch."""

    crop: bool = True  # a random square of the input's size out of the cached cache_px
    mirror: bool = True
    """Whether pictures are mirrored left to right, at random."""
