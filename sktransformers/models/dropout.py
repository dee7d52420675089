"""Dropout that costs little on a CPU.

PyTorch draws a dropout mask there one number at a time, which takes longer than many
of the matrix products it stands between. Here 16 random bits decide on each element,
from a generator that makes them ten times as fast.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_LEVELS = 1 << 16  # of a 16-bit number, so that p is met to within 1e-5


class FastDropout(nn.Dropout):
    """Dropout whose mask is drawn fast on a CPU.

    Each call seeds its mask from torch's generator, so that fits are as repeatable as
    with PyTorch's own dropout, and activations may be recomputed.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input with a share of its elements set to zero."""
        return fast_dropout(input, self.p, self.training)


def set_fast_dropout(model: nn.Module, *, active: bool) -> None:
    """Make the dropout layers of a model draw their masks fast, or as before.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    active : bool
        Whether to use :class:`FastDropout` or :class:`torch.nn.Dropout`.
    """
    old, new = (nn.Dropout, FastDropout) if active else (FastDropout, nn.Dropout)
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new


def fast_dropout(input: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Set a share of the elements to zero and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    input : Tensor
        Of any shape. On other devices, and in compiled code, PyTorch's own dropout is
        used.
    p : float
        Share of elements that are set to zero.
    training : bool
        False returns the input.

    Returns
    -------
    Tensor
        Of the same shape and dtype.
    """
    n_dropped = round(p * _LEVELS)
    is_ours = input.device.type == "cpu" and 0 < n_dropped < _LEVELS
    if not (training and is_ours) or torch.compiler.is_compiling():
        return functional.dropout(input, p, training)
    mask = _draw_mask(input.shape, n_dropped).to(input.dtype)
    mask *= _LEVELS / (_LEVELS - n_dropped)
    return input * mask


def _draw_mask(shape: torch.Size, n_dropped: int) -> torch.Tensor:
    """Draw what is kept: each element independently, n_dropped in 65,536 not."""
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    n_words = -(-shape.numel() // 4)  # of 64 bits
    levels = torch.from_numpy(generator.random_raw(n_words).view(np.int16))
    return levels[: shape.numel()].view(shape) >= n_dropped - _LEVELS // 2
