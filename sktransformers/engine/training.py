"""One short loop that trains any model: forward, loss, backward, step.

Knows nothing of text, labels or scikit-learn. What a batch is, what the loss is and
what happens after an epoch come in as arguments.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ..exceptions import DivergenceError, OutOfMemoryError
from .hardware import autocast, free_memory, is_out_of_memory, trim_heap


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    Attributes
    ----------
    inputs : dict of str to Tensor
        Keyword arguments of the model.
    targets : Tensor of shape (n_rows, ...)
        What the outputs are compared with.
    weights : Tensor of shape (n_rows,)
        Weight of each row in the loss, divided by the rows of the whole step.
    n_tokens : int
        Tokens that are not padding.
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    weights: torch.Tensor
    n_tokens: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))


MakeBatches = Callable[[int], Sequence[Batch]]
"""A number of parts in; the rows of a step, in so many micro-batches at most, out."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Outputs and targets in; the loss of each row, of shape (n_rows,), out."""


class Monitor(Protocol):
    """What is told of the progress of a training, and may stop it."""

    def epoch_begins(self, n_steps: int) -> None:
        """Take note that an epoch of so many steps begins."""

    def step_begins(self) -> None:
        """Take note that a step begins."""

    def step_ends(self) -> bool:
        """Return whether to end the epoch here."""

    def epoch_ends(self, record: dict[str, Any]) -> bool:
        """Complete the epoch's record; return whether to end the training."""


@dataclass
class Trainer:
    """Everything a training consists of, apart from its batches.

    Attributes
    ----------
    model : nn.Module
        Called with a batch's inputs; returns outputs.
    loss : callable
        From outputs and targets to a loss for each row.
    optimizer : torch.optim.Optimizer
        Steps after each list of micro-batches.
    schedule : torch.optim.lr_scheduler.LRScheduler
        Steps after the optimizer.
    device : torch.device
        Where the model is.
    precision : str
        Number format of the matrix products.
    max_grad_norm : float or None
        Gradients are scaled down to this norm; None leaves them.
    compile : bool, default=False
        Whether to call the model through :func:`torch.compile`.
    n_parts : int, default=1
        Micro-batches of a step. Doubled where a device has not enough memory.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device
    precision: str
    max_grad_norm: float | None
    compile: bool = False
    n_parts: int = 1

    def __post_init__(self) -> None:
        self._forward: Any = torch.compile(self.model) if self.compile else self.model
        # Half precision alone needs its loss scaled, lest small gradients vanish.
        scaled = self.precision == "float16" and self.device.type != "cpu"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        groups = self.optimizer.param_groups
        self._parameters = [p for group in groups for p in group["params"]]

    def step(self, make_batches: MakeBatches) -> tuple[float, Sequence[Batch]]:
        """Make one optimizer step from the gradients of all batches.

        Parameters
        ----------
        make_batches : callable
            Returns the micro-batches; their weights together make the step's mean.

        Returns
        -------
        loss : float
            Of the step.
        batches : sequence of Batch
            What it was made from.

        Raises
        ------
        DivergenceError
            The loss is infinite or not a number; the weights are left as they were.
        OutOfMemoryError
            A batch of one row is too large for the device.
        """
        total, batches = self._fit_into_memory(make_batches)
        if not math.isfinite(total):
            raise DivergenceError(
                f"The training loss became {total}. Lower learning_rate (and "
                "head_learning_rate), or use precision='float32'."
            )
        if self.max_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self.max_grad_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, batches

    def _fit_into_memory(
        self, make_batches: MakeBatches
    ) -> tuple[float, Sequence[Batch]]:
        """Add up gradients, in smaller batches if these are too large."""
        while True:
            batches = make_batches(self.n_parts)
            try:
                return self._add_gradients(batches), batches
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if max(batch.n_rows for batch in batches) == 1:
                    longest = max(batch.n_tokens for batch in batches)
                    raise OutOfMemoryError(
                        f"Not even one text ({longest} tokens) fits into the memory of "
                        f"{self.device}. Lower max_length, or pass "
                        "gradient_checkpointing=True, trainable='head' or lora_rank=8."
                    ) from error
            # Outside of the handler, whose error would keep the tensors alive.
            del batches
            self.optimizer.zero_grad(set_to_none=True)
            free_memory(self.device)
            self.n_parts *= 2

    def _add_gradients(self, batches: Sequence[Batch]) -> float:
        """Return the loss of all batches, whose gradients are added up."""
        total = 0.0
        for batch in batches:
            with autocast(self.device, self.precision):
                outputs = self._forward(**batch.inputs)
            losses = self.loss(_at_least_float32(outputs), batch.targets)
            loss = losses @ batch.weights
            self._scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes; the model's weights apart."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "n_parts": self.n_parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another trainer was."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self.n_parts = state["n_parts"]

    def require_finite(self, batches: Sequence[Batch]) -> None:
        """Raise DivergenceError if the last step ruined the weights."""
        with torch.no_grad(), autocast(self.device, self.precision):
            for batch in batches:
                if not torch.isfinite(self.model(**batch.inputs)).all():
                    raise DivergenceError(
                        "The training diverged in its last step: the model's outputs "
                        "are no longer finite. Lower learning_rate (and "
                        "head_learning_rate)."
                    )


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    history : list of dict
        A record for each finished epoch.
    losses : list of float
        Of the steps of the epoch that is not finished.
    n_tokens : int
        Read in these steps.
    seconds : float
        That they took.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    n_tokens: int = 0
    seconds: float = 0.0

    @property
    def n_steps(self) -> int:
        """Number of steps made."""
        return len(self.losses) + sum(r["n_steps"] for r in self.history)


def train(
    trainer: Trainer,
    draw_epoch: Callable[[], Sequence[MakeBatches]],
    monitor: Monitor,
    *,
    max_epochs: int,
    progress: Progress | None = None,
    keep: Callable[[Progress], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train a model, epoch by epoch, until the last one or until told to stop.

    Parameters
    ----------
    trainer : Trainer
        Makes the steps.
    draw_epoch : callable
        Returns the steps of one epoch, each a callable that makes its batches.
    monitor : Monitor
        Is told of epochs and steps, and may stop either.
    max_epochs : int
        Most epochs to train.
    progress : Progress or None, default=None
        Where to go on. None: at the beginning.
    keep : callable
        Is given the progress wherever the training could go on later.

    Returns
    -------
    list of dict
        A record for each epoch: loss, learning rate, seconds, tokens a second, and
        what the monitor adds.

    Raises
    ------
    DivergenceError
        At the step in which the loss stopped being finite.
    OutOfMemoryError
        The device is too small for one row.
    """
    progress = Progress() if progress is None else progress
    batches: Sequence[Batch] = ()
    for epoch in range(len(progress.history), max_epochs):
        started = time.perf_counter() - progress.seconds
        steps = draw_epoch()
        monitor.epoch_begins(len(steps))
        trainer.model.train()
        for make_batches in steps[len(progress.losses) :]:
            monitor.step_begins()
            learning_rate = trainer.schedule.get_last_lr()[0]
            loss, batches = trainer.step(make_batches)
            progress.losses.append(loss)
            progress.n_tokens += sum(batch.n_tokens for batch in batches)
            progress.seconds = time.perf_counter() - started
            if monitor.step_ends():
                break
            if len(progress.losses) < len(steps):
                keep(progress)
        trainer.model.eval()
        record = {
            "epoch": epoch + 1,
            "n_steps": len(progress.losses),
            "train_loss": sum(progress.losses) / max(1, len(progress.losses)),
            "learning_rate": learning_rate,
            "seconds": progress.seconds,
            "tokens_per_second": progress.n_tokens / progress.seconds,
            "gradient_accumulation_steps": trainer.n_parts,
        }
        progress.history.append(record)
        progress.losses, progress.n_tokens, progress.seconds = [], 0, 0.0
        trim_heap(trainer.device)
        if monitor.epoch_ends(record):
            break
        keep(progress)
    if batches:
        trainer.require_finite(batches)
    return progress.history


class BestWeights:
    """Keeps the weights of the best epoch, and says when none has been for long.

    Parameters
    ----------
    model : nn.Module
        Whose trained weights are kept.
    patience : int
        Epochs without a better one after which to stop.
    """

    def __init__(self, model: nn.Module, patience: int) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._patience = patience
        self._best: tuple[float, ...] | None = None
        self._weights: list[torch.Tensor] = []
        self.best_epoch = 0
        self._epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes."""
        return {
            "best": self._best,
            "weights": self._weights,
            "best_epoch": self.best_epoch,
            "epoch": self._epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another one was."""
        self._best = None if state["best"] is None else tuple(state["best"])
        self._weights = state["weights"]
        self.best_epoch, self._epoch = state["best_epoch"], state["epoch"]

    def update(self, rank: tuple[float, ...]) -> bool:
        """Compare an epoch with the best so far; return whether to stop.

        Parameters
        ----------
        rank : tuple of float
            Greater is better; later entries decide between equal ones.

        Returns
        -------
        bool
            Whether ``patience`` epochs in a row were no better.
        """
        self._epoch += 1
        if self._best is None or rank > self._best:
            self._best, self.best_epoch = rank, self._epoch
            self._weights = [p.detach().clone() for p in self._parameters]
        return self._epoch - self.best_epoch >= self._patience

    def restore(self) -> None:
        """Put the best epoch's weights back into the model."""
        with torch.no_grad():
            for parameter, best in zip(self._parameters, self._weights, strict=False):
                parameter.copy_(best)


def _at_least_float32(outputs: torch.Tensor) -> torch.Tensor:
    return outputs if outputs.dtype == torch.float64 else outputs.float()
