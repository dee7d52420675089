"""Training loop: forward, loss, backward, optimizer step.

Independent of text, labels and scikit-learn: batches, loss and evaluation are passed as
arguments.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from .._hardware.devices import autocast, free_memory, is_out_of_memory, trim_heap
from .._models.forward_state import ForwardState
from ..exceptions import DivergenceError, OutOfMemoryError


@dataclass(frozen=True)
class Batch:
    """A (micro-)batch of training rows.

    Attributes
    ----------
    inputs : dict of str to Tensor
        Keyword arguments of the model.
    targets : Tensor of shape (n_rows, ...)
        Targets of the loss.
    weights : Tensor of shape (n_rows,)
        Sample weights, normalized by the size of the whole step.
    n_tokens : int
        Number of tokens without padding.
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
"""Takes a number of parts, returns a step in at most that many micro-batches."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes outputs and targets, returns a loss for each row, of shape (n_rows,)."""


class Monitor(Protocol):
    """Callback interface of the training loop, with early stopping."""

    def epoch_begins(self, n_steps: int) -> None:
        """Handle the start of an epoch of ``n_steps`` steps."""

    def step_begins(self) -> None:
        """Handle the start of a step."""

    def step_ends(self) -> bool:
        """Handle the end of a step; return whether to end the epoch."""

    def epoch_ends(self, record: dict[str, Any]) -> bool:
        """Complete the epoch's record; return whether to stop training."""


@dataclass
class Trainer:
    """Make optimizer steps, with gradient accumulation and mixed precision.

    Attributes
    ----------
    model : nn.Module
        Called with the inputs of a batch; returns outputs.
    loss : callable
        Takes outputs and targets, returns a loss for each row.
    optimizer : torch.optim.Optimizer
        Optimizer, stepped once per step.
    schedule : torch.optim.lr_scheduler.LRScheduler
        Learning rate scheduler, stepped after the optimizer.
    device : torch.device
        Device of the model.
    precision : str
        Precision of autocast.
    max_grad_norm : float or None
        Maximum gradient norm for clipping. None disables clipping.
    compile : bool, default=False
        Whether to call the model through :func:`torch.compile`.
    n_parts : int, default=1
        Gradient accumulation steps: number of micro-batches of a step. Doubled when the
        device runs out of memory.
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
        # Only float16 needs loss scaling: small gradients would underflow.
        scaled = self.precision == "float16" and self.device.type != "cpu"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        groups = self.optimizer.param_groups
        self._parameters = [p for group in groups for p in group["params"]]

    def step(self, make_batches: MakeBatches) -> tuple[float, Sequence[Batch]]:
        """Accumulate the gradients of all micro-batches and make an optimizer step.

        Parameters
        ----------
        make_batches : callable
            Returns the micro-batches of the step.

        Returns
        -------
        loss : float
            Loss of the step.
        batches : sequence of Batch
            Micro-batches of the step.

        Raises
        ------
        DivergenceError
            If the loss is infinite or NaN. The weights are left unchanged.
        OutOfMemoryError
            If a batch of one row does not fit into the memory of the device.
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
        """Accumulate gradients, in smaller micro-batches if memory runs out."""
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
            # Outside of the except block: the error's traceback keeps tensors alive.
            del batches
            self.optimizer.zero_grad(set_to_none=True)
            free_memory(self.device)
            self.n_parts *= 2

    def _add_gradients(self, batches: Sequence[Batch]) -> float:
        """Accumulate the gradients of all batches; return the total loss."""
        total = 0.0
        for batch in batches:
            with ForwardState(self.model):
                with autocast(self.device, self.precision):
                    outputs = self._forward(**batch.inputs)
                losses = self.loss(_at_least_float32(outputs), batch.targets)
                loss = losses @ batch.weights
                self._scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the trainer, without the weights of the model."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "n_parts": self.n_parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state returned by :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self.n_parts = state["n_parts"]

    def require_finite(self, batches: Sequence[Batch]) -> None:
        """Raise DivergenceError if the outputs are not finite after the last step."""
        with torch.no_grad(), autocast(self.device, self.precision):
            for batch in batches:
                with ForwardState(self.model):
                    outputs = self.model(**batch.inputs)
                if not torch.isfinite(outputs).all():
                    raise DivergenceError(
                        "The training diverged in its last step: the model's outputs "
                        "are no longer finite. Lower learning_rate (and "
                        "head_learning_rate)."
                    )


@dataclass
class Progress:
    """Progress of the training.

    Attributes
    ----------
    history : list of dict
        Records of the finished epochs.
    losses : list of float
        Losses of the steps of the current epoch.
    n_tokens : int
        Number of tokens processed in the current epoch.
    seconds : float
        Duration of the current epoch so far, in seconds.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    n_tokens: int = 0
    seconds: float = 0.0

    @property
    def n_steps(self) -> int:
        """Total number of steps so far."""
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
    """Train a model for up to ``max_epochs`` epochs.

    Parameters
    ----------
    trainer : Trainer
        Makes the optimizer steps.
    draw_epoch : callable
        Returns the steps of one epoch, each a callable that makes its batches.
    monitor : Monitor
        Called at the start and end of epochs and steps. May end an epoch or stop
        training.
    max_epochs : int
        Maximum number of epochs.
    progress : Progress or None, default=None
        Progress to resume from. None starts from the beginning.
    keep : callable
        Called with the progress wherever the training can be resumed from, to save a
        checkpoint.

    Returns
    -------
    list of dict
        A record for each epoch: loss, learning rate, seconds, tokens per second, and
        the entries added by the monitor.

    Raises
    ------
    DivergenceError
        If the loss or the final outputs are not finite.
    OutOfMemoryError
        If a single row does not fit into the memory of the device.
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
    """Early stopping: keep the best weights and stop without improvement.

    Parameters
    ----------
    model : nn.Module
        Model whose :func:`trained_tensors` are kept.
    patience : int
        Number of epochs without improvement after which to stop training.

    Attributes
    ----------
    best_epoch : int
        Number of the best epoch, from 1; 0 before the first epoch.
    """

    def __init__(self, model: nn.Module, patience: int) -> None:
        self._tensors = list(trained_tensors(model).values())
        self._patience = patience
        self._best: tuple[float, ...] | None = None
        self._weights: list[torch.Tensor] = []
        self.best_epoch = 0
        self._epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state, including the best weights."""
        return {
            "best": self._best,
            "weights": self._weights,
            "best_epoch": self.best_epoch,
            "epoch": self._epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state returned by :meth:`state_dict`."""
        self._best = None if state["best"] is None else tuple(state["best"])
        self._weights = state["weights"]
        self.best_epoch, self._epoch = state["best_epoch"], state["epoch"]

    def update(self, rank: tuple[float, ...]) -> bool:
        """Compare an epoch with the best so far; return whether to stop training.

        Parameters
        ----------
        rank : tuple of float
            Score of the epoch; greater is better. Later entries break ties.

        Returns
        -------
        bool
            Whether the last ``patience`` epochs brought no improvement.
        """
        self._epoch += 1
        if self._best is None or rank > self._best:
            self._best, self.best_epoch = rank, self._epoch
            self._weights = [t.detach().clone() for t in self._tensors]
        return self._epoch - self.best_epoch >= self._patience

    def restore(self) -> None:
        """Load the weights of the best epoch into the model."""
        with torch.no_grad():
            for tensor, best in zip(self._tensors, self._weights, strict=False):
                tensor.copy_(best)


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that training changes: parameters and running statistics."""
    tensors: dict[torch.Tensor, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.requires_grad or not isinstance(tensor, nn.Parameter):
            tensors.setdefault(tensor, name)  # once if tied
    return {name: tensor for tensor, name in tensors.items()}


def _at_least_float32(outputs: torch.Tensor) -> torch.Tensor:
    return outputs if outputs.dtype == torch.float64 else outputs.float()
