"""Values in JSON and back, exactly; what cannot be written so is refused."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import ModelFormatError

_SCALARS = (type(None), bool, int, float, str)
_LABEL_DTYPE = re.compile(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,6}")
_KIND_OF_LABEL = {"O": (bool, int, float, str), "b": bool, "U": str, "f": float}


def write_json(path: Path, value: Any) -> None:
    """Write JSON in the one form that :func:`read_json` takes for canonical."""
    path.write_text(_canonical(value), encoding="utf-8", newline="\n")


def read_json(path: Path, *, canonical: bool = False) -> Any:
    """Read a file of JSON.

    Parameters
    ----------
    path : Path
        The file.
    canonical : bool, default=False
        Whether it must be as :func:`write_json` writes it, to the byte.

    Returns
    -------
    object
        What it holds.

    Raises
    ------
    ModelFormatError
        The file is missing, or no such JSON; the message names it.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique)
        is_changed = canonical and text != _canonical(value)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    if is_changed:
        raise ModelFormatError(f"{path} was changed after it was written.")
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return mapping


def require_keys(mapping: Any, keys: set[str], where: object) -> None:
    """Raise ModelFormatError unless a mapping has exactly the keys.

    Parameters
    ----------
    mapping : object
        From JSON.
    keys : set of str
        What it must have.
    where : object
        Named in the message.
    """
    if not isinstance(mapping, dict):
        raise ModelFormatError(f"{where}: expected an object with {sorted(keys)}.")
    missing, unexpected = keys - mapping.keys(), mapping.keys() - keys
    if missing or unexpected:
        raise ModelFormatError(
            f"{where}: keys are missing ({sorted(missing)}) or unexpected "
            f"({sorted(unexpected)}). It was changed, or saved by another version of "
            "sktransformers."
        )


def require_type(value: Any, kinds: Any, where: object) -> Any:
    """Return a value from JSON if it is of the kind; a bool is no int."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ModelFormatError(f"{where} must be {names}. Got {value!r:.80}.")
    return value


def encode_value(value: Any, name: str) -> Any:
    """Return a parameter as JSON; what JSON lacks becomes an object with one key.

    Parameters
    ----------
    value : object
        A scalar or path, or a list, tuple or dict of such.
    name : str
        Of the parameter.

    Returns
    -------
    object
        To be written as JSON.

    Raises
    ------
    ModelFormatError
        It is something else, such as a random generator.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, list):
        return [encode_value(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode_value(item, name) for item in value]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[encode_value(v, name) for v in pair] for pair in pairs]}
    raise ModelFormatError(
        f"{name}={value!r:.80} cannot be saved: JSON holds None, numbers, strings and "
        f"lists of them. Set it to one of these first, as in set_params({name}=None)."
    )


def decode_value(value: Any, where: object) -> Any:
    """Return what :func:`encode_value` made JSON of."""
    if isinstance(value, list):
        return [decode_value(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("float", ("nan" | "inf" | "-inf") as name)]:
            return float(name)
        case [("tuple", list(items))]:
            return tuple(decode_value(item, where) for item in items)
        case [("dict", list(pairs))] if all(_is_pair(pair) for pair in pairs):
            return {k: decode_value(v, where) for k, v in pairs}
    raise ModelFormatError(f"{where}: {value!r:.80} stands for no value.")


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], _SCALARS)


def encode_labels(labels: np.ndarray) -> dict[str, Any]:
    """Return labels as JSON, with their dtype.

    Parameters
    ----------
    labels : ndarray of shape (n_classes,)
        Of str, bool, int, float, or objects that are one of these.

    Returns
    -------
    dict
        To be written as JSON.

    Raises
    ------
    ModelFormatError
        They are something else.
    """
    values = [v.item() if isinstance(v, np.generic) else v for v in labels.tolist()]
    dtype = labels.dtype.str
    is_plain = all(type(value) in (bool, int, float, str) for value in values)
    if not _LABEL_DTYPE.fullmatch(dtype) or not is_plain:
        raise ModelFormatError(
            f"Labels such as {values[0]!r:.80}, of dtype {labels.dtype}, cannot be "
            "saved: only str, bool, int and float can. Fit with such labels."
        )
    return {"dtype": dtype, "values": values}


def decode_labels(value: Any, where: object) -> np.ndarray:
    """Return the labels that :func:`encode_labels` made JSON of.

    Parameters
    ----------
    value : object
        From JSON.
    where : object
        Named in messages.

    Returns
    -------
    ndarray of shape (n_classes,)
        Of the same dtype.

    Raises
    ------
    ModelFormatError
        The dtype is none of ours, or a value is not of it.
    """
    require_keys(value, {"dtype", "values"}, where)
    dtype, values = value["dtype"], require_type(value["values"], list, where)
    if not (isinstance(dtype, str) and _LABEL_DTYPE.fullmatch(dtype)):
        raise ModelFormatError(f"{where}: labels of dtype {dtype!r:.80} are not read.")
    kinds = _KIND_OF_LABEL.get(dtype[1], int)
    for item in values:
        require_type(item, kinds, where)
    try:
        labels = np.array(values, dtype=dtype)
    except (OverflowError, ValueError, MemoryError) as error:
        raise ModelFormatError(f"{where}: no labels of {dtype}: {error}") from error
    if labels.tolist() != values:
        raise ModelFormatError(f"{where}: the labels do not fit into {dtype}.")
    return labels
