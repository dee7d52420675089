"""Write directories atomically.

The files are written to a temporary sibling directory (the draft), which is then
renamed to the target. If a save is killed, either the old or the new directory remains,
and the next save removes leftover drafts. Between the two renames, the old directory
has a temporary name, under which :func:`locate` finds it.
"""

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .._files import sync
from ..exceptions import ModelFormatError, ModelSaveError
from .manifest import CARD, MANIFEST, files_in, listed

if sys.platform != "win32":
    import fcntl

_DRAFT, _OLD = "new", "old"


def locate(path: Path) -> Path | None:
    """Find a saved directory.

    Parameters
    ----------
    path : Path
        The path that it was saved to.

    Returns
    -------
    Path or None
        The directory, also if a killed save left it under a temporary name; None if
        there is none.
    """
    path = _real(path)
    if path.is_dir():
        return path
    return next(iter(_siblings(path, _OLD)), None)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Hold a shared lock, so that a directory is not replaced while it is read."""
    with _locked(folder.parent, exclusive=False):
        yield


@contextlib.contextmanager
def replacing(directory: Path, *, overwrite: bool) -> Iterator[Path]:
    """Provide a draft directory, and move it to the target when it is complete.

    Parameters
    ----------
    directory : Path
        The target. It is created if it does not exist, including its parents.
    overwrite : bool
        Whether a directory that was saved before may be replaced.

    Yields
    ------
    Path
        An empty directory, which is removed if an error is raised.

    Raises
    ------
    ModelSaveError
        If the directory must not be overwritten, or cannot be written.
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
            f"{directory} could not be written: {error}. Its previous content is "
            "unchanged."
        ) from error


@contextlib.contextmanager
def _drafting(target: Path, overwrite: bool) -> Iterator[Path]:
    """Create a draft, which is locked as long as its process runs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _make_sibling(target, _DRAFT)
    with contextlib.ExitStack() as stack:
        with _locked(target.parent):
            _recover(target)
            _require_free(target, overwrite)
            draft.mkdir()
            stack.enter_context(_locked(draft))
        try:
            yield draft
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def _require_free(target: Path, overwrite: bool) -> None:
    """Raise ModelSaveError if the target must not be replaced."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ModelSaveError(f"{target} is a file. Pass the name of a directory.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise ModelSaveError(
            f"{target} already exists and is not empty. Pass another directory, or "
            "overwrite=True to replace a model that was saved there."
        )
    try:
        others = set(files_in(target, hidden=True)) - {CARD, MANIFEST, *listed(target)}
    except ModelFormatError as error:
        raise ModelSaveError(
            f"{target} was not written by save_pretrained and is not overwritten: "
            f"{error} Delete it first if it is not needed."
        ) from error
    if others:
        raise ModelSaveError(
            f"{target} is not overwritten, as it also contains files that were not "
            f"written by save_pretrained, such as {min(others)!r}. Move them elsewhere."
        )


def _swap(draft: Path, target: Path) -> None:
    """Rename the draft to the target."""
    old = None
    if target.is_dir() and any(target.iterdir()):
        old = _make_sibling(target, _OLD)
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        if old is not None:
            os.rename(old, target)
        raise
    sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _recover(target: Path) -> None:
    """Remove the drafts of killed saves, and restore the directory they moved."""
    for old in _siblings(target, _OLD):
        if os.path.lexists(target):
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)
    for draft in _siblings(target, _DRAFT):
        if _is_abandoned(draft):
            shutil.rmtree(draft, ignore_errors=True)


def _flush(draft: Path) -> None:
    """Flush all files to disk, then the directories."""
    mode = draft.stat().st_mode & 0o666  # from the umask; safetensors uses 0600
    for folder, _, files in os.walk(draft, topdown=False):
        for name in files:
            file = Path(folder, name)
            file.chmod(mode)
            sync(file)
        sync(Path(folder))


@contextlib.contextmanager
def _locked(folder: Path, *, exclusive: bool = True) -> Iterator[None]:
    """Lock a directory; the lock is released when the process ends."""
    if sys.platform == "win32":
        yield
        return
    with contextlib.ExitStack() as stack:
        # Some network drives do not support locks, and some folders are not readable.
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _is_abandoned(draft: Path) -> bool:
    """Whether the process that created a draft has ended."""
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
    """Return the drafts of a directory, or its temporary names while replaced."""
    start = f".{target.name}.{kind}-"
    try:
        names = os.listdir(target.parent)
    except OSError:
        return []
    return [target.parent / name for name in sorted(names) if name.startswith(start)]


def _make_sibling(target: Path, kind: str) -> Path:
    return target.parent / f".{target.name}.{kind}-{secrets.token_hex(4)}"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path.expanduser()))
