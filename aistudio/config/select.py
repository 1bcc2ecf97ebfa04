"""Settings of the section `select`."""

from pydantic import Field

from aistudio.config.base import Settings


class SelectSettings(Settings):
    """Two-stage selection: recall gate, ranking order, near-duplicates out."""

    num_images: int = Field(3, ge=1)
    """How many images of each item are selected, at most."""
    recall_threshold: float | None = None
    """Smallest recall_score with which an image passes the gate; null: any."""
    recall_top_m: int | None = Field(None, ge=1)  # how many of an item's images reach the ranking
    encoder: str | None = None  # whose vectors tell near-duplicates, of models.encoders; null: the recall model's
    duplicate_cosine: float | None = Field(0.97, gt=-1, le=1)  # more alike than this: duplicates; null: same bytes only
