"""Settings of the tasks `embedder` and `vae` beside those that every training has (train.py)."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from aistudio.config.base import Cutoffs, Settings
from aistudio.config.train_data import AugmentSettings, DataSettings, RolesSettings


class LabelledData(DataSettings):
    """Images with labels, as a column of the manifest or of the table of roles."""

    label: str | None = None  # column; needed for an embedder. Of a folder of images: folder
    labels_left_out: list[str] = []
    """Labels of which nothing is trained on or judged by. Example: `[unknown]`"""
    roles: RolesSettings | None = None
    """A table that says of each row whether it is trained on or judged by; null: validation.share of the items.
    Example: `{path: roles.csv}`
    """

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if self.run is not None or self.drawn is not None:
            raise ValueError("images with labels come from a manifest; name data.manifest")
        if self.roles is not None and self.validation.num_named:
            raise ValueError("roles split the rows; then validation has no source of its own")
        return self


class JitterSettings(Settings):
    """How far colours are changed at random: 0.2 is a factor between 0.8 and 1.2; hue is a share of the circle.

    hue stays 0 where items differ by colour (metals, cloth).
    """

    brightness: float = Field(0.2, ge=0, le=1)
    """How far brightness is changed at random: 0.2 is a factor between 0.8 and 1.2."""
    contrast: float = Field(0.2, ge=0, le=1)
    """How far contrast is changed at random, likewise."""
    saturation: float = Field(0.2, ge=0, le=1)
    """How far saturation is changed at random, likewise."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """How far hue is turned at random, as a share of the circle; 0 where items differ by colour."""


class PictureAugment(AugmentSettings):
    """How training pictures are changed at random (torchvision.transforms.v2); the crop is resized to the input."""

    crop_area: tuple[float, float] = (0.6, 1.0)  # its share of the image, from - to
    crop_aspect: tuple[float, float] = (0.75, 4 / 3)  # width / height, from - to
    rotate_degrees: float = Field(0.0, ge=0, le=180)  # to either side; 180 for items that lie at any angle
    jitter: JitterSettings = JitterSettings()

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        (low, high), (narrow, wide) = self.crop_area, self.crop_aspect
        if not (0 < low <= high <= 1 and 0 < narrow <= wide):
            raise ValueError("crop_area: expected two numbers in 0 .. 1, crop_aspect: two above 0; the smaller first")
        return self


class VaeAugment(PictureAugment):
    """A VAE is to see images as they are."""

    crop: bool = False
    """Whether a random square is cut out; a VAE is to see pictures as they are."""
    jitter: JitterSettings = JitterSettings(brightness=0, contrast=0, saturation=0)


class MetricLossSettings(Settings):
    """A loss and a miner of pytorch-metric-learning: short names (docs/similar.md) or its class names.

    options, miner_options: the library's keyword arguments. `triplet` also takes `soft: true`.
    """

    name: str = "supcon"
    """The loss: a short name such as `supcon` or `triplet` (docs/similar.md), or a class of
    pytorch-metric-learning.
    """
    options: dict[str, Any] = {}
    """Keyword arguments of the loss. Example: `{temperature: 0.1}`"""
    miner: str | None = None  # hard, semihard, all_violating, multi_similarity; null: all pairs or triplets
    miner_options: dict[str, Any] = {}
    """Keyword arguments of the miner. Example: `{epsilon: 0.1}`"""
    squared: bool = False  # distances of triplet and contrastive losses and their miners
    nonzero_mean: bool = False  # mean over triplets with a loss above 0, the library's default; false: over all


class EmbedderSettings(Settings):
    """What an embedder's batches and loss are."""

    trunk_from: str | None = None  # conf of an embedder whose trunk is taken over, such as a pretrained one
    classes_per_batch: int = Field(10, ge=2)  # on all workers together
    images_per_class: int = Field(8, ge=2)
    """Images of each class in a batch."""
    batches_per_epoch: int | None = Field(None, ge=1)  # null: as many as there are images for
    loss: MetricLossSettings = MetricLossSettings(options={"temperature": 0.1})
    gather: bool = True  # several workers: compare the images of all of them, not only a worker's own
    k: Cutoffs = [1, 5, 10]
    """Cut-offs of the retrieval metrics: CMC, recall and precision at K."""
    max_queries: int | None = Field(2_000, ge=1)  # validation images that ask all others; of more, some by the seed


class VaeLossSettings(Settings):
    """Reconstruction and KL; beta itself is a property of the model (arch.beta)."""

    reconstruction: Literal["bce", "half_squared_error"] = "bce"
    """How a picture and its reconstruction are compared: binary cross-entropy, or half the squared error."""
    warmup_share: float = Field(0.2, ge=0, le=1)  # of all updates, over which beta rises from 0
    free_bits: float = Field(0.0, ge=0)  # nats for each latent dimension that are not pushed down


class VaeSettings(Settings):
    """What a VAE's loss is and how it is judged."""

    loss: VaeLossSettings = VaeLossSettings()
    k: Cutoffs = [1, 5, 10]
    """Cut-offs of the retrieval metrics, computed from the labels."""
    max_queries: int | None = Field(2_000, ge=1)
    """Validation images that ask all others; of more, some are drawn by the seed."""
