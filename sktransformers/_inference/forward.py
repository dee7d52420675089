"""Forward passes over batches, with outputs in input order."""

import copy
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

from .._compat import parameter_version
from .._hardware.devices import (
    DTYPES,
    GlobalRandomState,
    autocast,
    isolated_rng,
    trim_heap,
)
from .._models.forward_state import ForwardState
from ..exceptions import DivergenceError

Inputs = dict[str, torch.Tensor]

NOT_FINITE = (
    "The model's outputs are infinite or NaN. In half precision its numbers may "
    "overflow: pass inference_precision=None. Otherwise its weights are damaged, or "
    "diverged in training."
)


class HalfPrecisionModel:
    """A copy of a model with its weights in half precision.

    Autocast would convert the weights in every call, which takes longer than the
    forward pass for a single text.

    Parameters
    ----------
    model : nn.Module
        Model with an ``embed`` method. Not modified.
    precision : {"bfloat16", "float16"}
        Data type of the weights.
    """

    def __init__(self, model: Any, precision: str) -> None:
        self._precision = precision
        self._state = state_of(model)
        converted: dict[int, Any] = {
            id(p): nn.Parameter(p.detach().to(DTYPES[precision]), requires_grad=False)
            for p in model.parameters()
        }
        self._half_precision_model = copy.deepcopy(model, converted)

    @property
    def unwrapped(self) -> Any:
        """The half-precision model itself."""
        return self._half_precision_model

    def matches(self, model: nn.Module, precision: str) -> bool:
        """Return whether this is a copy of the model's current weights."""
        return precision == self._precision and state_of(model) == self._state

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the head, of shape (n_rows, n_outputs)."""
        outputs: torch.Tensor = self._half_precision_model(**inputs)
        return outputs

    def embed(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, of shape (n_rows, hidden_size)."""
        vectors: torch.Tensor = self._half_precision_model.embed(**inputs)
        return vectors


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """Return a value that changes when the weights or their device change."""
    parameters = list(model.parameters())
    return parameters[0].device, [(id(p), parameter_version(p)) for p in parameters]


# Models whose forward pass draws random numbers.
_DRAWING: WeakSet[nn.Module] = WeakSet()


class _IsolatedForward:
    """A forward pass that depends on its inputs only and changes nothing else."""

    def __init__(
        self, forward: Callable[..., torch.Tensor], device: torch.device
    ) -> None:
        owner = getattr(forward, "__self__", forward)
        owner = getattr(owner, "unwrapped", owner)
        self._forward = forward
        self._device = device
        self._model = owner if isinstance(owner, nn.Module) else None

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        if self._model is None:  # a backend's, which keeps no state
            return self._forward(**inputs)
        state = ForwardState(self._model)
        try:
            if self._model in _DRAWING:
                with isolated_rng(0, self._device):
                    return self._forward(**inputs)
            before = GlobalRandomState(self._device)
            outputs = self._forward(**inputs)
            if before == GlobalRandomState(self._device):
                return outputs
            state.restore()
            return self._draw_again(inputs, before)
        finally:
            state.restore()

    def _draw_again(self, inputs: Inputs, before: GlobalRandomState) -> torch.Tensor:
        """Return the outputs for fixed random numbers, if the model drew some."""
        # Under the lock: another thread may have drawn them.
        with isolated_rng(0, self._device):
            seeded = GlobalRandomState(self._device)
            outputs = self._forward(**inputs)
            is_drawing = seeded != GlobalRandomState(self._device)
        if is_drawing:
            _DRAWING.add(self._model)
            before.restore()
        return outputs


def to_tensors(
    arrays: dict[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    """Convert arrays to tensors on a device."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def run(
    forward: Callable[..., torch.Tensor],
    batches: Iterable[tuple[np.ndarray, Inputs]],
    n_rows: int,
    *,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Call ``forward`` on every batch and collect the outputs.

    Parameters
    ----------
    forward : callable
        Takes the inputs of a batch, returns one output vector for each row.
    batches : iterable of (ndarray, dict)
        Row indices and inputs of each batch. Together they contain every row once.
    n_rows : int
        Number of rows, at least one.
    device : torch.device
        Device of the model.
    precision : str
        Precision of autocast.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        Outputs in input order, float32 (float64 if the model's outputs are).

    Raises
    ------
    DivergenceError
        If an output is infinite or NaN, from which a label could still be selected.
    """
    results: np.ndarray | None = None
    forward = _IsolatedForward(forward, device)
    with torch.inference_mode(), autocast(device, precision):
        for rows, inputs in batches:
            output = forward(**inputs)
            if output.dtype != torch.float64:
                output = output.float()
            values = output.cpu().numpy()
            if not np.isfinite(values).all():
                raise DivergenceError(NOT_FINITE)
            if results is None:
                results = np.empty((n_rows, *values.shape[1:]), dtype=values.dtype)
            results[rows] = values
    assert results is not None, "at least one batch is required"
    if len(rows) < n_rows:  # skip for a single batch, to keep its latency low
        trim_heap(device)
    return results
