"""LoRA: trainable low-rank matrices beside the frozen weights of a model.

The layers are those of peft, injected into the model in place.
https://arxiv.org/abs/2106.09685
"""

import importlib
import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from .._json import Schema
from ..exceptions import ModelFormatError
from .embeddings import add_embeddings
from .files import quiet
from .forward_state import ForwardState
from .weights import hash_tensors

_FINGERPRINTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class AdapterSettings(Schema):
    """Configuration of a LoRA adapter.

    Attributes
    ----------
    rank : int
        Rank of the matrices.
    alpha : float
        Scaling: the update is multiplied by ``alpha / rank``.
    dropout : float
        Dropout probability of the adapter inputs.
    target_modules : str or list of str or None
        Suffixes of the names of the layers to adapt, or a regular expression for the
        full name. None: all linear layers except the output layer.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: str | list[str] | None


@dataclass(frozen=True)
class AdapterState:
    """Saved state of a model with an adapter, without the base weights.

    Attributes
    ----------
    settings : AdapterSettings
        Configuration of the adapter.
    tensors : dict of str to Tensor
        Weights of the adapter and the head.
    fingerprint : str
        Hash of the base weights.
    """

    settings: AdapterSettings
    tensors: dict[str, torch.Tensor]
    fingerprint: str


def require_peft() -> None:
    """Raise ImportError if peft cannot be imported."""
    try:
        importlib.import_module("peft")
    except ImportError as error:
        raise ImportError(
            f"lora_rank needs the package {error.name!r}, which is not installed: "
            "pip install 'sktransformers-text[lora]'"
        ) from error


def add_adapter(model: Any, settings: AdapterSettings) -> None:
    """Freeze a model except its head, and inject an adapter.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        Modified in place.
    settings : AdapterSettings
        Configuration of the adapter.

    Raises
    ------
    ValueError
        If no layer matches ``target_modules``.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if targets is None else targets,
        # peft would warn that it sets this for the layers of GPT-2.
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.encoder.modules()),
    )
    try:
        with quiet(), warnings.catch_warnings():
            # peft warns of merging tied layers, which merge_adapter can do.
            warnings.filterwarnings("ignore", "Model has `tie_word", UserWarning)
            inject_adapter_in_model(config, model.encoder)
    except ValueError as error:
        raise ValueError(
            f"lora_target_modules={targets!r} matches no linear layer of the model: "
            f"{error}"
        ) from error
    freeze_base(model)


def require_used(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Raise ValueError if a model cannot be called, or uses none of its adapted layers.

    Parameters
    ----------
    model : TextModel
        Model with an adapter, in evaluation mode.
    inputs : dict of str to Tensor
        Inputs of a batch.
    """
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "get_base_layer")}
    called: list[nn.Module] = []
    handles = [
        layer.register_forward_hook(lambda layer, *_: called.append(layer))
        for layer in layers.values()
    ]
    try:
        with ForwardState(model), torch.no_grad():
            model(**inputs)
    except Exception as error:  # of any type
        raise ValueError(
            f"The model cannot be called with adapters in {sorted(layers)}: {error}. "
            "Select other layers with lora_target_modules, such as those of the "
            "attention."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise ValueError(
            f"lora_target_modules selects {sorted(layers)}, which the model does not "
            "call: other layers share their weights. Select those layers instead, such "
            "as 'embed_tokens' in place of 'shared'."
        )


def freeze_base(model: Any) -> None:
    """Freeze all parameters except those of the adapter and the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model.head.requires_grad_(True)


def has_adapter(model: nn.Module) -> bool:
    """Return whether a model has an adapter."""
    return any("lora_" in name for name, _ in model.named_parameters())


def merge_adapter(model: nn.Module) -> None:
    """Merge an adapter into the base weights and remove its layers.

    Parameters
    ----------
    model : nn.Module
        Modified in place. Weights that an adapted layer shares with others, such as
        token embeddings with the output layer, are no longer shared.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "get_base_layer"):
                layer = child.get_base_layer()
                layer.weight = nn.Parameter(layer.weight.detach().clone())
                child.merge(safe_merge=True)
                setattr(parent, name, layer)
        vars(parent).pop("peft_config", None)  # else a new adapter would be the second
    model.requires_grad_(True)


def adapter_state(model: Any, settings: AdapterSettings) -> AdapterState:
    """Return the state to save of a model with an adapter."""
    head = {f"head.{name}" for name, _ in model.head.named_parameters()}
    tensors = {
        name: tensor.detach().cpu()
        for name, tensor in model.named_parameters()
        if "lora_" in name or name in head or tensor.requires_grad
    }
    return AdapterState(settings, tensors, fingerprint(model))


def restore_adapter(model: Any, state: AdapterState, tokenizer: Any) -> None:
    """Restore a saved adapter on its base model.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        Model as loaded from its checkpoint; modified in place.
    state : AdapterState
        State returned by :func:`adapter_state`.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.

    Raises
    ------
    ModelFormatError
        If the base weights differ from those of the training.
    """
    add_embeddings(model, tokenizer)
    add_adapter(model, state.settings)
    if fingerprint(model) != state.fingerprint:
        raise ModelFormatError(
            "The base model of this adapter has changed since training. Load it with "
            "the same base weights, or save or pickle after merge_adapter(), which "
            "includes all weights."
        )
    model.load_state_dict(state.tensors, strict=False)


def fingerprint(model: Any) -> str:
    """Return a hash of the frozen weights of a model with an adapter."""
    if model not in _FINGERPRINTS:
        weights = sorted(model.encoder.named_parameters())
        _FINGERPRINTS[model] = hash_tensors(
            (name, tensor) for name, tensor in weights if "lora_" not in name
        )
    return _FINGERPRINTS[model]
