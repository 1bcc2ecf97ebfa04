"""Settings of the task `composer` beside those that every training has (train.py)."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Cutoffs, Settings


class ComposerLossSettings(Settings):
    """Which losses with which weights; the defaults are the published ones."""

    base: Literal["soft_triplet", "batch_based_classification"] = "batch_based_classification"
    """Loss over the batch: each query finds its own target among the others', or by soft triplets."""
    as_published: bool = True  # soft triplets with half the true gradient, as the published backward pass has it
    reconstruction_weight: float = Field(0.1, ge=0)  # of image and text each
    rotation_weight: float = Field(0.01, ge=0)
    """Weight of the rotational symmetry loss of ComposeAE."""


class ComposerSettings(Settings):
    """What is trained on pairs of a reference, a text and a target, and with which losses."""

    # composer: image vectors are those of a frozen tower, stored ones where data.run names a run; image_tower: the
    # composer's own image encoder trains too, on pixels
    train: Literal["composer", "image_tower"] = "composer"
    # table of pairs, as of search queries: text, row_id or image_url of the reference, `target` or `relevant` with row
    # ids or addresses; or DATASET:ROOT; null: of the data set that data.manifest names, or of drawn pictures
    pairs: str | None = None
    validation_pairs: str | None = None  # the same for validation; null: as `pairs`
    text: Literal["modification", "complete"] = "modification"  # of a data set's pairs and queries
    vocabulary: Literal["words", "reference"] = "words"  # of a new LSTM; reference: FashionIQ's letters, as published
    image_weights: str | None = None  # conf of a torchvision resnet18 that a new image encoder begins with
    loss: ComposerLossSettings = ComposerLossSettings()
    k: Cutoffs = [1, 5, 10]  # of hit_rate@K, which the papers call recall@K
