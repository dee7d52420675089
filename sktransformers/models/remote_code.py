"""Python code that comes with a model: run if asked for, and only what was pinned."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exceptions import ModelFormatError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DESCRIPTIONS = ("config.json", "tokenizer_config.json")


def require_commit(name: str, revision: str | None) -> None:
    """Raise ValueError unless a revision can mean one state of the code alone.

    Parameters
    ----------
    name : str
        Id of the model on the hub.
    revision : str or None
        Must be a commit, for a branch or a tag may be moved to other code.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"trust_remote_code=True runs code that comes with model={name!r}, so "
            "revision must be a commit, 40 hexadecimal digits: branches and tags move. "
            f"Got revision={revision!r}. Read the code of a commit on the model's "
            "page, then pass that commit."
        )


def brings_code(folder: Path) -> bool:
    """Whether a model names Python code of its own.

    Parameters
    ----------
    folder : Path
        The model's.

    Returns
    -------
    bool
        True also if the code is somewhere else.
    """
    return next(_references(folder), None) is not None


def lacks_code(folder: Path) -> bool:
    """Whether a model names Python code that is not in its folder.

    Parameters
    ----------
    folder : Path
        The model's.

    Returns
    -------
    bool
        False for a model without code.
    """
    return not all((folder / _file_of(name)).is_file() for name in _references(folder))


def require_own_code(name: str, folder: Path) -> None:
    """Raise ModelFormatError if a model names code that no revision of it pins.

    Parameters
    ----------
    name : str
        Of the model, for the message.
    folder : Path
        The model's.
    """
    for reference in _references(folder):
        if "--" in reference:
            raise ModelFormatError(
                f"model={name!r} names code of another repository, {reference!r}, "
                "which its revision does not pin. Copy that code into the directory of "
                "the model, and take the repository out of auto_map in config.json."
            )


def advice_on_code(name: str) -> str:
    """Say what can be done with a model whose code is not run.

    Parameters
    ----------
    name : str
        Of the model.

    Returns
    -------
    str
        A message.
    """
    return (
        f"model={name!r} comes with Python code of its own, which is not run unless "
        "asked for. Read that code first; then pass trust_remote_code=True and, for a "
        "model of the hub, the commit that was read as revision."
    )


def _references(folder: Path) -> Iterator[str]:
    """Yield the classes that a model's files name, such as "modeling_x.XModel"."""
    for file in _DESCRIPTIONS:
        try:
            content = json.loads((folder / file).read_text("utf-8"))
        except (OSError, ValueError):  # whoever reads the model says what is wrong
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
