"""Fast dropout on CPUs.

On a CPU, PyTorch draws the dropout mask one number at a time, which takes longer than
many matrix products of the model. Here the mask is drawn with 16 random bits for each
element, from a generator that is ten times as fast.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_LEVELS = 1 << 16  # values of a 16-bit number; p is rounded to a multiple of 2**-16


class FastDropout(nn.Dropout):
    """Dropout with a fast mask generator on CPUs.

    Each call seeds its mask from torch's generator. Fits are therefore as reproducible
    as with PyTorch's dropout, and gradient checkpointing is supported.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply dropout to the input."""
        return fast_dropout(input, self.p, self.training)


def set_fast_dropout(model: nn.Module, *, active: bool) -> None:
    """Switch the dropout layers of a model to fast dropout or back.

    Parameters
    ----------
    model : nn.Module
        Modified in place.
    active : bool
        True for :class:`FastDropout`, False for :class:`torch.nn.Dropout`.
    """
    old, new = (nn.Dropout, FastDropout) if active else (FastDropout, nn.Dropout)
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new


def fast_dropout(input: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Set elements to zero with probability p and scale the others by ``1 / (1 - p)``.

    PyTorch's dropout is used on other devices than CPUs and in compiled code.

    Parameters
    ----------
    input : Tensor
        Input of any shape.
    p : float
        Probability of an element to be set to zero.
    training : bool
        Whether to apply dropout. If False, the input is returned.

    Returns
    -------
    Tensor
        Output of the same shape and dtype.
    """
    n_dropped = round(p * _LEVELS)
    is_supported = input.device.type == "cpu" and 0 < n_dropped < _LEVELS
    if not (training and is_supported) or torch.compiler.is_compiling():
        return functional.dropout(input, p, training)
    mask = _draw_mask(input.shape, n_dropped).to(input.dtype)
    mask *= _LEVELS / (_LEVELS - n_dropped)
    return input * mask


def _draw_mask(shape: torch.Size, n_dropped: int) -> torch.Tensor:
    """Draw a mask that is False with probability ``n_dropped / _LEVELS``."""
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    n_words = -(-shape.numel() // 4)  # of 64 bits
    levels = torch.from_numpy(generator.random_raw(n_words).view(np.int16))
    return levels[: shape.numel()].view(shape) >= n_dropped - _LEVELS // 2
