"""Training checkpoints to resume an interrupted fit from.

A checkpoint is a directory that is written atomically: its files are written under a
temporary name, synced to disk, and the directory is then renamed. No pickle is used.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .._warnings import warn
from ..exceptions import CheckpointError, CheckpointWarning

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_FORMAT = 1
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
        target = self._folder / f"step-{step:09d}"
        temporary = self._folder / f".{target.name}-{uuid.uuid4().hex}"
        try:
            temporary.mkdir(parents=True)
            _write(temporary, {"identity": self._identity, "state": state})
            shutil.rmtree(target, ignore_errors=True)  # a corrupted one
            temporary.rename(target)
            _fsync(self._folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                f"Could not write the checkpoint {target}: {error}. Earlier "
                "checkpoints are unchanged."
            ) from error
        for path in self._finished()[:-_MAX_CHECKPOINTS]:
            shutil.rmtree(path, ignore_errors=True)
        self._last_time = time.perf_counter()
        self._last_duration = self._last_time - started

    def clear(self) -> None:
        """Remove all checkpoints, including partially written ones."""
        for path in self._folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._finished():
            shutil.rmtree(path, ignore_errors=True)
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
        """Return the directories of complete checkpoints, oldest first."""
        return sorted(path for path in self._folder.glob("step-*") if path.is_dir())


def _write(folder: Path, content: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = _pack(content, tensors)
    save_file(tensors, folder / _TENSORS)
    _fsync(folder / _TENSORS)
    body = json.dumps(
        {"format": _FORMAT, "tensors": _hash(folder / _TENSORS), "content": plain}
    )
    with (folder / _STATE).open("x", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
        file.flush()
        os.fsync(file.fileno())
    _fsync(folder)


def _read(folder: Path) -> Any:
    digest, _, body = (folder / _STATE).read_text("utf-8").partition("\n")
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise ValueError(f"the checksum of {_STATE} does not match")
    saved = json.loads(body)
    if saved["format"] != _FORMAT:
        raise ValueError(f"its format version is {saved['format']}, not {_FORMAT}")
    if _hash(folder / _TENSORS) != saved["tensors"]:
        raise ValueError(f"the checksum of {_TENSORS} does not match")
    return _unpack(saved["content"], load_file(folder / _TENSORS))


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


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    """Sync a file or directory to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open directories
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
