"""A LoRA adapter as peft writes it, and the name and hashes of its base."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..exceptions import ModelFormatError
from ..models.adapters import (
    AdapterState,
    adapter_state,
    fingerprint,
    require_peft,
    restore_adapter,
)
from ..models.generative import load_generative
from ..models.language import LanguageModel
from ..models.modules import PooledModel, build
from ._json import write_json
from ._weights import HEAD, read_tensors, write_tensors

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

_PEFTS = re.compile(r"(\.lora_(embedding_)?[AB])(?=\.|$)")
_OURS = re.compile(r"(\.lora_\w+)\.default\b")
_TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS"}


def describe_base(estimator: Any) -> dict[str, str]:
    """Return the hashes of what an adapter belongs to.

    Parameters
    ----------
    estimator : estimator
        Fitted, with an adapter.

    Returns
    -------
    dict of str to str
        Of the frozen weights and of the tokenizer's vocabulary.
    """
    return {
        "weights_hash": fingerprint(estimator.model_),
        "vocabulary_hash": _hash_vocabulary(estimator.tokenizer_),
    }


def write_adapter(folder: Path, estimator: Any) -> None:
    """Write what an adapter has beside its base, as peft reads it.

    Parameters
    ----------
    folder : Path
        Where to.
    estimator : estimator
        Fitted, with an adapter.
    """
    model = estimator.model_
    tensors = adapter_state(model, estimator._adapter).tensors
    if isinstance(model, PooledModel):
        write_tensors(folder / HEAD, model.head.state_dict())
    names = {name: _name_for_peft(name, model) for name in tensors}
    write_tensors(
        folder / ADAPTER,
        {peft: tensors[name] for name, peft in names.items() if peft is not None},
    )
    write_json(folder / ADAPTER_CONFIG, _config_for_peft(estimator))


def read_adapter(
    folder: Path,
    checkpoint: Any,
    description: dict[str, Any],
    state: Any,
    task: str,
    dtype: torch.dtype,
) -> Any:
    """Put an adapter into the base that it was trained with.

    Parameters
    ----------
    folder : Path
        Of the adapter.
    checkpoint : Checkpoint
        The base.
    description : dict
        Of the model.
    state : State
        Of the estimator.
    task : str
        Of the estimator.
    dtype : torch.dtype
        Format of the weights.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        In evaluation mode.

    Raises
    ------
    ModelFormatError
        The base is another, or the adapter does not fit it.
    """
    require_peft()
    if _hash_vocabulary(checkpoint.tokenizer) != state.base["vocabulary_hash"]:
        raise ModelFormatError(
            f"{folder}: the adapter was trained with another tokenizer than "
            f"{checkpoint.name!r} has now. Load it where the same files are found."
        )
    model: Any
    if description["kind"] == "language":
        model = LanguageModel(load_generative(checkpoint, dtype))
    else:
        pooling = description["pooling"] or "head"
        model = build(
            checkpoint,
            n_outputs=state.target.n_outputs,
            pooling=pooling,
            dtype=dtype,
            task=task,
        )
    tensors = {
        _our_name(n, model): t for n, t in read_tensors(folder / ADAPTER).items()
    }
    if isinstance(model, PooledModel):
        head = read_tensors(folder / HEAD)
        tensors |= {f"head.{name}": tensor for name, tensor in head.items()}
    settings = state.attributes["_adapter"]
    restore_adapter(model, AdapterState(settings, tensors, state.base["weights_hash"]))
    expected = adapter_state(model, settings).tensors.keys()
    if tensors.keys() != expected:
        raise ModelFormatError(
            f"{folder / ADAPTER}: weights are missing "
            f"({sorted(expected - tensors.keys())[:3]}) or unexpected "
            f"({sorted(tensors.keys() - expected)[:3]})."
        )
    return model.eval()


def _our_name(name: str, model: Any) -> str:
    ours = "encoder." if isinstance(model, PooledModel) else "model."
    return ours + _PEFTS.sub(r"\1.default", name.removeprefix("base_model.model."))


def _name_for_peft(name: str, model: Any) -> str | None:
    """Return peft's name of a tensor; None for a head that it does not know."""
    ours = "encoder." if isinstance(model, PooledModel) else "model."
    if not name.startswith(ours):
        return None
    return "base_model.model." + _OURS.sub(r"\1", name.removeprefix(ours))


def _config_for_peft(estimator: Any) -> dict[str, Any]:
    from peft import LoraConfig

    model, settings = estimator.model_, estimator._adapter
    name, revision = estimator._checkpoint_name
    is_pooled = isinstance(model, PooledModel)
    inside: nn.Module = model.encoder if is_pooled else model.model
    task = None if is_pooled else _TASKS.get(estimator._task)
    if isinstance(model, LanguageModel):
        is_pair = model.model.config.is_encoder_decoder
        task = "SEQ_2_SEQ_LM" if is_pair else "CAUSAL_LM"
    layers = {n: m for n, m in inside.named_modules() if hasattr(m, "get_base_layer")}
    below = None if is_pooled else model.encoder
    trained = [
        n for n, m in inside.named_children() if m is not below and list(m.parameters())
    ]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(layers),
        fan_in_fan_out=any(
            getattr(m, "fan_in_fan_out", False) for m in layers.values()
        ),
        modules_to_save=None
        if task in (None, "CAUSAL_LM", "SEQ_2_SEQ_LM")
        else trained,
        task_type=task,
        base_model_name_or_path=str(name),
        revision=revision,
        inference_mode=True,
    )
    found = {k: getattr(v, "value", v) for k, v in config.to_dict().items()}
    return {k: sorted(v) if isinstance(v, set) else v for k, v in found.items()}


def _hash_vocabulary(tokenizer: Any) -> str:
    tokens = sorted(tokenizer.get_vocab().items())
    return hashlib.blake2b(repr(tokens).encode("utf-8", "surrogatepass")).hexdigest()[
        :32
    ]
