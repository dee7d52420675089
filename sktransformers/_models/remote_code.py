"""Checks of remote code: run only with ``trust_remote_code`` and a pinned revision."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exceptions import ModelFormatError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONFIG_FILES = ("config.json", "tokenizer_config.json")


def require_commit(name: str, revision: str | None) -> None:
    """Raise ValueError unless a revision pins the code to a commit.

    Parameters
    ----------
    name : str
        Hub id of the model.
    revision : str or None
        Revision to check. Branches and tags are rejected, as they can be moved.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"trust_remote_code=True runs Python code of model={name!r}, so revision "
            "must be a commit, 40 hexadecimal digits, as branches and tags can be "
            f"moved. Got revision={revision!r}. Review the code of a commit on the "
            "model's page, then pass that commit."
        )


def brings_code(folder: Path) -> bool:
    """Return whether a checkpoint refers to custom Python code.

    Parameters
    ----------
    folder : Path
        Directory of the checkpoint.

    Returns
    -------
    bool
        True even if the code is not in the directory.
    """
    return next(_references(folder), None) is not None


def lacks_code(folder: Path) -> bool:
    """Return whether custom Python code is missing from the directory.

    Parameters
    ----------
    folder : Path
        Directory of the checkpoint.

    Returns
    -------
    bool
        False for a checkpoint without custom code.
    """
    return not all((folder / _file_of(name)).is_file() for name in _references(folder))


def require_own_code(name: str, folder: Path) -> None:
    """Raise ModelFormatError if a checkpoint refers to code of another repository.

    Parameters
    ----------
    name : str
        Model name, for the message.
    folder : Path
        Directory of the checkpoint.
    """
    for reference in _references(folder):
        if "--" in reference:
            raise ModelFormatError(
                f"model={name!r} refers to code of another repository, {reference!r}, "
                "which revision does not pin. Copy that code into the model's "
                "directory, and remove the repository from auto_map in config.json."
            )


def advice_on_code(name: str) -> str:
    """Return the error message for a checkpoint with untrusted code.

    Parameters
    ----------
    name : str
        Model name.

    Returns
    -------
    str
        The message.
    """
    return (
        f"model={name!r} comes with Python code of its own, which is not run by "
        "default. Review that code, then pass trust_remote_code=True and, for a model "
        "on the hub, the reviewed commit as revision."
    )


def _references(folder: Path) -> Iterator[str]:
    """Yield the class references in ``auto_map``, such as "modeling_x.XModel"."""
    for file in _CONFIG_FILES:
        try:
            content = json.loads((folder / file).read_text("utf-8"))
        except (OSError, ValueError):  # reported when the checkpoint is loaded
            continue
        if isinstance(content, dict):
            yield from _strings(content.get("auto_map"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _file_of(reference: str) -> str:
    return reference.rpartition(".")[0].replace(".", "/") + ".py"
