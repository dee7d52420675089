"""Forward passes over many rows; results come back in input order."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from .hardware import autocast

Inputs = dict[str, torch.Tensor]


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
    return results
