"""LoRA: small matrices beside the frozen ones of a model, which alone are trained.

The layers come from peft, put into the model as it stands, so that no other code has to
know of them. https://arxiv.org/abs/2106.09685
"""

import hashlib
import importlib
import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..exceptions import ModelFormatError
from .files import quiet

_FINGERPRINTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class AdapterSettings:
    """What an adapter is like.

    Attributes
    ----------
    rank : int
        Rows of the small matrices.
    alpha : float
        What they add is scaled by ``alpha / rank``.
    dropout : float
        Share of their inputs that is left out in training.
    target_modules : str or list of str or None
        Names of the layers that get them, by their ends, or a regular expression for
        the whole. None: all linear layers below the output.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: Any


@dataclass(frozen=True)
class AdapterState:
    """What is saved of a model with an adapter: all that its base has not.

    Attributes
    ----------
    settings : AdapterSettings
        What to put into the base.
    tensors : dict of str to Tensor
        The adapter's matrices and the head.
    fingerprint : str
        Of the base that they belong to.
    """

    settings: AdapterSettings
    tensors: dict[str, torch.Tensor]
    fingerprint: str


def require_peft() -> None:
    """Raise ImportError if peft is missing."""
    try:
        importlib.import_module("peft")
    except ImportError as error:
        raise ImportError(
            f"lora_rank needs the package {error.name!r}, which is not installed: pip "
            "install 'sktransformers-text[lora]'"
        ) from error


def add_adapter(model: Any, settings: AdapterSettings) -> None:
    """Freeze a model but for its head, and put an adapter into it.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        Changed in place.
    settings : AdapterSettings
        What the adapter is like.

    Raises
    ------
    ValueError
        No layer has the names of ``target_modules``.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if targets is None else targets,
    )
    try:
        with quiet(), warnings.catch_warnings():
            # That it takes GPT-2's kind of layers for what they are.
            warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
            inject_adapter_in_model(config, model.encoder)
    except ValueError as error:
        raise ValueError(
            f"lora_target_modules={targets!r} names no linear layer of the model: "
            f"{error}"
        ) from error
    freeze_base(model)


def freeze_base(model: Any) -> None:
    """Let nothing but a model's adapter and its head train."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model.head.requires_grad_(True)


def has_adapter(model: nn.Module) -> bool:
    """Whether a model has an adapter."""
    return any("lora_" in name for name, _ in model.named_parameters())


def merge_adapter(model: nn.Module) -> None:
    """Add what an adapter has learned to the weights beside it, and take it out.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "get_base_layer"):
                child.merge(safe_merge=True)
                setattr(parent, name, child.get_base_layer())
    model.requires_grad_(True)


def adapter_state(model: Any, settings: AdapterSettings) -> AdapterState:
    """Return what has to be saved of a model with an adapter."""
    head = {f"head.{name}" for name, _ in model.head.named_parameters()}
    tensors = {
        name: tensor.detach().cpu()
        for name, tensor in model.named_parameters()
        if "lora_" in name or name in head or tensor.requires_grad
    }
    return AdapterState(settings, tensors, fingerprint(model))


def restore_adapter(model: Any, state: AdapterState) -> None:
    """Put a saved adapter into the base that it was trained with.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        As read from its checkpoint; changed in place.
    state : AdapterState
        As :func:`adapter_state` gave it.

    Raises
    ------
    ModelFormatError
        The base is another than that of the training.
    """
    add_adapter(model, state.settings)
    if fingerprint(model) != state.fingerprint:
        raise ModelFormatError(
            "The model that this adapter was trained with has changed since. Load it "
            "where the same weights are found, or save or pickle after "
            "merge_adapter(), which keeps all weights."
        )
    model.load_state_dict(state.tensors, strict=False)


def fingerprint(model: Any) -> str:
    """Return a hash of the frozen weights of a model with an adapter."""
    if model not in _FINGERPRINTS:
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(model.encoder.named_parameters()):
            if "lora_" not in name:
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                raw = tensor.detach().cpu().contiguous().view(torch.uint8)
                digest.update(raw.numpy().data)
        _FINGERPRINTS[model] = digest.hexdigest()
    return _FINGERPRINTS[model]
