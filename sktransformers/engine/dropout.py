"""Dropout that costs little on a CPU.

PyTorch draws a dropout mask there one number at a time, which takes longer than many
of the matrix products it stands between. Here 16 random bits decide on each element,
from a generator that makes them ten times as fast.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LEVELS = 1 << 16  # of a 16-bit number, so that p is met to within 1e-5


class FastDropout(TorchFunctionMode):
    """A context in which :func:`torch.nn.functional.dropout` draws its masks fast.

    It holds for the calling thread alone, for tensors on the CPU, and not in a backward
    pass that recomputes. Each call seeds its mask from torch's generator, so that fits
    are as repeatable as with PyTorch's own dropout.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace dropout; let every other function through."""
        if func is functional.dropout:
            return _dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _dropout(
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    n_dropped = round(p * _LEVELS)
    is_ours = input.device.type == "cpu" and 0 < n_dropped < _LEVELS
    if not (training and is_ours):
        return functional.dropout(input, p, training, inplace)
    mask = _draw_mask(input.shape, n_dropped).to(input.dtype)
    mask *= _LEVELS / (_LEVELS - n_dropped)
    return input * mask


def _draw_mask(shape: torch.Size, n_dropped: int) -> torch.Tensor:
    """Draw what is kept: each element independently, n_dropped in 65,536 not."""
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    n_words = -(-shape.numel() // 4)  # of 64 bits
    levels = torch.from_numpy(generator.random_raw(n_words).view(np.int16))
    return levels[: shape.numel()].view(shape) >= n_dropped - _LEVELS // 2
