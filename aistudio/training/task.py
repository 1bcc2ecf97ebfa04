"""What a task gives the loop: a module, batches, a loss, a validation. The loop knows nothing else of it.

A new task is one class with these methods; see ranking_task.py for the shortest one.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.config.train import OptimiserSettings
from aistudio.training.exporting import Place

B = TypeVar("B")


class Progress(NamedTuple):
    """Where the training stands, for losses that change with time: updates done, and updates in all."""

    step: int
    total_steps: int


class Case(NamedTuple):
    """One validation case that went wrong, for the report."""

    title: str
    note: str
    pictures: list[tuple[str, bytes | None]]  # caption, JPEG file


class StepLoss(NamedTuple):
    """The loss of one batch."""

    loss: torch.Tensor | None  # float32 scalar; None: nothing to learn here (skipped and counted)
    numbers: Mapping[str, float] = {}  # to be logged, by TensorBoard tag, such as triplet/active_share
    each: torch.Tensor | None = None  # (B,) losses of the rows, detached; names the rows of a loss that is not finite


class Batches(Protocol):
    """An epoch's batches in their order, and where among them the training stands.

    Iterating yields the remaining batches of the epoch, each as row numbers of this worker, and then begins the next
    epoch. `state_dict` has at least `epoch` and `position`, the number of the next batch; the loop writes its own
    count into `position`, for batches are drawn ahead of their use.
    """

    def __len__(self) -> int:
        """Batches of one epoch."""

    def __iter__(self) -> Iterator[Sequence[int]]:
        """Yield what is left of the epoch."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return plain numbers that say where the sampler stands."""

    def load_state_dict(self, state: Any) -> None:
        """Go on where `state` says. Raises ConfigError for a state of other rows or of another seed."""


class Task(Protocol[B]):
    """What is trained, on what, and how it is judged."""

    module: nn.Module  # what an optimiser changes; frozen parts have requires_grad False and stay in eval mode
    metric: str  # of `validate`; chooses the best checkpoint
    higher_is_better: bool
    unit: str  # what rows are called: pairs, images

    def batches(self) -> Batches:
        """Return this worker's sampler, at its beginning."""

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        """Return disjoint groups with `params` and `lr`; every parameter that trains is in one."""

    def train_mode(self) -> None:
        """Put what trains into train mode and frozen parts into eval mode."""

    def compile(self) -> None:
        """Compile the towers in place (torch.compile)."""

    def load(self, rows: Sequence[int], epoch: int) -> B:
        """Read a batch. Called ahead in a thread: draws nothing from global random generators."""

    def loss(self, batch: B, progress: Progress) -> StepLoss:
        """Compute the loss of a batch; called under autocast, computes losses in float32."""

    def validate(self) -> dict[str, float]:
        """Judge the module's present weights, through the exported file, in float32."""

    def export(self, folder: Path, place: Place, name: str) -> ModelConfig:
        """Write the module's present weights as a model into `folder`; returns its settings for `place`."""

    def worst_cases(self, num: int) -> list[Case]:
        """Return the validation's worst cases, of the weights that `validate` judged last."""

    def row_names(self, rows: Sequence[int]) -> list[str]:
        """Name rows for a message."""


@runtime_checkable
class Warns(Protocol):
    """A task that notices when it learns nothing; not every task does."""

    def new_warnings(self) -> list[tuple[str, str]]:
        """Return the kind and the text of warnings since the last call; of each kind one, at most."""


def trained_names(module: nn.Module) -> list[str]:
    """Name the tensors that training changes: parameters with gradients, buffers of modules in train mode.

    These, and no frozen tower, are what a checkpoint and the averaged weights hold.
    """
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    kept = module.state_dict().keys()
    for prefix, part in module.named_modules():
        if part.training:
            own = (f"{prefix}.{name}" if prefix else name for name, _ in part.named_buffers(recurse=False))
            names += [name for name in own if name in kept]
    return names


def trained_tensors(module: nn.Module, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the named tensors of a module, detached and sharing its memory."""
    state = module.state_dict()
    return {name: state[name].detach() for name in names}
