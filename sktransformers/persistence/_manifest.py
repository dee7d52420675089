"""MANIFEST.json: the size and the hash of each file of a saved model.

It shows damage, not an honest author: whoever can change a file can change it too.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exceptions import ModelFormatError
from ._json import read_json, require_keys, write_json

MANIFEST = "MANIFEST.json"
_FORMAT = 1

_SUFFIXES = (
    *(".json", ".txt", ".model", ".spm", ".jinja", ".tiktoken", ".codes", ".bpe"),
    *(".safetensors", ".md"),
)
_SAFE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_WEIGHTS = {"model.safetensors", "head.safetensors", "adapter_model.safetensors"}


def write_manifest(folder: Path) -> None:
    """Describe all files of a directory, in one more file.

    Parameters
    ----------
    folder : Path
        Complete but for the manifest.

    Raises
    ------
    ModelFormatError
        A file has a name that would not be read.
    """
    files = {}
    for name in files_in(folder):
        _require_safe(name, folder)
        path = folder / name
        files[name] = {"size": path.stat().st_size, "sha256": _hash(path)}
    write_json(folder / MANIFEST, {"format": _FORMAT, "files": files})


def check_manifest(folder: Path, roots: tuple[Path, ...] = ()) -> set[str]:
    """Require that a directory is what its manifest says, and that it is harmless.

    Parameters
    ----------
    folder : Path
        The directory.
    roots : tuple of Path
        Where links may lead, beside the directory itself.

    Returns
    -------
    set of str
        The names of the files, without the manifest's.

    Raises
    ------
    ModelFormatError
        A file is missing, damaged, of a kind that is not read or not listed, or
        lies elsewhere.
    """
    found = set(files_in(folder, roots=roots))
    for name in found:
        _require_safe(name, folder)
    files = listed(folder)
    for name in sorted(files.keys() - found):
        raise ModelFormatError(f"{folder / name} is missing, but {MANIFEST} lists it.")
    for name in sorted(found - files.keys() - {MANIFEST}):
        raise ModelFormatError(
            f"{folder / name} is not listed in {MANIFEST}. Remove it: whatever lies "
            "beside a model may change how it is read."
        )
    for name, entry in files.items():
        _check_file(folder / name, entry)
    return set(files)


def listed(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a directory says of each file.

    Parameters
    ----------
    folder : Path
        The directory.

    Returns
    -------
    dict of str to dict
        With "size" and "sha256".

    Raises
    ------
    ModelFormatError
        There is no manifest, or it is not as :func:`write_manifest` writes it.
    """
    path = folder / MANIFEST
    manifest = read_json(path, canonical=True)
    require_keys(manifest, {"format", "files"}, path)
    if manifest["format"] != _FORMAT or not isinstance(manifest["files"], dict):
        raise ModelFormatError(
            f"{path}: format must be {_FORMAT}. Got {manifest['format']!r}; a later "
            "version of sktransformers may read it."
        )
    for name, entry in manifest["files"].items():
        _require_safe(name, folder)
        require_keys(entry, {"size", "sha256"}, path)
    return dict(manifest["files"])


def files_in(
    folder: Path, *, roots: tuple[Path, ...] = (), hidden: bool = False
) -> Iterator[str]:
    """Yield the names of all files of a directory, seen from it.

    Parameters
    ----------
    folder : Path
        The directory. Links that lead out of it and of ``roots`` are refused.
    roots : tuple of Path
        Where links may lead.
    hidden : bool, default=False
        Whether to yield those whose names begin with a dot, too, which nothing reads.

    Yields
    ------
    str
        With "/" between a folder and what is in it.

    Raises
    ------
    ModelFormatError
        There is a link that leads elsewhere, or something that is no file.
    """
    allowed = [os.path.realpath(root) for root in (folder, *roots)]
    for parent, folders, files in os.walk(folder):
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*links, *files):
            if name.startswith(".") and not hidden:
                continue
            path = Path(parent, name)
            _require_inside(path, allowed)
            yield path.relative_to(folder).as_posix()


def _require_inside(path: Path, roots: list[str]) -> None:
    try:
        real = os.path.realpath(path, strict=True)
        is_file = stat.S_ISREG(os.stat(real).st_mode)
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    if not any(os.path.commonpath([real, root]) == root for root in roots):
        raise ModelFormatError(f"{path} is a link that leaves the directory.")
    if not is_file:
        raise ModelFormatError(f"{path} is neither a file nor a folder.")


def _require_safe(name: str, folder: Path) -> None:
    """Refuse names that lead elsewhere, and kinds of files that can hold code."""
    if not _SAFE_NAME.fullmatch(name):
        raise ModelFormatError(
            f"{folder}: a file named {name!r} is not read. Names must be relative, "
            "without '..', at most one folder deep."
        )
    is_part = name.endswith(".index.json")
    if name.endswith(".safetensors"):
        is_part = name not in _WEIGHTS
    if is_part or not name.endswith(_SUFFIXES):
        raise ModelFormatError(
            f"{folder / name} is of a kind that is not read: a saved model has its "
            "weights in safetensors and all else in text, never code or pickles."
        )


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    size = path.stat().st_size
    if size != entry["size"]:
        raise ModelFormatError(
            f"{path} is damaged: it has {size} bytes, and {MANIFEST} says "
            f"{entry['size']}. Copy or download it again."
        )
    if _hash(path) != entry["sha256"]:
        raise ModelFormatError(
            f"{path} is damaged or was changed: its SHA-256 is not the one in "
            f"{MANIFEST}. Copy or download it again."
        )


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
