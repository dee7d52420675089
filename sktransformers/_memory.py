"""Where an estimator's ``memory`` says that embeddings are kept."""

import os
from typing import Any

import joblib

_SUBFOLDER = "sktransformers"


def memory_folder(estimator: Any) -> str | None:
    """Return the folder that embeddings are kept in.

    Parameters
    ----------
    estimator : estimator
        Whose ``memory`` holds, if it has that parameter.

    Returns
    -------
    str or None
        None: this process keeps them.
    """
    memory = getattr(estimator, "memory", None)
    if isinstance(memory, joblib.Memory):  # whose clear() is to clear these too
        backend = memory.store_backend
        memory = None if backend is None else backend.location
    if memory is None:
        return None
    return os.path.join(os.path.abspath(os.fspath(memory)), _SUBFOLDER)
