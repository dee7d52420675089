"""Forward passes over many rows; results come back in input order."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from .._compat import parameter_version
from .hardware import DTYPES, autocast, trim_heap

Inputs = dict[str, torch.Tensor]


class LoweredModel:
    """Stands for a model in prediction; its weights are in a lower precision.

    Autocast would convert them in each call, which takes longer than the work on one
    text.

    Parameters
    ----------
    model : nn.Module
        With ``embed``; not changed.
    precision : {"bfloat16", "float16"}
        Format of the weights.
    """

    def __init__(self, model: Any, precision: str) -> None:
        self._precision = precision
        self._state = state_of(model)
        lowered: dict[int, Any] = {
            id(p): nn.Parameter(p.detach().to(DTYPES[precision]), requires_grad=False)
            for p in model.parameters()
        }
        self._lowered = copy.deepcopy(model, lowered)

    @property
    def module(self) -> Any:
        """The copy itself."""
        return self._lowered

    def serves(self, model: nn.Module, precision: str) -> bool:
        """Whether it stands for this model as it is now, in that precision."""
        return precision == self._precision and state_of(model) == self._state

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs, of shape (n_rows, n_outputs)."""
        outputs: torch.Tensor = self._lowered(**inputs)
        return outputs

    def embed(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return one vector a row, of shape (n_rows, hidden_size)."""
        vectors: torch.Tensor = self._lowered.embed(**inputs)
        return vectors


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """Return what changes when the weights do, or move to another device."""
    parameters = list(model.parameters())
    return parameters[0].device, [(id(p), parameter_version(p)) for p in parameters]


def run(
    forward: Callable[..., torch.Tensor],
    batches: Iterable[tuple[np.ndarray, Inputs]],
    n_rows: int,
    *,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Call ``forward`` on every batch and collect its outputs.

    Parameters
    ----------
    forward : callable
        From a batch's inputs to one output vector for each row.
    batches : iterable of (ndarray, dict)
        The rows of each batch and their inputs; together, every row once.
    n_rows : int
        Number of rows; at least one.
    device : torch.device
        Where the model is.
    precision : str
        Number format of the matrix products.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        In input order, float32 (float64 in that precision).
    """
    results: np.ndarray | None = None
    with torch.inference_mode(), autocast(device, precision):
        for rows, inputs in batches:
            output = forward(**inputs)
            if output.dtype != torch.float64:
                output = output.float()
            values = output.cpu().numpy()
            if results is None:
                results = np.empty((n_rows, *values.shape[1:]), dtype=values.dtype)
            results[rows] = values
    assert results is not None, "at least one batch is required"
    if len(rows) < n_rows:  # a text alone should not wait for it
        trim_heap(device)
    return results
