"""A model and encoded texts in; one row of outputs for each text out."""

from collections.abc import Callable

import numpy as np
import torch

from ._targets import Target
from .engine import inference
from .text.batching import inference_batches
from .text.encoding import Encoding


def run_model(
    forward: Callable[..., torch.Tensor],
    encoding: Encoding,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return what ``forward`` makes of each window, in order."""
    batches = (
        (rows, to_tensors(encoding.pad(rows), device))
        for rows in inference_batches(encoding.lengths)
    )
    return inference.run(
        forward, batches, len(encoding), device=device, precision=precision
    )


def predict_texts(
    model: torch.nn.Module,
    target: Target,
    encoding: Encoding,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return the outputs for each text; windows of a text pool their probabilities."""
    outputs = run_model(model, encoding, device, precision)
    if len(encoding) == encoding.n_texts:
        return outputs
    means = pool_windows(target.probabilities(outputs), encoding.owners)
    counts = np.bincount(encoding.owners)
    firsts = np.cumsum(counts) - counts
    is_long = (counts > 1)[:, None]  # other texts' outputs stay as they are
    pooled = np.where(is_long, target.outputs_of(means), outputs[firsts])
    return pooled.astype(outputs.dtype)


def pool_windows(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return the mean of each text's windows."""
    counts = np.bincount(owners)
    sums = np.add.reduceat(values, np.cumsum(counts) - counts, axis=0)
    return sums / counts[:, None]


def to_tensors(
    arrays: dict[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    """Turn arrays into tensors on a device."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
