"""A model and encoded texts in; one row of outputs for each text out."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ._targets import Target
from .engine import inference, runtimes
from .models.language import LanguageModel
from .text.batching import inference_batches
from .text.encoding import Encoding, SpecialTokens, encode, tokenize

_LOWERED: WeakKeyDictionary[torch.nn.Module, inference.LoweredModel]
_LOWERED = WeakKeyDictionary()

_LONGEST_EXAMPLE = 160  # tokens; models that look about in a window take 128


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a model to a device, unless it is there: that alone takes a while."""
    now = next(model.parameters()).device
    # An array knows which device a name such as "cuda" stands for: "cuda:0", say.
    if now != device and now != torch.empty(0, device=device).device:
        model.to(device)
    return model


def lower(model: torch.nn.Module, precision: str) -> inference.LoweredModel:
    """Return a copy in lower precision: the last one, if the model has not changed."""
    lowered = _LOWERED.get(model)
    if lowered is None or not lowered.serves(model, precision):
        lowered = _LOWERED[model] = inference.LoweredModel(model, precision)
    return lowered


def accelerate(
    model: torch.nn.Module,
    backend: str,
    device: torch.device,
    precision: str,
    tokenizer: Any,
    n_columns: int,
    limit: int,
    *,
    at_positions: bool,
) -> runtimes.AcceleratedModel:
    """Let another runtime stand in for a model, tried with padding and without."""
    runtimes.check(backend, device, precision)
    texts = [" ".join(str(i % 10) for i in range(n)) for n in (3, 30, 300)]
    encoding = encode(
        [tokenize(tokenizer, texts)] * n_columns,
        SpecialTokens.of(tokenizer),
        max_length=min(limit, _LONGEST_EXAMPLE),
        window=False,
    )
    examples = [
        to_tensors(encoding.pad(np.array(rows)), device) for rows in ([0, 1, 2], [1])
    ]
    if at_positions:
        for inputs in examples:
            inputs["positions"] = inputs["attention_mask"].flatten().nonzero()[:, 0]
    model = place(model, device)
    return runtimes.AcceleratedModel(model, backend, precision, examples)


def run_model(
    forward: Callable[..., torch.Tensor],
    encoding: Encoding,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return all outputs that ``forward`` makes of the windows, in order."""
    batches = (
        (encoding.outputs_of(rows), to_tensors(encoding.pad(rows), device))
        for rows in inference_batches(encoding.lengths)
    )
    return inference.run(
        forward, batches, encoding.n_outputs, device=device, precision=precision
    )


def predict_texts(
    model: torch.nn.Module,
    target: Target,
    encoding: Encoding,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return all outputs; the one of a text pools the probabilities of its windows."""
    if not len(encoding):  # of texts without words
        return np.empty((0, target.n_outputs), dtype=np.float32)
    outputs = run_model(model, encoding, device, precision)
    if encoding.positions is not None or len(encoding) == encoding.n_texts:
        return outputs
    means = pool_windows(target.probabilities(outputs), encoding.owners)
    counts = np.bincount(encoding.owners)
    firsts = np.cumsum(counts) - counts
    is_long = (counts > 1)[:, None]  # other texts' outputs stay as they are
    pooled = np.where(is_long, target.outputs_of(means), outputs[firsts])
    return pooled.astype(outputs.dtype)


def token_losses(
    model: LanguageModel,
    encoding: Any,
    targets: np.ndarray,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return how unexpected each target token was, batch by batch."""
    batches = (
        (
            encoding.outputs_of(rows),
            to_tensors(
                {
                    **encoding.pad(rows),
                    "targets": targets[encoding.outputs_of(rows)],
                },
                device,
            ),
        )
        for rows in inference_batches(encoding.lengths)
    )
    return inference.run(
        model.losses, batches, encoding.n_outputs, device=device, precision=precision
    )


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
