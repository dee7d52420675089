"""MANIFEST.json: size and hash of each file of a saved model.

It detects damage, but not tampering: whoever can change a file can change it, too.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .._files import hash_file
from .._json import Schema, encode, read_json, write_json
from ..exceptions import ModelFormatError

MANIFEST = "MANIFEST.json"
CARD = "README.md"  # may be edited by users: neither listed nor read
_SUFFIXES = (
    *(".json", ".txt", ".model", ".spm", ".jinja", ".tiktoken", ".codes", ".bpe"),
    *(".safetensors", ".md"),
)
_SAFE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_WEIGHTS = {"model.safetensors", "head.safetensors", "adapter_model.safetensors"}


class File(Schema):
    """Size in bytes and hash of a file."""

    size: int
    sha256: str


class Manifest(Schema):
    """Content of MANIFEST.json."""

    format: Literal[1]
    files: dict[str, File]


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files of a directory except the model card.

    Parameters
    ----------
    folder : Path
        Directory that is complete except for the manifest.

    Raises
    ------
    ModelFormatError
        If the name of a file is not allowed.
    """
    files = {}
    for name in files_in(folder):
        _require_safe(name, folder)
        if name == CARD:
            continue
        path = folder / name
        files[name] = File(size=path.stat().st_size, sha256=hash_file(path))
    write_json(folder / MANIFEST, encode(Manifest(format=1, files=files)))


def check_manifest(folder: Path, roots: tuple[Path, ...] = ()) -> set[str]:
    """Check the files of a directory against its manifest, and that they are safe.

    Parameters
    ----------
    folder : Path
        The directory.
    roots : tuple of Path
        Directories that links may point to, in addition to the directory itself.

    Returns
    -------
    set of str
        Names of the files, without the manifest.

    Raises
    ------
    ModelFormatError
        If a file is missing, damaged, not listed, of a type that is not allowed, or
        outside of the directories.
    """
    found = set(files_in(folder, roots=roots))
    for name in found:
        _require_safe(name, folder)
    files = listed(folder)
    for name in sorted(files.keys() - found):
        raise ModelFormatError(f"{folder / name} is missing, but {MANIFEST} lists it.")
    for name in sorted(found - files.keys() - {MANIFEST, CARD}):
        raise ModelFormatError(
            f"{folder / name} is not listed in {MANIFEST}. Remove it: additional files "
            "may change how a model is loaded."
        )
    for name, entry in files.items():
        _check_file(folder / name, entry)
    return set(files)


def listed(folder: Path) -> dict[str, File]:
    """Return the entries of the manifest of a directory.

    Parameters
    ----------
    folder : Path
        The directory.

    Returns
    -------
    dict of str to File
        The entries, by file name.

    Raises
    ------
    ModelFormatError
        If the manifest is missing, or not as :func:`write_manifest` writes it.
    """
    files = read_json(folder / MANIFEST, Manifest, canonical=True).files
    for name in files:
        _require_safe(name, folder)
    return files


def files_in(
    folder: Path, *, roots: tuple[Path, ...] = (), hidden: bool = False
) -> Iterator[str]:
    """Yield the relative paths of all files of a directory.

    Parameters
    ----------
    folder : Path
        The directory. Links that point outside of it and of ``roots`` are rejected.
    roots : tuple of Path
        Further directories that links may point to.
    hidden : bool, default=False
        Whether to include hidden files, whose names begin with a dot.

    Yields
    ------
    str
        Path with "/" as separator.

    Raises
    ------
    ModelFormatError
        If a link points elsewhere, or there is something other than files and folders.
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
    """Reject unsafe paths, and file types that can contain code."""
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
            f"{folder / name} has a file type that is not allowed: a saved model has "
            "its weights in safetensors format and all else in text files, never in "
            "code or pickles."
        )


def _check_file(path: Path, entry: File) -> None:
    size = path.stat().st_size
    if size != entry.size:
        raise ModelFormatError(
            f"{path} is damaged: it has {size} bytes, but {entry.size} according "
            f"to {MANIFEST}. Copy or download it again."
        )
    try:
        found = hash_file(path)
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    if found != entry.sha256:
        raise ModelFormatError(
            f"{path} is damaged or was changed: its SHA-256 hash differs from "
            f"{MANIFEST}. Copy or download it again."
        )
