"""A directory is written as a whole or not at all.

The files are written into a sibling, a draft, which then takes the directory's name. A
save that is killed leaves the old directory or the new one; what else it leaves, the
next save removes. Between two renames the old one stands under another name, where
:func:`locate` finds it.
"""

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ..exceptions import ModelFormatError, ModelSaveError
from ._manifest import MANIFEST, files_in, listed

if sys.platform != "win32":
    import fcntl

_DRAFT, _OLD = "new", "old"


def locate(path: Path) -> Path | None:
    """Find a directory that was saved under a name.

    Parameters
    ----------
    path : Path
        The name.

    Returns
    -------
    Path or None
        The directory itself, or where a killed save has put it; None if there is none.
    """
    path = _real(path)
    if path.is_dir():
        return path
    return next(iter(_siblings(path, _OLD)), None)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep saves from changing a directory while it is read."""
    with _locked(folder.parent, exclusive=False):
        yield


@contextlib.contextmanager
def replacing(directory: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a draft to be filled, and put it in a directory's place.

    Parameters
    ----------
    directory : Path
        Made if it is not there; its parents too.
    overwrite : bool
        Whether a directory may be there that was saved before.

    Yields
    ------
    Path
        An empty directory, removed if anything goes wrong.

    Raises
    ------
    ModelSaveError
        The directory may not be overwritten, or cannot be written.
    """
    target = _real(directory)
    try:
        with _drafting(target, overwrite) as draft:
            yield draft
            _flush(draft)
            with _locked(target.parent):
                _require_free(target, overwrite)
                _swap(draft, target)
    except ModelSaveError:
        raise
    except OSError as error:
        raise ModelSaveError(
            f"{directory} could not be written: {error}. What was there before is "
            "unchanged."
        ) from error


@contextlib.contextmanager
def _drafting(target: Path, overwrite: bool) -> Iterator[Path]:
    """Make a draft, locked for as long as its writer lives."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _beside(target, _DRAFT)
    with contextlib.ExitStack() as stack:
        with _locked(target.parent):
            _tidy(target)
            _require_free(target, overwrite)
            draft.mkdir()
            stack.enter_context(_locked(draft))
        try:
            yield draft
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def _require_free(target: Path, overwrite: bool) -> None:
    """Refuse to replace what is no saved model, or may not be."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ModelSaveError(f"{target} is a file. Pass the name of a directory.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise ModelSaveError(
            f"{target} is there already and not empty. Pass another directory, or "
            "overwrite=True to replace a model that was saved there."
        )
    try:
        others = set(files_in(target, hidden=True)) - {MANIFEST, *listed(target)}
    except ModelFormatError as error:
        raise ModelSaveError(
            f"{target} is no directory that save_pretrained has written, so that it is "
            f"not overwritten: {error} Remove it first if it is not needed."
        ) from error
    if others:
        raise ModelSaveError(
            f"{target} also holds files that save_pretrained has not written, such as "
            f"{min(others)!r}, so that it is not overwritten. Move them elsewhere."
        )


def _swap(draft: Path, target: Path) -> None:
    """Let the draft take the directory's name."""
    old = None
    if target.is_dir() and any(target.iterdir()):
        old = _beside(target, _OLD)
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        if old is not None:
            os.rename(old, target)
        raise
    _sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _tidy(target: Path) -> None:
    """Remove what killed saves have left, and put back what they had put aside."""
    for old in _siblings(target, _OLD):
        if os.path.lexists(target):
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)
    for draft in _siblings(target, _DRAFT):
        if _is_left(draft):
            shutil.rmtree(draft, ignore_errors=True)


def _flush(draft: Path) -> None:
    """Have the system write all files to the disk, then the directories."""
    mode = draft.stat().st_mode & 0o666  # as umask has it; safetensors' own is 0600
    for folder, _, files in os.walk(draft, topdown=False):
        for name in files:
            file = Path(folder, name)
            file.chmod(mode)
            _sync(file)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return  # which cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(folder: Path, *, exclusive: bool = True) -> Iterator[None]:
    """Wait for others that use a directory; a lock ends with its process."""
    if sys.platform == "win32":
        yield
        return
    with contextlib.ExitStack() as stack:
        # Some network drives know no locks, and not every folder may be listed.
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _is_left(draft: Path) -> bool:
    """Whether the save that made a draft is no more."""
    if sys.platform == "win32":
        return False
    try:
        handle = os.open(draft, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _siblings(target: Path, kind: str) -> list[Path]:
    """Return the drafts of a directory, or where it was put aside."""
    start = f".{target.name}.{kind}-"
    try:
        names = os.listdir(target.parent)
    except OSError:
        return []
    return [target.parent / name for name in sorted(names) if name.startswith(start)]


def _beside(target: Path, kind: str) -> Path:
    return target.parent / f".{target.name}.{kind}-{secrets.token_hex(4)}"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path.expanduser()))
