"""Checkpoints of a training, from which it goes on as if it had never stopped.

Each is a folder that appears whole or not at all: it is written under another name,
flushed to the disk and then renamed. Nothing is pickled.
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
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..exceptions import CheckpointError, CheckpointWarning

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_FORMAT = 1
_KEPT = 2
_SECONDS_BETWEEN = 60.0
_MOST_OF_THE_TIME = 0.02  # that writing may take


class Checkpoints:
    """The checkpoints of one fit, in a folder of their own.

    Parameters
    ----------
    folder : path
        Made when the first one is written.
    identity : str
        What is trained on what: checkpoints of anything else are refused.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: str) -> None:
        self._folder = Path(folder)
        self._identity = identity
        self._is_terminated = False
        self._last = time.perf_counter()
        self._cost = 0.0

    def newest(self) -> Any:
        """Return the newest state that is whole, or None.

        Raises
        ------
        CheckpointError
            It is of another fit.
        """
        for path in reversed(self._finished()):
            try:
                content = _read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                warnings.warn(
                    f"The checkpoint {path} is damaged and is left out: {error}",
                    CheckpointWarning,
                    stacklevel=2,
                )
                continue
            if content["identity"] != self._identity:
                raise CheckpointError(
                    f"{self._folder} holds a checkpoint of an unfinished fit of other "
                    f"data or parameters, {path.name}. Pass another checkpoint_dir, or "
                    "delete it to give that fit up."
                )
            return content["state"]
        return None

    def is_due(self) -> bool:
        """Whether it is time for another one, or the process is to end."""
        wait = max(_SECONDS_BETWEEN, self._cost / _MOST_OF_THE_TIME)
        return self._is_terminated or time.perf_counter() - self._last >= wait

    def save(self, step: int, state: Any) -> None:
        """Write a state and remove older ones.

        Parameters
        ----------
        step : int
            How far the training is.
        state : dict, list, tuple, number, str, Tensor or None
            To be read again; nested as deep as may be.

        Raises
        ------
        CheckpointError
            It cannot be written; the message names the place.
        """
        started = time.perf_counter()
        target = self._folder / f"step-{step:09d}"
        part = self._folder / f".{target.name}-{uuid.uuid4().hex}"
        try:
            part.mkdir(parents=True)
            _write(part, {"identity": self._identity, "state": state})
            shutil.rmtree(target, ignore_errors=True)  # a damaged one, if any
            part.rename(target)
            _flush(self._folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise CheckpointError(
                f"The checkpoint {target} cannot be written: {error}. Earlier ones are "
                "as they were."
            ) from error
        for path in self._finished()[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        self._last = time.perf_counter()
        self._cost = self._last - started

    def clear(self) -> None:
        """Remove all checkpoints, and what is left of others: the fit is done."""
        for path in self._folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._finished():
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # of a folder that holds something else
            self._folder.rmdir()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of SIGTERM inside a context; afterwards all is as before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python takes signals in its main thread alone
            return

        def note(_signal: int, _frame: Any) -> None:
            self._is_terminated = True

        self._handler = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, self._handler)

    def pass_on_termination(self) -> None:
        """Do what SIGTERM would have done, now that a checkpoint is written."""
        if self._is_terminated:
            self._is_terminated = False
            signal.signal(signal.SIGTERM, self._handler)
            signal.raise_signal(signal.SIGTERM)

    def _finished(self) -> list[Path]:
        """Return the folders of finished checkpoints, oldest first."""
        return sorted(path for path in self._folder.glob("step-*") if path.is_dir())


def _write(folder: Path, content: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = _pack(content, tensors)
    save_file(tensors, folder / _TENSORS)
    _flush(folder / _TENSORS)
    body = json.dumps(
        {"format": _FORMAT, "tensors": _hash(folder / _TENSORS), "content": plain}
    )
    with (folder / _STATE).open("x", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
        file.flush()
        os.fsync(file.fileno())
    _flush(folder)


def _read(folder: Path) -> Any:
    digest, _, body = (folder / _STATE).read_text("utf-8").partition("\n")
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise ValueError(f"{_STATE} is not what was written")
    described = json.loads(body)
    if described["format"] != _FORMAT:
        raise ValueError(f"its format is {described['format']}, not {_FORMAT}")
    if _hash(folder / _TENSORS) != described["tensors"]:
        raise ValueError(f"{_TENSORS} is not what was written")
    return _unpack(described["content"], load_file(folder / _TENSORS))


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a value as JSON can hold it; its tensors go into a dictionary."""
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().clone().contiguous()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):  # whose keys may be numbers
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


def _flush(path: Path) -> None:
    """Have the system write a file or a folder to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
