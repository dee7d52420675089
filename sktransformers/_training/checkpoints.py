"""Training checkpoints to resume an interrupted fit from.

A checkpoint is a safetensors file, with all but the tensors as JSON in its metadata. It
is written under a temporary name, flushed to disk, and renamed to a name that contains
its hash.
"""

import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .._files import hash_file, sync
from .._warnings import warn
from ..exceptions import CheckpointError, CheckpointWarning

_MAX_CHECKPOINTS = 2
_MIN_INTERVAL = 60.0  # seconds
_MAX_TIME_FRACTION = 0.02  # share of the training time spent on writing


class TrainingCheckpoints:
    """Read and write the training checkpoints of one fit.

    Parameters
    ----------
    folder : path
        Directory of the checkpoints. Created when the first checkpoint is written.
    identity : str
        Hash of the training data and parameters. Checkpoints with another identity are
        rejected.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: str) -> None:
        self._folder = Path(folder)
        self._identity = identity
        self._sigterm_received = False
        self._last_time = time.perf_counter()
        self._last_duration = 0.0

    def newest(self) -> Any:
        """Return the state of the newest valid checkpoint, or None if there is none.

        Raises
        ------
        CheckpointError
            If the checkpoint belongs to a fit with other data or parameters.
        """
        for path in reversed(self._finished()):
            try:
                content = _read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                warn(
                    f"Ignoring the corrupted checkpoint {path}: {error}",
                    CheckpointWarning,
                )
                continue
            if content["identity"] != self._identity:
                raise CheckpointError(
                    f"The checkpoint {path.name} in {self._folder} belongs to an "
                    "unfinished fit with other data or parameters. Pass another "
                    "checkpoint_dir, or delete this one to discard that fit."
                )
            return content["state"]
        return None

    def is_due(self) -> bool:
        """Return whether to write a checkpoint: after an interval or on SIGTERM."""
        wait = max(_MIN_INTERVAL, self._last_duration / _MAX_TIME_FRACTION)
        return self._sigterm_received or time.perf_counter() - self._last_time >= wait

    def save(self, step: int, state: Any) -> None:
        """Write a checkpoint and remove old ones.

        Parameters
        ----------
        step : int
            Number of optimizer steps so far.
        state : dict, list, tuple, number, str, Tensor or None
            State to save. Containers may be nested to any depth.

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be written.
        """
        started = time.perf_counter()
        name = f"step-{step:09d}"
        temporary = self._folder / f".{name}-{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(temporary, {"identity": self._identity, "state": state})
            target = self._folder / f"{name}.{hash_file(temporary)}.safetensors"
            temporary.replace(target)
            sync(self._folder)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(
                f"Could not write the checkpoint {self._folder / name}: {error}. "
                "Earlier checkpoints are unchanged."
            ) from error
        for path in self._finished()[:-_MAX_CHECKPOINTS]:
            path.unlink(missing_ok=True)
        self._last_time = time.perf_counter()
        self._last_duration = self._last_time - started

    def clear(self) -> None:
        """Remove all checkpoints, including partially written ones."""
        for path in [*self._folder.glob(".step-*"), *self._finished()]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the directory is not empty
            self._folder.rmdir()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Defer SIGTERM inside the context; restore its handler on exit."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signal handlers can only be set in the main thread
            return

        def defer(_signal: int, _frame: Any) -> None:
            self._sigterm_received = True

        self._handler = signal.signal(signal.SIGTERM, defer)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, self._handler)

    def raise_deferred_sigterm(self) -> None:
        """Raise SIGTERM again with its previous handler if one was deferred."""
        if self._sigterm_received:
            self._sigterm_received = False
            signal.signal(signal.SIGTERM, self._handler)
            signal.raise_signal(signal.SIGTERM)

    def _finished(self) -> list[Path]:
        """Return the files of complete checkpoints, oldest first."""
        return sorted(self._folder.glob("step-*.safetensors"))


def _write(path: Path, content: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = json.dumps(_pack(content, tensors))
    save_file(tensors, path, metadata={"content": plain})
    sync(path)


def _read(path: Path) -> Any:
    if hash_file(path) != path.name.split(".")[1]:
        raise ValueError("its content does not match the hash in its name")
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["content"])
    return _unpack(content, load_file(path))


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a value to JSON-serializable form; move its tensors to ``tensors``."""
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().clone().contiguous()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):  # as pairs: JSON keys cannot be numbers
        return {"items": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpack(item, tensors) for key, item in value["items"]}
