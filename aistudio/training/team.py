"""This process among the workers of a training: gradients, numbers and vectors of all of them.

One worker needs nothing. Several are joined by torch.distributed, which whoever starts them has initialised.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from aistudio.errors import AIStudioError

T = TypeVar("T")


class _Gather(torch.autograd.Function):
    """Gathers (N, ...) of all workers; each gets back the sum of the gradients that they have for its rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        ctx.num = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        gradient = gradients[0].contiguous()
        distributed.all_reduce(gradient)
        start = distributed.get_rank() * ctx.num
        return gradient[start : start + ctx.num]


class Team:
    """One of `size` workers; the first has rank 0 and alone writes files."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        """`device`: where tensors are exchanged; a GPU's for NCCL."""
        self.rank, self.size = rank, size
        self._device = device or torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether this worker writes files and validates."""
        return self.rank == 0

    def mean_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the workers; one that is missing somewhere counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        self._mean_in_place(gradients)

    def mean_buffers(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace float tensors (running statistics) by their mean over the workers."""
        if self.size > 1:
            self._mean_in_place([t for t in tensors if t.is_floating_point()])

    @torch.no_grad()
    def _mean_in_place(self, tensors: Sequence[torch.Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])  # one message instead of hundreds
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def sums(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over the workers."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        distributed.all_reduce(total)
        return [float(x) for x in total]

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Stack (N, ...) of every worker, by rank, with gradient to each.

        Every worker computes the same loss of all rows, so the mean of the workers' gradients is that loss's own.
        """
        if self.size == 1:
            return rows
        gathered: torch.Tensor = _Gather.apply(rows.contiguous())
        return gathered

    def gather_list(self, values: list[Any]) -> list[Any]:
        """Concatenate plain lists of every worker, by rank."""
        if self.size == 1:
            return values
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def lead(self, work: Callable[[], T]) -> T:
        """Run `work` on the first worker alone; all return its result, or raise its error: nobody waits in vain.

        Raises:
            AIStudioError: what `work` raised.
        """
        if self.size == 1:
            return work()
        held: list[Any] = [None, None]
        if self.leads:
            try:
                held[0] = work()
            except AIStudioError as e:
                held[1] = e
        distributed.broadcast_object_list(held, src=0)
        if held[1] is not None:
            raise held[1]
        found: T = held[0]
        return found
