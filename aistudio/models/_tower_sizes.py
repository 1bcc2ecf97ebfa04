"""Sizes of the published towers, as `arch` in a model's conf gives them; no torch here."""

from pydantic import Field

from aistudio.config import Settings

Stage = tuple[int, int, int, int, int, int]

# expand ratio, kernel, stride, channels in, channels out, repeats of EfficientNet-B0 (arXiv 1905.11946, table 1)
B0_STAGES: tuple[Stage, ...] = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


class ImageArch(Settings):
    """Sizes of the image tower; the defaults are EfficientNet-B3 with 512 outputs."""

    width_mult: float = Field(1.2, gt=0)
    depth_mult: float = Field(1.4, gt=0)
    stages: tuple[Stage, ...] = B0_STAGES
    dim: int = Field(512, ge=1)  # outputs of the classifier, before the projection
    static_size: int = Field(300, ge=8)  # input size for which "same" padding was computed once and kept
    dropout: float = Field(0.3, ge=0, lt=1)  # training only
    drop_connect: float = Field(0.2, ge=0, lt=1)  # training only


class TextArch(Settings):
    """Sizes of the text tower; the defaults are the first 4 layers of bert-base-chinese, 50 tokens."""

    hidden: int = Field(768, ge=1)
    layers: int = Field(4, ge=1)
    heads: int = Field(12, ge=1)
    intermediate: int = Field(3072, ge=1)
    vocab_size: int = Field(21128, ge=5)
    max_tokens: int = Field(50, ge=3)  # [CLS] and [SEP] included
    max_positions: int = Field(512, ge=3)
    dropout: float = Field(0.1, ge=0, lt=1)  # training only


class AlignArch(Settings):
    """Sizes of both towers; the defaults are the published recall model."""

    image: ImageArch = ImageArch()
    text: TextArch = TextArch()
    dim: int = Field(512, ge=1)  # width of the common space
