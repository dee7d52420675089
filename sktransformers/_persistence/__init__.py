"""Save and load fitted estimators in directories that are Hugging Face checkpoints.

Weights are in safetensors format and everything else in JSON; loading executes no code.
"""

import functools
import tempfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from .._hardware import devices as hardware
from ..exceptions import ModelFormatError, SktransformersError
from . import hub as _hub
from .directory import locate, reading, replacing
from .load import read_estimator
from .manifest import CARD, MANIFEST, check_manifest, write_manifest
from .model_card import write_card
from .save import write_estimator
from .state import STATE
from .third_party import read_third_party

__all__ = ["load", "push", "save"]


def save(estimator: Any, directory: str | PathLike[str], *, overwrite: bool) -> None:
    """Save a fitted estimator to a directory; see ``save_pretrained``."""
    check_is_fitted(estimator)
    with replacing(Path(directory), overwrite=overwrite) as draft:
        _write_files(draft, estimator)


def push(estimator: Any, repo_id: str, *, private: bool | None, message: str) -> str:
    """Upload a fitted estimator to the Hub; see ``push_to_hub``."""
    check_is_fitted(estimator)
    with tempfile.TemporaryDirectory() as folder:
        _write_files(Path(folder), estimator)
        return _hub.upload(Path(folder), repo_id, private=private, message=message)


def load(
    cls: Any,
    model: str | PathLike[str],
    *,
    revision: str | None,
    device: str | None,
    n_columns: int,
) -> Any:
    """Load a fitted estimator; see ``from_pretrained``."""
    path = Path(model)
    folder = locate(path)
    if folder is None and not path.expanduser().exists():
        found = _hub.fetch_saved(str(model), revision)
        if found is not None:
            read = functools.partial(_read, cls, found, roots=(_hub.blobs_of(found),))
            return _set_device(_convert_errors(found, read), device)
    if folder is None or not _is_saved_estimator(folder):
        read = functools.partial(read_third_party, cls, model, revision, n_columns)
        return _set_device(_convert_errors(model, read), device)
    with reading(folder):
        return _set_device(_convert_errors(folder, lambda: _read(cls, folder)), device)


def _write_files(folder: Path, estimator: Any) -> None:
    """Write all files; the manifest comes last, as it lists the others."""
    state = write_estimator(folder, estimator)
    write_card(folder / CARD, estimator, state)
    write_manifest(folder)


def _read(cls: Any, folder: Path, roots: tuple[Path, ...] = ()) -> Any:
    names = check_manifest(folder, roots)
    return read_estimator(cls, folder, names)


def _is_saved_estimator(folder: Path) -> bool:
    return any((folder / name).exists() for name in (STATE, MANIFEST))


@hardware.gradients_enabled()
def _convert_errors(where: object, read: Callable[[], Any]) -> Any:
    """Convert unexpected errors to ModelFormatError with the location."""
    try:
        # Heads are initialized randomly before their weights are loaded.
        with hardware.isolated_rng(0, hardware.resolve_device("cpu")):
            return read()
    except (SktransformersError, ImportError):
        raise
    except Exception as error:  # of libraries, for invalid values in the files
        raise ModelFormatError(f"{where} cannot be read: {error}") from error


def _set_device(estimator: Any, device: str | None) -> Any:
    return estimator if device is None else estimator.set_params(device=device)
