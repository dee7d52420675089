"""Predict outputs and embeddings of encoded texts."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .._hardware import devices as hardware
from .._models.heads import PooledModel
from .._models.language_model import LanguageModel
from .._models.token_types import special_tokens_of
from .._tasks import Task
from .._text.batching import inference_batches
from .._text.encoding import Encoding, encode
from .._text.tokenization import tokenize
from . import backends
from . import forward as inference
from .batch_rules import with_rule
from .embedding_cache import cache_in, keys_of
from .forward import to_tensors

_HALF_PRECISION: WeakKeyDictionary[torch.nn.Module, inference.HalfPrecisionModel]
_HALF_PRECISION = WeakKeyDictionary()

# Checkpoint and weight state of models whose encoder was not fine-tuned.
_SOURCES: WeakKeyDictionary[torch.nn.Module, tuple[str, Any]] = WeakKeyDictionary()

_MAX_EXAMPLE_LENGTH = 160  # tokens; exceeds the usual attention window of 128


def place(model: Any, device: torch.device) -> Any:
    """Prepare a model for predictions on a device."""
    if model.training or model.encoder.training:  # set by a user
        model.eval()
    # ``to`` is slow even if the model is on the device.
    now = next(model.parameters()).device
    # The device of a new tensor has its index resolved, such as "cuda:0" for "cuda".
    if now != device and now != torch.empty(0, device=device).device:
        with hardware.gradients_enabled():
            model.to(device)
    return model


def place_model(estimator: Any) -> tuple[Any, torch.device, str]:
    """Return an estimator's model, ready for prediction on its device.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.

    Returns
    -------
    model : callable
        The fitted model, a half-precision copy, or its conversion to an inference
        backend.
    device : torch.device
        Device of the model.
    precision : str
        Precision of autocast.
    """
    device = hardware.resolve_device(estimator.device)
    precision = hardware.inference_precision(
        estimator.precision, estimator.inference_precision
    )
    fitted = estimator.model_
    accelerated = estimator.__dict__.get("_accelerated")
    if accelerated is not None and accelerated.matches(fitted, device, precision):
        return accelerated, device, "float32"
    model = place(fitted, device)
    if precision in ("bfloat16", "float16"):
        return lower(model, precision), device, "float32"
    return model, device, precision


def prepare_prediction(
    estimator: Any, encoding: Encoding
) -> tuple[Any, Encoding, torch.device, str]:
    """Place an estimator's model; find out which encoded texts may share a batch.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.
    encoding : Encoding
        Encoded texts.

    Returns
    -------
    model, encoding, device, precision
        As :func:`place_model` returns them; the encoded texts, with their rule.
    """
    model, device, precision = place_model(estimator)
    return model, with_rule(estimator.model_, encoding, device), device, precision


def lower(model: torch.nn.Module, precision: str) -> inference.HalfPrecisionModel:
    """Return a half-precision copy, cached until the model's weights change."""
    converted = _HALF_PRECISION.get(model)
    if converted is None or not converted.matches(model, precision):
        converted = _HALF_PRECISION[model] = inference.HalfPrecisionModel(
            model, precision
        )
    return converted


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
) -> backends.AcceleratedModel:
    """Convert a model to an inference backend; test it with and without padding."""
    backends.check(backend, device, precision)
    texts = [" ".join(str(i % 10) for i in range(n)) for n in (3, 30, 300)]
    encoding = encode(
        [tokenize(tokenizer, texts)] * n_columns,
        special_tokens_of(tokenizer, model.module.config, n_columns),
        max_length=min(limit, _MAX_EXAMPLE_LENGTH),
        window=False,
    )
    examples = [
        to_tensors(encoding.pad(np.array(rows)), device) for rows in ([0, 1, 2], [1])
    ]
    if at_positions:
        for inputs in examples:
            inputs["positions"] = inputs["attention_mask"].flatten().nonzero()[:, 0]
    model = place(model, device)
    return backends.AcceleratedModel(model, backend, precision, examples)


def run_model(
    forward: Callable[..., torch.Tensor],
    encoding: Encoding,
    device: torch.device,
    precision: str,
) -> np.ndarray:
    """Return the outputs of ``forward`` for all windows, in order."""
    batches = (
        (encoding.outputs_of(rows), to_tensors(encoding.pad(rows), device))
        for batch in inference_batches(encoding.lengths, encoding.hashes())
        for rows in encoding.split(batch)
    )
    return inference.run(
        forward, batches, encoding.n_outputs, device=device, precision=precision
    )


def mark_frozen(model: torch.nn.Module, source: str | None) -> None:
    """Record the checkpoint of a model whose encoder was not fine-tuned."""
    if source is not None:
        _SOURCES[model] = source, inference.state_of(model.encoder)


def source_of(model: torch.nn.Module) -> str | None:
    """Return the checkpoint recorded by `mark_frozen` if the weights are unchanged."""
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
    """Return the embeddings that are the input of the head, from the cache if possible.

    Parameters
    ----------
    model : PooledModel
        Model, on ``device``.
    encoding : Encoding
        Encoded texts.
    device : torch.device
        Device of the model.
    precision : str
        Precision of autocast.
    source : str or None
        Checkpoint of the model, used in the cache keys. None disables the cache.
    memory : str or None
        Directory of the cache. None caches in the memory of this process only.

    Returns
    -------
    ndarray of shape (n_outputs, hidden_size)
        Embeddings, in the order of the outputs.
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
    task: Task,
    encoding: Encoding,
    device: torch.device,
    precision: str,
    memory: str | None = None,
) -> np.ndarray:
    """Return the outputs of all texts; the task pools the windows of each text."""
    if not len(encoding):  # no text has any words
        return np.empty((0, task.n_outputs), dtype=np.float32)
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
    return task.pool_windows(outputs, encoding.sample_index)


def _apply_head(model: PooledModel, vectors: np.ndarray) -> np.ndarray:
    """Return the outputs of the head for embeddings."""
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
    """Return the cross-entropy loss of each target token."""
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
