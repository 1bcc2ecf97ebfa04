"""The training loop, one for all tasks: updates, validations, checkpoints, and going on after an interruption.

Everything random comes from the seed, the batches' order from the seed and the epoch, and a checkpoint holds the rest:
on one CPU thread a training that was killed ends with the same weights, bit for bit, as one that was not.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from aistudio.config.train import TrainSettings
from aistudio.errors import AIStudioError, WeightsError
from aistudio.training.board import ShowsPictures
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.history import Clock, History, ProgressLine
from aistudio.training.optimise import AveragedWeights, build_optimizer, rate_factor
from aistudio.training.random_state import random_state, restore_random_state, seed_everything
from aistudio.training.task import Progress, StepLoss, Task, Warns, trained_names, trained_tensors
from aistudio.training.team import Team

B = TypeVar("B")
AHEAD = 2  # batches read before they are needed
NAMED = 8  # rows named in a message
SHOWN_METRICS = 6  # printed after a validation; metrics.csv has all


class Best(NamedTuple):
    """The best validation so far."""

    step: int
    value: float


class Outcome(NamedTuple):
    """How a training ended."""

    step: int
    best: Best
    stopped_early: bool
    num_skipped: int  # batches without anything to learn


class Loop(Generic[B]):
    """Trains `task.module` in place."""

    def __init__(
        self, task: Task[B], settings: TrainSettings, checkpoints: Checkpoints, history: History, team: Team
    ) -> None:
        """Take over a task whose module is on its device; `checkpoints` and `history` are the first worker's alone."""
        self._task, self._settings, self._checkpoints = task, settings, checkpoints
        self._history, self._team = history, team
        self.device = next(p.device for p in task.module.parameters() if p.requires_grad)
        seed_everything(settings.seed + 1_000_003 * team.rank)  # workers drop out other entries
        task.train_mode()
        self._names = trained_names(task.module)
        self._parameters = [p for p in task.module.parameters() if p.requires_grad]
        self._batches = task.batches()
        self.total_steps = settings.steps or (settings.epochs or 0) * len(self._batches)
        self._optimizer = build_optimizer(task.parameter_groups(settings.optimiser), settings.optimiser)
        factor = rate_factor(settings.schedule, self.total_steps)
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        decay = settings.ema_decay
        self._average = AveragedWeights(task.module, self._names, decay) if decay else None
        self._step, self._epoch, self._position, self._skipped = 0, 0, 0, 0
        self._best, self._stale, self._ended = Best(0, math.nan), 0, False
        self._line = ProgressLine(task.unit, self.total_steps)
        if settings.compile:
            task.compile()

    def run(self) -> Outcome:
        """Train to the end, from the newest checkpoint if there is one.

        Raises:
            AIStudioError: the loss or the gradient is not finite; the last good checkpoint stays.
            FencedError, StoreError: as Checkpoints.commit.
        """
        self._resume()
        while not self._ended:
            self._run_epoch()
        early = self._step < self.total_steps
        return Outcome(self._step, self._best, early, self._skipped)

    # --- one epoch, one update -------------------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        self._clock_from = (self._clock.seconds, self._step)
        load = lambda rows: [(part, self._task.load(part, self._epoch)) for part in self._parts(rows)]  # noqa: E731
        for parts in _ahead(load, iter(self._batches)):
            self._update(parts)
            self._position += 1
            if self._position == len(self._batches):
                self._epoch, self._position = self._epoch + 1, 0
            self._warn()
            self._after_update()
            if self._ended:
                return

    def _parts(self, rows: Sequence[int]) -> list[Sequence[int]]:
        num = min(self._settings.micro_batches, len(rows))
        size = -(-len(rows) // num)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _update(self, parts: list[tuple[Sequence[int], B]]) -> None:
        num_rows = sum(len(rows) for rows, _ in parts)
        total, used = 0.0, 0
        self._numbers: dict[str, float] = {}
        bad: list[str] = []
        for rows, batch in parts:
            out = self._forward(batch)
            self._numbers |= out.numbers
            if out.loss is None:
                continue
            used += 1
            share = len(rows) / num_rows
            value = float(out.loss.detach())
            bad += self._bad_rows(value, rows, out.each)
            self._scaler.scale(out.loss * share).backward()
            total += value * share
        loss, num_used = self._team.sums([total / self._team.size, used])
        self._loss, self._rows = loss, num_rows * self._team.size
        self._require_finite("loss", loss, bad)
        self._step += 1
        if not num_used:
            self._skipped += 1
            return
        self._team.mean_gradients(self._parameters)
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._settings.optimiser.clip_norm or math.inf)
        self._numbers["train/grad_norm"] = float(norm)
        if not self._scaler.is_enabled():  # float16 overflows now and then: the scaler leaves such a step out
            self._require_finite("gradient", float(norm), self._task.row_names([r for rows, _ in parts for r in rows]))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._scheduler.step()
        if self._average is not None:
            self._average.update(self._task.module)

    def _forward(self, batch: B) -> StepLoss:
        low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self._settings.precision)
        with torch.autocast(self.device.type, low or torch.bfloat16, enabled=low is not None):
            return self._task.loss(batch, Progress(self._step, self.total_steps))

    def _bad_rows(self, value: float, rows: Sequence[int], each: torch.Tensor | None) -> list[str]:
        if math.isfinite(value):
            return []
        bad = [] if each is None else (~torch.isfinite(each)).nonzero().flatten().tolist()
        return self._task.row_names([rows[i] for i in bad] or list(rows))

    def _require_finite(self, what: str, value: float, names: list[str]) -> None:
        """Every worker has the same `value`, so all of them stop, and the message names the rows of all."""
        if math.isfinite(value):
            return
        names = self._team.gather_list(names)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise AIStudioError(
            f"step {self._step + (what == 'loss')}: {what} is {value}, on {', '.join(names[:NAMED])}{more}; "
            "stopped, and the last good checkpoint stays. Lower optimiser.learning_rate, set optimiser.clip_norm, or "
            "look at these rows"
        )

    def _warn(self) -> None:
        """Say what a task warns of; each warning is an entry of the history, so that it is there at the end."""
        if not (self._team.leads and isinstance(self._task, Warns)):
            return
        for kind, text in self._task.new_warnings():
            self._line.say(f"warning, step {self._step:,}: {text}")
            self._add({f"warning/{kind}": 1.0})

    # --- between updates -------------------------------------------------------------------------------------------

    def _after_update(self) -> None:
        step, settings = self._step, self._settings
        last = step >= self.total_steps
        if step % settings.log_every_steps == 0 or last:
            self._log()
        if last or self._validation_is_due():
            self._validate()
            self._ended = last or self._too_stale()
            self._commit()
        elif settings.checkpoint_every_steps and step % settings.checkpoint_every_steps == 0:
            self._commit()

    def _validation_is_due(self) -> bool:
        every = self._settings.validation
        at_epoch = every.every_epochs is not None and self._position == 0 and self._epoch % every.every_epochs == 0
        return at_epoch or (every.every_steps is not None and self._step % every.every_steps == 0)

    def _log(self) -> None:
        since_s, since_step = self._clock_from
        took = max(self._clock.seconds - since_s, 1e-9)
        steps_per_s = (self._step - since_step) / took
        rows_per_s = steps_per_s * self._rows
        rate = self._scheduler.get_last_lr()[0]
        numbers = {"train/loss": self._loss, "train/lr": float(rate), f"train/{self._task.unit}_per_s": rows_per_s}
        self._add(numbers | self._numbers)
        self._clock_from = (self._clock.seconds, self._step)
        if self._team.leads:
            epoch = (self._step - 1) // len(self._batches)
            self._line.show(self._step, epoch, self._loss, rows_per_s, steps_per_s)

    def _add(self, numbers: dict[str, float]) -> None:
        if self._team.leads:
            self._history.add(self._step, self._epoch, self._clock.seconds, numbers)

    def _validate(self) -> None:
        self._team.mean_buffers(trained_tensors(self._task.module, self._names).values())
        if self._average is not None:
            self._average.swap(self._task.module)
        self._task.module.eval()
        found = self._team.lead(self._task.validate)
        if self._average is not None:
            self._average.swap(self._task.module)
        self._task.train_mode()
        metric = self._settings.validation.metric or self._task.metric
        if metric not in found:
            raise AIStudioError(f"validation.metric: {metric} is not measured; known: {', '.join(sorted(found))}")
        value = found[metric]
        worse_by = self._best.value - value if self._task.higher_is_better else value - self._best.value
        improved = math.isnan(self._best.value) or worse_by < -self._settings.early_stopping.min_delta
        self._best, self._stale = (Best(self._step, value), 0) if improved else (self._best, self._stale + 1)
        self._line.validation = f"{metric} {value:.4f} (best {self._best.value:.4f})"
        self._add({f"val/{name}": number for name, number in found.items()})
        if self._team.leads:
            if isinstance(self._task, ShowsPictures):
                for tag, pixels in self._task.pictures().items():
                    self._history.board.picture(tag, pixels, self._step)
            self._line.say(f"validation after step {self._step:,}: {_listed({metric: value} | found)}")
        self._clock_from = (self._clock.seconds, self._step)

    def _too_stale(self) -> bool:
        patience = self._settings.early_stopping.patience
        return patience is not None and self._stale >= patience

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        states = self._team.gather_list([random_state(self.device)])
        self._team.lead(lambda: self._write(states))

    def _write(self, states: list[Any]) -> None:
        state = {
            "step": self._step, "epoch": self._epoch, "position": self._position, "skipped": self._skipped,
            "ended": self._ended, "stale": self._stale, "best": tuple(self._best),
            "module": trained_tensors(self._task.module, self._names),
            "average": self._average.tensors if self._average else None,
            "optimizer": self._optimizer.state_dict(), "scheduler": self._scheduler.state_dict(),
            "scaler": self._scaler.state_dict(), "sampler": dict(self._batches.state_dict()), "random": states,
        }  # fmt: skip
        self._history.write()
        self._checkpoints.commit(self._step, state, self._best.step or None)

    def _resume(self) -> None:
        found = self._team.lead(self._checkpoints.newest)
        self._clock = Clock(self._history.resume(found[0] if found else 0) if self._team.leads else 0.0)
        if found is None:
            return
        step, state = found
        load_trained(self._task.module, self._names, state["module"])
        if self._average is not None:
            self._average.tensors = {n: t.to(self.device) for n, t in state["average"].items()}
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self._scaler.load_state_dict(state["scaler"])
        self._step, self._epoch, self._position = step, state["epoch"], state["position"]
        self._skipped, self._stale, self._ended = state["skipped"], state["stale"], state["ended"]
        self._best = Best(*state["best"])
        self._batches.load_state_dict({**state["sampler"], "epoch": self._epoch, "position": self._position})
        mine = state["random"][self._team.rank % len(state["random"])]
        restore_random_state(mine, self.device)
        if self._team.leads:
            self._line.say(f"going on after step {step:,} of {self.total_steps:,}")


def load_trained(module: nn.Module, names: Sequence[str], tensors: dict[str, torch.Tensor]) -> None:
    """Copy a checkpoint's tensors into a module. Raises WeightsError when they are of another module."""
    mine = trained_tensors(module, names)
    if mine.keys() != tensors.keys() or any(mine[n].shape != tensors[n].shape for n in mine):
        raise WeightsError("the checkpoint belongs to another architecture, or to a training of other parts")
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(tensors[name])


R = TypeVar("R")
T = TypeVar("T")


def _ahead(load: Callable[[R], T], items: Iterator[R]) -> Iterator[T]:
    """Yield load(item) in order, AHEAD of them computed in a thread before they are asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting: list[Future[T]] = []
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _listed(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in list(numbers.items())[:SHOWN_METRICS])
