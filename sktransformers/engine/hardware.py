"""Device and number format: what runs where, and in which precision."""

import contextlib
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator

import torch

from .._compat import cpu_multiplies_bfloat16

_RNG = threading.RLock()
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


_is_forked = False
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_note_fork)


def survive_fork() -> None:
    """Compute with one thread in a forked process; elsewhere do nothing.

    A fork copies torch's pool of threads, but not the threads: the first computation
    that waits for them would hang.
    """
    if _is_forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def resolve_device(device: str) -> torch.device:
    """Turn a device parameter into a torch device that exists.

    Parameters
    ----------
    device : str
        "auto" takes CUDA, else MPS, else the CPU; or a torch device name.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        The device is not on this machine, or torch does not know the name.
    """
    survive_fork()
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise _unknown_device(device)
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise _unknown_device(device) from error
    if resolved.type == "cpu":
        return resolved
    n_cuda = torch.cuda.device_count()
    missing_cuda = resolved.type == "cuda" and (resolved.index or 0) >= n_cuda
    missing_mps = resolved.type == "mps" and not torch.backends.mps.is_available()
    if missing_cuda or missing_mps:
        raise ValueError(
            f"device={device!r}, but this machine has {n_cuda} CUDA devices and "
            f"{'an' if torch.backends.mps.is_available() else 'no'} MPS device. "
            "Use device='auto' to take what there is."
        )
    return resolved


def _unknown_device(device: str) -> ValueError:
    return ValueError(
        f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. Got {device!r}."
    )


def resolve_precision(precision: str, device: torch.device) -> str:
    """Choose the number format of training.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16", "float64"}
        "auto" takes bfloat16 where the hardware multiplies it natively.
    device : torch.device
        Where the model runs.

    Returns
    -------
    str
        One of the formats, never "auto".

    Raises
    ------
    ValueError
        The device cannot do it.
    """
    if precision == "float64" and device.type == "mps":
        raise ValueError(
            "precision='float64' is more than an MPS device can do. Pass device='cpu' "
            "or another precision."
        )
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return cpu_multiplies_bfloat16()
    return False


def inference_precision(precision: str, wanted: str | None) -> str:
    """Choose the number format of prediction: exact unless another one is wanted.

    Parameters
    ----------
    precision : str
        That of training.
    wanted : str or None
        The user's choice for prediction.

    Returns
    -------
    str
        float32, or float64 where the weights are in it.
    """
    return wanted or ("float64" if precision == "float64" else "float32")


def weights_dtype(precision: str) -> torch.dtype:
    """Return the format the weights are held in: lower ones are for arithmetic only."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(
    device: torch.device, precision: str
) -> contextlib.AbstractContextManager[None]:
    """Return a context in which matrix products use the given precision."""
    if precision in ("bfloat16", "float16"):
        return torch.autocast(device.type, dtype=DTYPES[precision])
    return contextlib.nullcontext()


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, XPU, MPS
    "can't allocate memory",  # the CPU's allocator, on Linux
    "not enough memory",  # the same on Windows
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(m in text for m in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give the device's unused memory back, for others or for larger pieces."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif (trim := _find_trim()) is not None:
        trim(0)


def trim_heap(device: torch.device) -> None:
    """Free memory where a CPU has worked on batches of many shapes.

    torch keeps a kernel for each shape. They lie between buffers that are free again,
    so that the heap would grow by megabytes with each new shape. At most once a second,
    for it takes a hundredth of one.
    """
    global _last_trim
    if device.type == "cpu" and time.monotonic() - _last_trim > 1:
        free_memory(device)
        _last_trim = time.monotonic()


_last_trim = 0.0


@functools.cache
def _find_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # other systems have other heaps
        return None
    return trim


def rng_state(device: torch.device) -> list[torch.Tensor]:
    """Return the state of the generators that :func:`isolated_rng` seeds."""
    states = [torch.default_generator.get_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def set_rng_state(device: torch.device, states: list[torch.Tensor]) -> None:
    """Let the generators go on from an earlier state."""
    torch.default_generator.set_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
    if device.type == "mps" and len(states) > 1:
        torch.mps.set_rng_state(states[1])


@contextlib.contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators inside a context, and restore them on exit.

    The generators are global, so threads take turns: each then draws the same numbers
    as if it were alone.
    """
    devices = [device] if device.type == "cuda" else []
    with _RNG, torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed, which would seed every other device as well.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        if device.type != "mps":
            yield
            return
        state = torch.mps.get_rng_state()
        torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            torch.mps.set_rng_state(state)
