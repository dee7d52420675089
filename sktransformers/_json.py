"""Lossless conversion of parameters and labels to JSON and back."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .exceptions import ModelFormatError

_SCALARS = (type(None), bool, int, float, str)
_LABEL_DTYPE = re.compile(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,6}")
_LABEL_TYPES = {"O": (bool, int, float, str), "b": bool, "U": str, "f": float}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in the canonical format that :func:`read_json` can require."""
    path.write_text(_canonical(value), encoding="utf-8", newline="\n")


def read_json(path: Path, *, canonical: bool = False) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        The file.
    canonical : bool, default=False
        Whether to require exactly the bytes that :func:`write_json` writes.

    Returns
    -------
    object
        The decoded content.

    Raises
    ------
    ModelFormatError
        If the file is missing, is not valid JSON or, with ``canonical=True``, was
        changed.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        value = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
        is_changed = canonical and text != _canonical(value)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    if is_changed:
        raise ModelFormatError(f"{path} was changed after it was written.")
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("duplicate key in an object")
    return mapping


def require_keys(mapping: Any, keys: set[str], where: object) -> None:
    """Raise ModelFormatError unless a mapping has exactly the given keys.

    Parameters
    ----------
    mapping : object
        Value decoded from JSON.
    keys : set of str
        Required keys.
    where : object
        Location for the error message.
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
    """Return a value from JSON if it has one of the types; a bool is not an int."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ModelFormatError(f"{where} must be {names}. Got {value!r:.80}.")
    return value


def encode_value(value: Any, name: str) -> Any:
    """Encode a parameter as JSON; types that JSON lacks become tagged objects.

    Parameters
    ----------
    value : object
        A scalar or path, or a list, tuple or dict of them.
    name : str
        Name of the parameter, for the error message.

    Returns
    -------
    object
        Value that can be written as JSON.

    Raises
    ------
    ModelFormatError
        If the value has another type, such as a random number generator.
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
        f"{name}={value!r:.80} cannot be saved as JSON, which supports None, numbers, "
        f"strings and lists of them. Set another value first: set_params({name}=None)."
    )


def decode_value(value: Any, where: object) -> Any:
    """Decode a value that :func:`encode_value` returned."""
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
    raise ModelFormatError(f"{where}: {value!r:.80} cannot be decoded.")


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], _SCALARS)


def encode_labels(labels: np.ndarray) -> dict[str, Any]:
    """Encode class labels as JSON, with their dtype.

    Parameters
    ----------
    labels : ndarray of shape (n_classes,)
        Labels of type str, bool, int or float, with this dtype or dtype object.

    Returns
    -------
    dict
        Value that can be written as JSON, with the keys "dtype" and "values".

    Raises
    ------
    ModelFormatError
        If the labels have another type.
    """
    values = [v.item() if isinstance(v, np.generic) else v for v in labels.tolist()]
    dtype = labels.dtype.str
    is_plain = all(type(value) in (bool, int, float, str) for value in values)
    if not _LABEL_DTYPE.fullmatch(dtype) or not is_plain:
        raise ModelFormatError(
            f"Labels such as {values[0]!r:.80}, of dtype {labels.dtype}, cannot be "
            "saved. Fit with labels of type str, bool, int or float."
        )
    return {"dtype": dtype, "values": values}


def decode_labels(value: Any, where: object) -> np.ndarray:
    """Decode labels that :func:`encode_labels` returned.

    Parameters
    ----------
    value : object
        Value decoded from JSON.
    where : object
        Location for error messages.

    Returns
    -------
    ndarray of shape (n_classes,)
        Labels with their original dtype.

    Raises
    ------
    ModelFormatError
        If the dtype is not supported, or does not match the values.
    """
    require_keys(value, {"dtype", "values"}, where)
    dtype, values = value["dtype"], require_type(value["values"], list, where)
    if not (isinstance(dtype, str) and _LABEL_DTYPE.fullmatch(dtype)):
        raise ModelFormatError(f"{where}: unsupported label dtype {dtype!r:.80}.")
    kinds = _LABEL_TYPES.get(dtype[1], int)
    for item in values:
        require_type(item, kinds, where)
    try:
        labels = np.array(values, dtype=dtype)
    except (OverflowError, ValueError, MemoryError) as error:
        raise ModelFormatError(
            f"{where}: invalid labels for {dtype}: {error}"
        ) from error
    if labels.tolist() != values:
        raise ModelFormatError(
            f"{where}: the labels are not exactly representable as {dtype}."
        )
    return labels
