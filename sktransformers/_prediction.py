"""A model and encoded texts in; one row of outputs for each text out."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ._targets import Target
from .engine import hardware, inference, runtimes
from .engine.vector_cache import cache_in, keys_of
from .models.language import LanguageModel
from .models.modules import PooledModel
from .text.batching import inference_batches
from .text.encoding import Encoding, SpecialTokens, encode, tokenize

_LOWERED: WeakKeyDictionary[torch.nn.Module, inference.LoweredModel]
_LOWERED = WeakKeyDictionary()

# Models whose weights below the head are those of a checkpoint.
_SOURCES: WeakKeyDictionary[torch.nn.Module, tuple[str, Any]] = WeakKeyDictionary()

_LONGEST_EXAMPLE = 160  # tokens; models that look about in a window take 128


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a model to a device, unless it is there: that alone takes a while."""
    now = next(model.parameters()).device
    # An array knows which device a name such as "cuda" stands for: "cuda:0", say.
    if now != device and now != torch.empty(0, device=device).device:
        model.to(device)
    return model


def place_model(estimator: Any) -> tuple[Any, torch.device, str]:
    """Put a fitted model where its estimator says.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Returns
    -------
    model : callable
        The model itself, a copy in lower precision, or another runtime's.
    device : torch.device
        Where it is.
    precision : str
        What to autocast it to.
    """
    device = hardware.resolve_device(estimator.device)
    precision = hardware.inference_precision(
        estimator.precision, estimator.inference_precision
    )
    fitted = estimator.model_
    accelerated = estimator.__dict__.get("_accelerated")
    if accelerated is not None and accelerated.serves(fitted, device, precision):
        return accelerated, device, "float32"
    model = place(fitted, device)
    if precision in ("bfloat16", "float16"):
        return lower(model, precision), device, "float32"
    return model, device, precision


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
        for rows in inference_batches(encoding.lengths, encoding.hashes())
    )
    return inference.run(
        forward, batches, encoding.n_outputs, device=device, precision=precision
    )


def mark_frozen(model: torch.nn.Module, source: str | None) -> None:
    """Note where the weights below a model's head are from, if nothing changed them."""
    if source is not None:
        _SOURCES[model] = source, inference.state_of(model.encoder)


def source_of(model: torch.nn.Module) -> str | None:
    """Return what :func:`mark_frozen` noted, unless the weights have changed since."""
    source, state = _SOURCES.get(model, (None, None))
    if source is None or inference.state_of(model.encoder) != state:
        return None
    return source


def embed(
    model: PooledModel,
    encoding: Encoding,
    device: torch.device,
    precision: str,
    *,
    source: str | None,
    memory: str | None,
) -> np.ndarray:
    """Return the vectors that the head reads; what is known is not made again.

    Parameters
    ----------
    model : PooledModel
        On its device.
    encoding : Encoding
        What it reads.
    device : torch.device
        Where the model is.
    precision : str
        Number format of the matrix products.
    source : str or None
        What the vectors depend on beside the row. None: they are not kept.
    memory : str or None
        Folder to keep them in. None: this process keeps them.

    Returns
    -------
    ndarray of shape (n_outputs, hidden_size)
        In the order of the outputs.
    """
    if source is None:
        return run_model(model.embed, encoding, device, precision)
    cache = cache_in(memory)
    keys = keys_of(f"{source} {device.type} {precision}", encoding.parts_of_rows())
    known = cache.find(keys)
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    is_new = np.zeros(len(keys), dtype=bool)
    is_new[[row for key, row in first.items() if key not in known]] = True
    if is_new.any():
        new = encoding.keep(is_new)
        vectors = run_model(model.embed, new, device, precision)
        parts = np.split(vectors, np.cumsum(new.output_counts)[:-1])
        rows = np.flatnonzero(is_new)
        made = {keys[row]: part for row, part in zip(rows, parts, strict=True)}
        cache.add(made)
        known |= made
    return np.concatenate([known[key] for key in keys])


def predict_texts(
    model: Any,
    target: Target,
    encoding: Encoding,
    device: torch.device,
    precision: str,
    memory: str | None = None,
) -> np.ndarray:
    """Return all outputs; the one of a text pools the probabilities of its windows."""
    if not len(encoding):  # of texts without words
        return np.empty((0, target.n_outputs), dtype=np.float32)
    source = source_of(model)
    if source is None:
        outputs = run_model(model, encoding, device, precision)
    else:
        vectors = embed(
            model, encoding, device, precision, source=source, memory=memory
        )
        outputs = _apply_head(model, vectors)
    if encoding.positions is not None or len(encoding) == encoding.n_texts:
        return outputs
    means = pool_windows(target.probabilities(outputs), encoding.owners)
    counts = np.bincount(encoding.owners)
    firsts = np.cumsum(counts) - counts
    is_long = (counts > 1)[:, None]  # other texts' outputs stay as they are
    pooled = np.where(is_long, target.outputs_of(means), outputs[firsts])
    return pooled.astype(outputs.dtype)


def _apply_head(model: PooledModel, vectors: np.ndarray) -> np.ndarray:
    """Return the outputs that a head makes of vectors."""
    weight = model.head.weight
    with torch.inference_mode():
        outputs: torch.Tensor = model.head(torch.from_numpy(vectors).to(weight))
    return outputs.cpu().numpy()


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
        for rows in inference_batches(encoding.lengths, encoding.hashes())
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
