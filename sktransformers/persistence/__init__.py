"""Fitted estimators in directories that are valid Hugging Face checkpoints.

Weights in safetensors and everything else in JSON; nothing that is read can run.
"""

import functools
import tempfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from ..engine import hardware
from ..exceptions import ModelFormatError, SktransformersError
from . import _hub
from ._card import CARD, write_card
from ._directory import locate, reading, replacing
from ._foreign import read_foreign
from ._manifest import MANIFEST, check_manifest, write_manifest
from ._reading import read_estimator
from ._state import STATE
from ._writing import write_estimator

__all__ = ["load", "push", "save"]


def save(estimator: Any, directory: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a fitted estimator to a directory; see ``save_pretrained``."""
    check_is_fitted(estimator)
    with replacing(Path(directory), overwrite=overwrite) as draft:
        _fill(draft, estimator)


def push(estimator: Any, repo_id: str, *, private: bool | None, message: str) -> str:
    """Upload a fitted estimator to the hub; see ``push_to_hub``."""
    check_is_fitted(estimator)
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), estimator)
        return _hub.upload(Path(folder), repo_id, private=private, message=message)


def load(
    cls: Any,
    model: str | PathLike[str],
    *,
    revision: str | None,
    device: str | None,
    n_columns: int,
) -> Any:
    """Read a fitted estimator; see ``from_pretrained``."""
    path = Path(model)
    folder = locate(path)
    if folder is None and not path.expanduser().exists():
        found = _hub.fetch_saved(str(model), revision)
        if found is not None:
            read = functools.partial(_read, cls, found, roots=(_hub.blobs_of(found),))
            return _with_device(_guarded(found, read), device)
    if folder is None or not _is_ours(folder):
        read = functools.partial(read_foreign, cls, model, revision, n_columns)
        return _with_device(_guarded(model, read), device)
    with reading(folder):
        return _with_device(_guarded(folder, lambda: _read(cls, folder)), device)


def _fill(folder: Path, estimator: Any) -> None:
    """Write all files, the manifest last."""
    state = write_estimator(folder, estimator)
    write_card(folder / CARD, estimator, state)
    write_manifest(folder)


def _read(cls: Any, folder: Path, roots: tuple[Path, ...] = ()) -> Any:
    names = check_manifest(folder, roots)
    return read_estimator(cls, folder, names)


def _is_ours(folder: Path) -> bool:
    return any((folder / name).exists() for name in (STATE, MANIFEST))


def _guarded(where: object, read: Callable[[], Any]) -> Any:
    """Make every failure an error of ours that says where."""
    try:
        # New heads are drawn before they are read; no global state is touched.
        with hardware.isolated_rng(0, hardware.resolve_device("cpu")):
            return read()
    except (SktransformersError, ImportError):
        raise
    except Exception as error:  # of libraries, at values that no save writes
        raise ModelFormatError(f"{where} cannot be read: {error}") from error


def _with_device(estimator: Any, device: str | None) -> Any:
    return estimator if device is None else estimator.set_params(device=device)
