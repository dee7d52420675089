"""What a fitted model has of its own: the weights that its checkpoint has not."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from ..exceptions import ModelFormatError


@dataclass(frozen=True)
class OwnWeights:
    """What a pickle holds of a model whose other weights are found again.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The weights that differ from the checkpoint's.
    fingerprint : str
        Of those that do not.
    dtype : torch.dtype
        Format of the weights.
    """

    tensors: dict[str, torch.Tensor]
    fingerprint: str
    dtype: torch.dtype


def own_weights(model: Any, base: Any) -> OwnWeights:
    """Return what a model has that its checkpoint has not.

    Parameters
    ----------
    model : nn.Module
        Fitted.
    base : nn.Module
        The same, as read from the checkpoint.

    Returns
    -------
    OwnWeights
        With copies of the weights that differ.
    """
    known = base.state_dict()
    tensors = {
        name: tensor.detach().cpu().clone()
        for name, tensor in model.state_dict().items()
        if not _is_equal(tensor, known.get(name))
    }
    return OwnWeights(
        tensors, _fingerprint(base, tensors), next(base.parameters()).dtype
    )


def restore_weights(base: Any, own: OwnWeights) -> None:
    """Put a model's own weights into what was read from its checkpoint.

    Parameters
    ----------
    base : nn.Module
        Changed in place.
    own : OwnWeights
        As :func:`own_weights` gave it.

    Raises
    ------
    ModelFormatError
        The checkpoint has other weights now.
    """
    if _fingerprint(base, own.tensors) != own.fingerprint:
        raise ModelFormatError(
            "The model that this pickle was fitted from has changed since, and the "
            "pickle leaves out the weights that training did not change. Load it where "
            "the same weights are found, or pickle with store_backbone=True."
        )
    base.load_state_dict(own.tensors, strict=False)


def _is_equal(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or tensor.shape != other.shape or tensor.dtype != other.dtype:
        return False
    return torch.equal(tensor.detach().cpu(), other)


def _fingerprint(model: Any, left_out: dict[str, torch.Tensor]) -> str:
    """Return a hash of all weights but some."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        if name not in left_out:
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            raw = tensor.detach().cpu().contiguous().view(torch.uint8)
            digest.update(raw.numpy().data)
    return digest.hexdigest()
