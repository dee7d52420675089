"""Directory of cached embeddings for an estimator's ``memory`` parameter."""

import os
from typing import Any

import joblib

_SUBFOLDER = "sktransformers"


def memory_folder(estimator: Any) -> str | None:
    """Return the directory in which embeddings are cached.

    Parameters
    ----------
    estimator : estimator
        Estimator with or without a ``memory`` parameter.

    Returns
    -------
    str or None
        Directory, or None to cache in the memory of this process only.
    """
    memory = getattr(estimator, "memory", None)
    if isinstance(memory, joblib.Memory):  # its clear() removes embeddings too
        backend = memory.store_backend
        memory = None if backend is None else backend.location
    if memory is None:
        return None
    return os.path.join(os.path.abspath(os.fspath(memory)), _SUBFOLDER)
