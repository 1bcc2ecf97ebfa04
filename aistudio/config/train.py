"""Settings of one training, conf/train/*.yaml: one class for each task, which the key `task` chooses.

A new task is a class here with `task: Literal["name"]`, an entry in TASKS, and its Task in aistudio/training/.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aistudio.config.base import Cutoffs, Settings
from aistudio.config.download import DownloadSettings
from aistudio.config.images import ImagesSettings
from aistudio.config.log import LogSettings
from aistudio.config.store import StoreSettings
from aistudio.config.train_composer import ComposerSettings
from aistudio.config.train_data import AugmentSettings, DataSettings
from aistudio.config.train_similar import (
    EmbedderSettings,
    LabelledData,
    PictureAugment,
    VaeAugment,
    VaeSettings,
)

CACHE_MARGIN = 1.15  # pixels kept for random crops, times the model's input (DECISIONS 18 of the project's design)


class OptimiserSettings(Settings):
    """How weights are changed. Rates are for the whole batch, whatever the number of workers."""

    name: Literal["adamw", "sgd"] = "adamw"
    """How gradients become changes of the weights: AdamW, or SGD with momentum."""
    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate after the warm-up."""
    tower_factor: float = Field(0.1, ge=0)  # rate of pretrained towers, times learning_rate; random ones have 1
    weight_decay: float = Field(0.05, ge=0)
    """How strongly weights are drawn to 0 with each update."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last change that the next one keeps, of `sgd` alone."""
    clip_norm: float | None = Field(1.0, gt=0)  # largest norm of the gradient; null: not limited


class ScheduleSettings(Settings):
    """The learning rate over the updates: a linear warm-up, then `kind`."""

    kind: Literal["cosine", "step", "constant"] = "cosine"
    """How the rate falls after the warm-up: along a cosine, in steps, or not at all."""
    warmup_share: float = Field(0.05, ge=0, lt=1)  # of all steps
    final_factor: float = Field(0.0, ge=0, le=1)  # of the rate, where the cosine ends
    decay_every_steps: int | None = Field(None, ge=1)  # of kind step
    decay_factor: float = Field(0.1, gt=0, le=1)
    """What the rate is multiplied by at each step of `kind: step`."""

    @model_validator(mode="after")
    def _step_needs_length(self) -> Self:
        if (self.kind == "step") != (self.decay_every_steps is not None):
            raise ValueError("decay_every_steps goes with kind: step, and is needed there")
        return self


class ValidationSettings(Settings):
    """How often the model is judged; a checkpoint is committed each time."""

    every_epochs: int | None = Field(1, ge=1)
    """Epochs between two validations; null: `every_steps` alone counts."""
    every_steps: int | None = Field(None, ge=1)  # beside it or, with every_epochs: null, instead of it
    metric: str | None = None  # that chooses the best checkpoint; null: the task's
    worst_cases: int = Field(24, ge=0, le=500)  # shown in the report


class EarlyStoppingSettings(Settings):
    """Stop when the metric has not improved for a while."""

    patience: int | None = Field(None, ge=1)  # validations; null: never
    min_delta: float = Field(0.0, ge=0)
    """Smallest change for the better that counts as an improvement."""


class WorkersSettings(Settings):
    """On how many workers to train; more than one needs a Ray cluster."""

    num_workers: int | Literal["auto"] = 1  # auto: one for each GPU of the cluster, without GPUs one for each node
    cpus_per_worker: float = Field(1.0, gt=0)
    """CPUs that each worker reserves."""
    max_failures: int = Field(3, ge=0)  # of workers or nodes, before the training stops
    address: str | None = None  # Ray cluster; null: RAY_ADDRESS, else a local one is started

    @field_validator("num_workers")
    @classmethod
    def _positive(cls, num: int | str) -> int | str:
        if isinstance(num, int) and num < 1:
            raise ValueError("expected 1 or more, or auto")
        return num


class TrainSettings(Settings):
    """What every task has."""

    model: str  # conf/models/*.yaml: sizes, pixels, tokenizer, and the weights to begin with
    init: Literal["weights", "random"] = "weights"  # begin with the model's file, or with random numbers
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")  # of the exported model
    output: str  # folder of the training, local or s3://
    data: DataSettings
    seed: int = Field(0, ge=0)
    """Seed of all that is random: order, first weights, changes of pictures."""
    steps: int | None = Field(None, ge=1)
    """How long to train, in updates of the weights; either this or `epochs`."""
    epochs: int | None = Field(None, ge=1)
    """How long to train, in passes over the training rows; either this or `steps`."""
    batch_size: int = Field(256, ge=1)  # rows (pairs) of an update, on all workers together
    micro_batches: int = Field(1, ge=1)  # parts of a worker's batch, one after the other: less memory
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    validation: ValidationSettings = ValidationSettings()
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Share of the old in a running average of the weights, which is then what is judged and exported; null: no
    average.
    """
    freeze_batch_norm: bool = False  # running statistics stay as they are; for small batches on pretrained towers
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the forward pass; losses are float32
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the training runs; `auto`: on a GPU where there is one, else on a Mac's (mps), else on the CPU."""
    threads: int | None = Field(None, ge=1)  # of torch on a CPU; null: its own choice
    channels_last: bool = True
    """Whether image towers keep their numbers channels last in memory, which most processors are faster with."""
    compile: bool = False
    """Whether the model is compiled by torch, which needs a C++ compiler."""
    checkpoint_every_steps: int | None = Field(None, ge=1)  # beside those of the validations
    log_every_steps: int = Field(50, ge=1)
    """Updates between two lines of metrics.csv."""
    workers: WorkersSettings = WorkersSettings()
    augment: AugmentSettings = AugmentSettings()
    download: DownloadSettings = DownloadSettings()
    images: ImagesSettings = ImagesSettings()
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("say how long: either steps or epochs")
        if self.validation.every_epochs is None and self.validation.every_steps is None:
            raise ValueError("validation: every_epochs or every_steps is needed")
        return self

    def shape(self) -> dict[str, Any]:
        """Return what decides the weights, as plain data; settings that equal their default are left out."""
        data = self.model_dump(mode="json", exclude_defaults=True, exclude=_SHAPES_NOTHING)
        for source in (data.get("data", {}), data.get("data", {}).get("validation", {})):
            for key in ("cache", "cache_max_gb", "run"):  # a run is known by its content, not by where it lies
                source.pop(key, None)
            source.get("roles", {}).pop("path", None)  # as the run: by which rows it chooses
        return data | {"task": self.task}  # type: ignore[attr-defined]  # each task names itself

    def cache_px(self, size: int) -> int:
        """Return the side of cached training pixels for a model that takes `size`."""
        if not self.augment.crop:
            return size
        return self.data.cache_px or math.ceil(CACHE_MARGIN * size)


_SHAPES_NOTHING = {
    "output", "name", "workers", "download", "store", "log", "threads", "device", "log_every_steps",
    "checkpoint_every_steps",
}  # fmt: skip


class RankingTraining(TrainSettings):
    """Train a ranking model on pairs: rows with pair_id, side (a, b) and ctr."""

    task: Literal["ranking"]
    """Trains a ranking model on pairs: rows with pair_id, side (a, b) and ctr."""
    train: Literal["head", "image_tower", "towers"] = "head"  # head alone, with the image tower, with both towers
    init_head: Literal["weights", "random"] = "weights"  # as `init`, for the head alone
    towers_from: str | None = None  # conf of a recall model whose towers are taken over
    poi_table: str | None = None  # Parquet; "build": from the training images; null: POIs have no vectors
    vector_dropout: float = Field(0.0, ge=0, lt=1)  # of the image vector's entries, against learning pictures by heart


class RecallTraining(TrainSettings):
    """Train a recall model on rows of an image and its text."""

    task: Literal["recall"]
    """Trains a recall model on rows of an image and its text."""
    train: Literal["full", "last_blocks", "projection"] = "full"
    """What is trained: all of both towers, their last blocks, or the projections alone."""
    last_blocks: int = Field(1, ge=1)  # of each tower, with train: last_blocks; projections train too
    temperature: float = Field(0.07, gt=0)  # where the learned one begins
    hard_negatives: str | None = None  # column: a batch's items share its value; null: items of any kind
    images_per_item: int = Field(1, ge=1)  # in a batch
    click_weight: float = Field(0.0, ge=0)  # of a click loss on rows with ctr: keeps what a ranking model needs
    k: Cutoffs = [1, 5, 10]
    """Cut-offs of the hit rate that validation reports."""


class ComposerTraining(ComposerSettings, TrainSettings):
    """Train a composer on pairs: a reference picture and a text ask for a target picture."""

    task: Literal["composer"]
    """Trains a composer on pairs: a reference picture and a text ask for a target picture."""


class EmbedderTraining(EmbedderSettings, TrainSettings):
    """Train an embedder on labelled images: alike are those with the same label."""

    task: Literal["embedder"]
    """Trains an embedder on labelled images: alike are those with the same label."""
    data: LabelledData
    augment: PictureAugment = PictureAugment()

    @model_validator(mode="before")
    @classmethod
    def _batch_size_follows(cls, data: Any) -> Any:
        return with_batch_size(data, cls)


class VaeTraining(VaeSettings, TrainSettings):
    """Train a variational autoencoder on images; labels only tell how well its vectors find what is alike."""

    task: Literal["vae"]
    """Trains a variational autoencoder on images; labels only tell how good its vectors are."""
    data: LabelledData
    augment: VaeAugment = VaeAugment()


def with_batch_size(data: Any, cls: type[EmbedderSettings]) -> Any:
    """Set `batch_size` to P x K. Raises ValueError where another one is asked for."""
    if not isinstance(data, dict):
        return data
    p, k = (data.get(name, cls.model_fields[name].default) for name in ("classes_per_batch", "images_per_class"))
    if not (isinstance(p, int) and isinstance(k, int)):
        return data  # the fields say what is wrong
    if data.get("batch_size") not in (None, p * k):
        raise ValueError(
            f"batch_size {data['batch_size']}: a batch is classes_per_batch x images_per_class = {p} x {k} images; "
            "leave batch_size out"
        )
    return data | {"batch_size": p * k}


TrainConfig = Annotated[
    RankingTraining | RecallTraining | ComposerTraining | EmbedderTraining | VaeTraining, Field(discriminator="task")
]
TASKS: dict[str, type[TrainSettings]] = {
    "ranking": RankingTraining,
    "recall": RecallTraining,
    "composer": ComposerTraining,
    "embedder": EmbedderTraining,
    "vae": VaeTraining,
}
