"""One short loop that trains any model: forward, loss, backward, step.

Knows nothing of text, labels or scikit-learn. What a batch is, what the loss is and
what happens after an epoch come in as arguments.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ..exceptions import DivergenceError
from .dropout import FastDropout
from .hardware import autocast


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
    fast_dropout : bool, default=False
        Whether to draw dropout by :class:`FastDropout`: on a CPU, in a model that is
        neither compiled nor runs its forward pass again in the backward one.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device
    precision: str
    max_grad_norm: float | None
    compile: bool = False
    fast_dropout: bool = False

    def __post_init__(self) -> None:
        self._forward: Any = torch.compile(self.model) if self.compile else self.model
        self._dropout: contextlib.AbstractContextManager[Any] = (
            FastDropout() if self.fast_dropout else contextlib.nullcontext()
        )
        # Half precision alone needs its loss scaled, lest small gradients vanish.
        scaled = self.precision == "float16" and self.device.type != "cpu"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        groups = self.optimizer.param_groups
        self._parameters = [p for group in groups for p in group["params"]]

    def step(self, batches: Sequence[Batch]) -> float:
        """Make one optimizer step from the gradients of all the given batches.

        Parameters
        ----------
        batches : sequence of Batch
            Micro-batches; their weights together make the step's mean.

        Returns
        -------
        float
            The step's loss.

        Raises
        ------
        DivergenceError
            The loss is infinite or not a number; the weights are left as they were.
        """
        total = 0.0
        for batch in batches:
            with self._dropout, autocast(self.device, self.precision):
                outputs = self._forward(**batch.inputs)
            losses = self.loss(_at_least_float32(outputs), batch.targets)
            loss = losses @ batch.weights
            self._scaler.scale(loss).backward()
            total += float(loss.detach())
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
        return total

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


def train(
    trainer: Trainer,
    draw_epoch: Callable[[], Sequence[Callable[[], Sequence[Batch]]]],
    monitor: Monitor,
    *,
    max_epochs: int,
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

    Returns
    -------
    list of dict
        A record for each epoch: loss, learning rate, seconds, tokens a second, and
        what the monitor adds.

    Raises
    ------
    DivergenceError
        At the step in which the loss stopped being finite.
    """
    history: list[dict[str, Any]] = []
    for epoch in range(max_epochs):
        started = time.perf_counter()
        steps = draw_epoch()
        monitor.epoch_begins(len(steps))
        trainer.model.train()
        losses, n_tokens = [], 0
        for make_batches in steps:
            monitor.step_begins()
            batches = make_batches()
            learning_rate = trainer.schedule.get_last_lr()[0]
            losses.append(trainer.step(batches))
            n_tokens += sum(batch.n_tokens for batch in batches)
            if monitor.step_ends():
                break
        trainer.model.eval()
        seconds = time.perf_counter() - started
        record = {
            "epoch": epoch + 1,
            "n_steps": len(losses),
            "train_loss": sum(losses) / max(1, len(losses)),
            "learning_rate": learning_rate,
            "seconds": seconds,
            "tokens_per_second": n_tokens / seconds,
        }
        history.append(record)
        if monitor.epoch_ends(record):
            break
    if history:
        trainer.require_finite(batches)
    return history


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
