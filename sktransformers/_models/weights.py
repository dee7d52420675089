"""Weights of a fitted model that differ from its pre-trained checkpoint."""

import copy
import hashlib
import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..exceptions import ModelFormatError
from .embeddings import add_embeddings


@dataclass(frozen=True)
class OwnWeights:
    """Weights to pickle of a model whose checkpoint is available when unpickling.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Weights that differ from the checkpoint.
    fingerprint : str
        Hash of the weights that do not differ.
    """

    tensors: dict[str, torch.Tensor]
    fingerprint: str


def own_weights(model: Any, base: Any) -> OwnWeights:
    """Return the weights of a model that differ from its checkpoint.

    Parameters
    ----------
    model : nn.Module
        Fitted model.
    base : nn.Module
        The same model as loaded from the checkpoint.

    Returns
    -------
    OwnWeights
        Copies of the weights that differ.
    """
    known = base.state_dict()
    tensors = {
        name: tensor.detach().cpu().clone()
        for name, tensor in model.state_dict().items()
        if not _is_equal(tensor, known.get(name))
    }
    return OwnWeights(tensors, _fingerprint(base, tensors))


def restore_weights(base: Any, own: OwnWeights, tokenizer: Any) -> None:
    """Restore the weights of a fitted model on its loaded checkpoint.

    Parameters
    ----------
    base : nn.Module
        Model as loaded from the checkpoint; modified in place.
    own : OwnWeights
        Weights returned by :func:`own_weights`.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.

    Raises
    ------
    ModelFormatError
        If the weights of the checkpoint have changed.
    """
    if _fingerprint(base, own.tensors) != own.fingerprint:
        raise ModelFormatError(
            "The pre-trained model of this pickle has changed since, and the pickle "
            "omits the weights that training did not change. Load it with the same "
            "pre-trained weights, or pickle with store_backbone=True."
        )
    known = base.state_dict()
    if any(t.shape != known[name].shape for name, t in own.tensors.items()):
        add_embeddings(base, tokenizer)
    _unshare(base, own.tensors)
    base.load_state_dict(own.tensors, strict=False)


def _unshare(model: Any, names: Collection[str]) -> None:
    """Give the named parameters values of their own, if others share theirs."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept = {id(p) for name, p in parameters.items() if name not in names}
    for name in names:
        if id(parameters.get(name)) in kept:
            path, _, last = name.rpartition(".")
            own = nn.Parameter(parameters[name].detach().clone())
            setattr(model.get_submodule(path), last, own)


def _is_equal(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or tensor.shape != other.shape or tensor.dtype != other.dtype:
        return False
    return torch.equal(tensor.detach().cpu(), other)


def _fingerprint(model: Any, left_out: dict[str, torch.Tensor]) -> str:
    """Return a hash of all weights except some."""
    weights = sorted(model.state_dict().items())
    return hash_tensors((n, tensor) for n, tensor in weights if n not in left_out)


def hash_tensors(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return a hash of named tensors, in their order.

    Parameters
    ----------
    tensors : iterable of (str, Tensor)
        Names and values, on any device.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def copy_sharing_weights(model: Any) -> Any:
    """Return a deep copy of a module that shares all parameters and buffers.

    Parameters
    ----------
    model : nn.Module
        Not changed.

    Returns
    -------
    nn.Module
        With modules and settings of its own.
    """
    shared = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
