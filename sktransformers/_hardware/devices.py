"""Devices, precision, memory and random number generators of PyTorch."""

import contextlib
import ctypes
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from .._compat import cpu_multiplies_bfloat16

_RNG_LOCK = threading.RLock()
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def _mark_forked() -> None:
    global _is_forked
    _is_forked = True


_is_forked = False
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_mark_forked)


def limit_threads_after_fork() -> None:
    """Limit torch to one thread in a forked process; otherwise do nothing.

    A forked process inherits torch's thread pool without its threads, so the first
    multi-threaded computation would hang.
    """
    if _is_forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def resolve_device(device: str) -> torch.device:
    """Convert a device parameter to an available torch device.

    Parameters
    ----------
    device : str
        Name of a torch device, or "auto" for CUDA if available, else MPS, else CPU.

    Returns
    -------
    torch.device
        Device.

    Raises
    ------
    ValueError
        If the name is invalid or the device is not available on this machine.
    """
    limit_threads_after_fork()
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda|mps)(:(0|[1-9]\d?))?", device):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. Got {device!r}."
        )
    resolved = torch.device(device)
    if resolved.type == "cpu":
        return resolved
    has_mps, n_cuda = torch.backends.mps.is_available(), torch.cuda.device_count()
    is_there = has_mps if resolved.type == "mps" else (resolved.index or 0) < n_cuda
    if not is_there:
        raise ValueError(
            f"device={device!r}, but this machine has {n_cuda} CUDA devices and "
            f"{'an' if has_mps else 'no'} MPS device. "
            "Use device='auto' to select an available device."
        )
    return resolved


def resolve_precision(precision: str, device: torch.device) -> str:
    """Choose the precision of training.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16", "float64"}
        "auto" is bfloat16 if the hardware supports it natively, else float32.
    device : torch.device
        Device of the model.

    Returns
    -------
    str
        Precision, never "auto".

    Raises
    ------
    ValueError
        If the device does not support the precision.
    """
    if precision == "float64" and device.type == "mps":
        raise ValueError(
            "precision='float64' is not supported on MPS devices. Pass device='cpu' or "
            "another precision."
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
    """Choose the precision of prediction.

    Parameters
    ----------
    precision : str
        Precision of training.
    wanted : str or None
        Precision of prediction set by the user. None selects full precision.

    Returns
    -------
    str
        ``wanted`` if given, else "float64" if ``precision`` is, else "float32".
    """
    return wanted or ("float64" if precision == "float64" else "float32")


def weights_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the weights; half precision is used in autocast only."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(
    device: torch.device, precision: str
) -> contextlib.AbstractContextManager[None]:
    """Return a context that sets autocast, whatever the context of the caller."""
    if precision in ("bfloat16", "float16"):
        return torch.autocast(device.type, dtype=DTYPES[precision])
    return torch.autocast(device.type, enabled=False)


@contextlib.contextmanager
def gradients_enabled() -> Iterator[None]:
    """Compute gradients inside a context, whatever the mode of the calling code.

    A model must also be loaded in here, as tensors that are made in inference mode can
    never be trained.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, XPU, MPS
    "can't allocate memory",  # the CPU's allocator, on Linux
    "not enough memory",  # the same on Windows
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception is an out-of-memory error."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(m in text for m in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Release the unused cached memory of a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif (trim := _find_trim()) is not None:
        trim(0)


def trim_heap(device: torch.device) -> None:
    """Release unused heap memory after batches of many shapes on a CPU.

    torch caches a kernel for each input shape. The cached kernels fragment the heap,
    which would grow by megabytes with each new shape. Runs at most once per second, as
    it takes about 10 ms.
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
    except (AttributeError, OSError, TypeError):  # only glibc has malloc_trim
        return None
    return trim


def rng_state(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's generators that :func:`isolated_rng` seeds."""
    states = [torch.default_generator.get_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def set_rng_state(device: torch.device, states: list[torch.Tensor]) -> None:
    """Restore states returned by :func:`rng_state`."""
    torch.default_generator.set_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
    if device.type == "mps" and len(states) > 1:
        torch.mps.set_rng_state(states[1])


class GlobalRandomState:
    """State of the global generators of torch and NumPy.

    Parameters
    ----------
    device : torch.device
        Device whose generator is included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._torch = rng_state(device)
        self._numpy = np.random.get_state()  # noqa: NPY002, BigBird draws from it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GlobalRandomState):
            return NotImplemented
        pairs = zip(self._torch, other._torch, strict=True)
        return all(torch.equal(a, b) for a, b in pairs) and all(
            np.array_equal(a, b) for a, b in zip(self._numpy, other._numpy, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def restore(self) -> None:
        """Set the generators to this state."""
        set_rng_state(self._device, self._torch)
        np.random.set_state(self._numpy)  # noqa: NPY002


@contextlib.contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of torch and NumPy inside a context; restore them on exit.

    The generators are global, so a lock admits one thread at a time, which keeps the
    random numbers of each thread reproducible.
    """
    with _RNG_LOCK:
        state = GlobalRandomState(device)
        try:
            # Not torch.manual_seed, which would also seed all other devices.
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            if device.type == "mps":
                torch.mps.manual_seed(seed)
            yield
        finally:
            state.restore()
