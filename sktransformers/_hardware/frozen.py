"""Cache the outputs of frozen layers during training.

The frozen bottom layers are computed once for each row instead of in every epoch.
Training uses a copy of the model that shares its parameters, so the model itself can
still be used for prediction, copied or saved during training.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._models.forward_state import ForwardState
from .._models.heads import ArchitectureModel, PooledModel, layers_of
from .._models.weights import copy_sharing_weights

_MOST_BYTES = 2**30  # maximum size of the cache
_TOLERANCE = 1e-5  # relative; float32 rounding errors are smaller


class CachedFrozenLayers(nn.Module):
    """A model split into cached frozen layers and trainable layers.

    Parameters
    ----------
    bottom : callable
        Frozen layers: takes the inputs of a batch, returns the hidden states (or
        embeddings) of all its rows, concatenated, of shape (n_values, width). Must not
        depend on trainable parameters.
    top : nn.Module
        Trainable layers: takes these values and the inputs, returns the outputs.
    sizes : Tensor of shape (n_rows,)
        Number of values of each row of the data.
    keep : bool
        Whether to cache the values. The cache is disabled if all values would take more
        than 1 GiB.
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
        self._is_cached = torch.zeros(len(sizes), dtype=torch.bool)
        self._keep = keep
        self._values = torch.empty(0)

    def forward(self, rows: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs for the given rows of the data and their inputs."""
        outputs: torch.Tensor = self.top(self._get_values(rows, inputs), **inputs)
        return outputs

    def remember(self, values: torch.Tensor) -> None:
        """Fill the cache with precomputed values of all rows, in order."""
        self._values = values
        self._is_cached[:] = True

    @torch.compiler.disable
    def _get_values(
        self, rows: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the values of the rows, from the cache if possible."""
        if self._is_cached[rows].all():
            values = self._values[self._value_indices(rows)]
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
            # On the CPU, which has more memory; moving a batch is fast.
            self._values = torch.empty(n_values, values.shape[1], dtype=values.dtype)
        self._values[self._value_indices(rows)] = values.cpu()
        self._is_cached[rows] = True

    def _value_indices(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the indices of the rows' values in the cache."""
        sizes = self._sizes[rows]
        shifts = self._starts[rows] - (sizes.cumsum(0) - sizes)
        return torch.arange(int(sizes.sum())) + shifts.repeat_interleave(sizes)


def cache_frozen_layers(
    model: PooledModel | ArchitectureModel,
    sample: dict[str, torch.Tensor],
    lengths: torch.Tensor,
    n_outputs: torch.Tensor,
    *,
    keep: bool,
) -> CachedFrozenLayers | None:
    """Split a model after its last frozen layer.

    All parameters that the frozen layers' outputs depend on, such as shared position
    embeddings, are frozen too, so that the cached outputs stay valid.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Model in evaluation mode. Only ``requires_grad`` of its parameters may be
        modified.
    sample : dict of str to Tensor
        Inputs of a few rows for testing the split.
    lengths : Tensor of shape (n_rows,)
        Number of tokens in each row of the data.
    n_outputs : Tensor of shape (n_rows,)
        Number of outputs of each row.
    keep : bool
        Whether to cache the outputs of the frozen layers.

    Returns
    -------
    CachedFrozenLayers or None
        None if no layer is frozen, or if the architecture cannot be split: its layers
        pass on more than the hidden states, or outputs depend on padding.
    """
    layers = layers_of(model.encoder)
    only_head_trains = not any(p.requires_grad for p in model.encoder.parameters())
    if only_head_trains and model.has_new_head:
        frozen = copy_sharing_weights(model).eval()

        def embed(**inputs: torch.Tensor) -> torch.Tensor:
            with ForwardState(frozen):
                return frozen.embed(**inputs)

        return CachedFrozenLayers(embed, _Head(model), n_outputs, keep=keep)
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
    with ForwardState(model), torch.no_grad():
        expected = model(**sample)
        outputs = top.eval()(bottom(**sample), **sample)
    atol = _TOLERANCE * float(expected.abs().max())
    if not torch.allclose(outputs, expected, rtol=0, atol=atol):
        return None
    return CachedFrozenLayers(bottom, top, lengths, keep=keep)


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _freeze_sources(states: torch.Tensor, model: nn.Module) -> None:
    """Freeze all parameters that the hidden states depend on."""
    if not states.requires_grad:
        return
    trainable = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(states.sum(), trainable, allow_unused=True)
    for parameter, gradient in zip(trainable, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


class _EarlyExit(Exception):  # noqa: N818, not an error
    """End a forward pass after the last frozen layer; holds the layer's output."""


def _exit_early(_module: nn.Module, _args: Any, output: Any) -> None:
    raise _EarlyExit(output)


class _Bottom:
    """Compute the last frozen layer's hidden states of all non-padding tokens."""

    def __init__(self, model: PooledModel | ArchitectureModel, n_frozen: int) -> None:
        self._model = copy_sharing_weights(model).eval()
        layers_of(self._model.encoder)[n_frozen - 1].register_forward_hook(_exit_early)

    def run(self, **inputs: torch.Tensor) -> Any:
        """Return the output of the layer, or None if the layer was not called."""
        try:
            with ForwardState(self._model):
                self._model(**inputs)
        except _EarlyExit as early_exit:
            return early_exit.args[0]
        return None

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        output = self.run(**inputs)
        states: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return states[inputs["attention_mask"].bool()]


class _Top(nn.Module):
    """Compute the outputs from the last frozen layer's hidden states and the inputs.

    Runs the forward pass of the model, which creates the attention masks and positions
    of the upper layers. Each frozen layer is replaced and returns the given states.
    """

    def __init__(
        self,
        model: PooledModel | ArchitectureModel,
        n_frozen: int,
        others: list[None] | None,
    ) -> None:
        super().__init__()
        self.model = copy_sharing_weights(model)
        given: dict[str, torch.Tensor] = {}

        def return_given_states(*_args: Any, **_kwargs: Any) -> Any:
            return given["states"] if others is None else (given["states"], *others)

        for layer in layers_of(self.model.encoder)[:n_frozen]:
            layer.forward = return_given_states  # type: ignore[method-assign]
        self._given = given

    def forward(self, values: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        mask = inputs["attention_mask"].bool()
        states = values.new_zeros(*mask.shape, values.shape[-1])
        states[mask] = values
        self._given["states"] = states
        outputs: torch.Tensor = self.model(**inputs)
        return outputs


class _Head(nn.Module):
    """Compute the outputs from embeddings."""

    def __init__(self, model: PooledModel) -> None:
        super().__init__()
        self.dropout = copy.deepcopy(model.dropout)
        self.head = model.head

    def forward(self, values: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.dropout(values))
        return outputs
