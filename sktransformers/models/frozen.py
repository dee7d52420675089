"""A frozen bottom runs once: what it made of a row is kept for the epochs to come.

What trains is a twin of the model that shares its parameters. The model itself stays
whole and as it was, for whoever predicts with it, copies or saves it meanwhile.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .modules import ArchitectureModel, PooledModel, layers_of

_MOST_BYTES = 2**30
_TOLERANCE = 1e-5  # relative; float32 rounding stays below it


class FrozenBottom(nn.Module):
    """A model in two parts, of which the lower one is not repeated.

    Parameters
    ----------
    bottom : callable
        From a batch's inputs to the values of all its rows, one row after the other,
        of shape (n_values, width). Must not depend on what trains.
    top : nn.Module
        From these values and the inputs to the outputs.
    sizes : Tensor of shape (n_rows,)
        Number of values that each row of the data has.
    keep : bool
        Whether to keep values for the next time that they are asked for. They are
        not kept either where all of them would take more than 1 GiB.
    """

    def __init__(
        self,
        bottom: Callable[..., torch.Tensor],
        top: nn.Module,
        sizes: torch.Tensor,
        *,
        keep: bool,
    ) -> None:
        super().__init__()
        self.top = top
        self._bottom = bottom
        self._sizes = sizes
        self._starts = sizes.cumsum(0) - sizes
        self._is_kept = torch.zeros(len(sizes), dtype=torch.bool)
        self._keep = keep
        self._values = torch.empty(0)

    def forward(self, rows: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs for these rows of the data, whose inputs are given."""
        outputs: torch.Tensor = self.top(self._recall(rows, inputs), **inputs)
        return outputs

    def remember(self, values: torch.Tensor) -> None:
        """Take the values of all rows as made before, in the order of the rows."""
        self._values = values
        self._is_kept[:] = True

    @torch.compiler.disable
    def _recall(
        self, rows: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the values of the rows; make them if they were not kept."""
        if self._is_kept[rows].all():
            values = self._values[self._places(rows)]
            return values.to(inputs["attention_mask"].device)
        with torch.no_grad():
            values = self._bottom(**inputs)
        self._store(rows, values)
        return values

    def _store(self, rows: torch.Tensor, values: torch.Tensor) -> None:
        if not self._keep:
            return
        if not len(self._values):
            n_values = int(self._sizes.sum())
            n_bytes = n_values * values.shape[1] * values.element_size()
            self._keep = n_bytes <= _MOST_BYTES
            if not self._keep:
                return
            # On the CPU: there is more memory, and a batch is quickly moved.
            self._values = torch.empty(n_values, values.shape[1], dtype=values.dtype)
        self._values[self._places(rows)] = values.cpu()
        self._is_kept[rows] = True

    def _places(self, rows: torch.Tensor) -> torch.Tensor:
        """Return where the values of the rows are."""
        sizes = self._sizes[rows]
        shifts = self._starts[rows] - (sizes.cumsum(0) - sizes)
        return torch.arange(int(sizes.sum())) + shifts.repeat_interleave(sizes)


def split_frozen(
    model: PooledModel | ArchitectureModel,
    sample: dict[str, torch.Tensor],
    lengths: torch.Tensor,
    n_outputs: torch.Tensor,
    *,
    keep: bool,
) -> FrozenBottom | None:
    """Part a model above its last frozen layer.

    What feeds a frozen layer is frozen too, such as position embeddings that all
    layers share: what the bottom makes of a row must stay the same.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        In evaluation mode. Only gradients are switched off in it, if anything.
    sample : dict of str to Tensor
        Inputs of a few rows, to try the parts on.
    lengths : Tensor of shape (n_rows,)
        Number of tokens in each row of the data.
    n_outputs : Tensor of shape (n_rows,)
        Number of outputs of each row.
    keep : bool
        Whether to keep what the bottom makes of a row.

    Returns
    -------
    FrozenBottom or None
        None if no layer is frozen, or if the architecture cannot be parted: its
        layers hand on more than one state for each token, or padding leaks into it.
    """
    layers = layers_of(model.encoder)
    is_head_alone = not any(p.requires_grad for p in model.encoder.parameters())
    if is_head_alone and isinstance(model, PooledModel):
        embed = _twin(model).eval().embed
        return FrozenBottom(embed, _Head(model), n_outputs, keep=keep)
    n_frozen = sum(1 for _ in itertools.takewhile(_is_frozen, layers))
    if not n_frozen:
        return None
    bottom = _Bottom(model, n_frozen)
    with torch.enable_grad():
        output = bottom.run(**sample)
    states, *others = output if isinstance(output, tuple) else (output,)
    if not isinstance(states, torch.Tensor):
        return None
    _freeze_sources(states, model)
    if states.shape[:-1] != sample["attention_mask"].shape or any(
        other is not None for other in others
    ):
        return None
    top = _Top(model, n_frozen, others if isinstance(output, tuple) else None)
    with torch.no_grad():
        expected = model(**sample)
        outputs = top.eval()(bottom(**sample), **sample)
    atol = _TOLERANCE * float(expected.abs().max())
    if not torch.allclose(outputs, expected, rtol=0, atol=atol):
        return None
    return FrozenBottom(bottom, top, lengths, keep=keep)


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _freeze_sources(states: torch.Tensor, model: nn.Module) -> None:
    """Freeze all that the states were made with."""
    if not states.requires_grad:
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(states.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


def _twin(model: Any) -> Any:
    """Return a copy that shares all parameters and buffers."""
    shared = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


class _Left(Exception):  # noqa: N818, for it is no error
    """Carries the output of the last frozen layer out of the model."""


def _leave(_module: nn.Module, _args: Any, output: Any) -> None:
    raise _Left(output)


class _Bottom:
    """From inputs to the last frozen layer's state of each token, padding left out."""

    def __init__(self, model: PooledModel | ArchitectureModel, n_frozen: int) -> None:
        self._model = _twin(model).eval()
        layers_of(self._model.encoder)[n_frozen - 1].register_forward_hook(_leave)

    def run(self, **inputs: torch.Tensor) -> Any:
        """Return the layer's output as it is, or None if it was never called."""
        try:
            self._model(**inputs)
        except _Left as left:
            return left.args[0]
        return None

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        output = self.run(**inputs)
        states: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return states[inputs["attention_mask"].bool()]


class _Top(nn.Module):
    """From the last frozen layer's states and the inputs to the outputs.

    The model's own code makes masks and positions for the upper layers; each frozen
    layer just returns the states.
    """

    def __init__(
        self,
        model: PooledModel | ArchitectureModel,
        n_frozen: int,
        others: list[None] | None,
    ) -> None:
        super().__init__()
        self.model = _twin(model)
        given: dict[str, torch.Tensor] = {}

        def stand_in(*_args: Any, **_kwargs: Any) -> Any:
            return given["states"] if others is None else (given["states"], *others)

        for layer in layers_of(self.model.encoder)[:n_frozen]:
            layer.forward = stand_in  # type: ignore[method-assign]
        self._given = given

    def forward(self, values: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        mask = inputs["attention_mask"].bool()
        states = values.new_zeros(*mask.shape, values.shape[-1])
        states[mask] = values
        self._given["states"] = states
        outputs: torch.Tensor = self.model(**inputs)
        return outputs


class _Head(nn.Module):
    """From embeddings to the outputs."""

    def __init__(self, model: PooledModel) -> None:
        super().__init__()
        self.dropout = copy.deepcopy(model.dropout)
        self.head = model.head

    def forward(self, values: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.dropout(values))
        return outputs
