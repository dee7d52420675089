"""JSON files with a schema, and values that JSON lacks: tuples, arrays, NaN."""

import functools
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import numpy as np

from .exceptions import ModelFormatError

T = TypeVar("T")

_TYPE = "__type__"  # marks an object that encodes a value of another type
_MAKERS: dict[str, Any] = {"float": float, "tuple": tuple, "dict": dict}
_SCALARS = (bool, int, float, str)
_LABEL_DTYPE = re.compile(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,6}")


class Schema(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base class of the schemas: every field is required and no other is allowed."""


class _Typed(Schema, rename={"kind": _TYPE}):
    """Object that encodes a value of a type that JSON lacks."""

    kind: str
    value: Any


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in the canonical format that :func:`read_json` can require."""
    path.write_text(_canonical(value), encoding="utf-8", newline="\n")


def read_json(path: Path, kind: type[T], *, canonical: bool = False) -> T:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        Type of the content, such as a :class:`Schema`.
    canonical : bool, default=False
        Whether to require exactly the bytes that :func:`write_json` writes.

    Returns
    -------
    object
        The decoded content.

    Raises
    ------
    ModelFormatError
        If the file is missing, is not valid JSON, does not match the type or, with
        ``canonical=True``, was changed.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        value = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
        is_changed = canonical and text != _canonical(value)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    if is_changed:
        raise ModelFormatError(f"{path} was changed after it was written.")
    return convert(value, kind, path)


def _canonical(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("duplicate key in an object")
    return mapping


def convert(value: Any, kind: type[T], where: object) -> T:
    """Convert decoded JSON to a type; raise ModelFormatError if it does not match.

    Parameters
    ----------
    value : object
        Value decoded from JSON.
    kind : type
        Type that msgspec supports, such as a :class:`Schema`.
    where : object
        Location for the error message, which adds the path inside the value.

    Returns
    -------
    object
        Value of this type.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ModelFormatError(
            f"{where}: {error}. It was changed, or saved by another version of "
            "sktransformers."
        ) from error


@functools.cache
def schema_of(constructor: Callable[..., Any]) -> type[msgspec.Struct]:
    """Return the schema of a constructor's parameters, which must be annotated."""
    types = get_type_hints(constructor)
    types.pop("return", None)
    return msgspec.defstruct("Parameters", types.items(), bases=(Schema,), kw_only=True)


def encode(value: Any, name: str = "") -> Any:
    """Encode a value as JSON; types that JSON lacks become objects that name the type.

    Parameters
    ----------
    value : object
        A scalar, path or array of labels, or a list, tuple, dict or schema of them.
    name : str
        Name of the value, for the error message. By default, the key in the dict.

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
        return {_TYPE: "float", "value": str(value)}
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, list):
        return [encode(item, name) for item in value]
    if isinstance(value, tuple):
        return {_TYPE: "tuple", "value": [encode(item, name) for item in value]}
    if isinstance(value, np.ndarray):
        return {_TYPE: value.dtype.str, "value": _encode_labels(value)}
    if isinstance(value, msgspec.Struct):
        return {k: encode(v) for k, v in msgspec.structs.asdict(value).items()}
    if isinstance(value, dict):
        pairs = [(k, encode(v, name or str(k))) for k, v in value.items()]
        if all(type(key) is str and key != _TYPE for key in value):
            return dict(pairs)
        return {_TYPE: "dict", "value": [[encode(k, name), v] for k, v in pairs]}
    raise ModelFormatError(
        f"{name}={value!r:.80} cannot be saved as JSON, which supports None, numbers, "
        f"strings and lists of them. Set another value first: set_params({name}=None)."
    )


def _encode_labels(labels: np.ndarray) -> list[Any]:
    values = [v.item() if isinstance(v, np.generic) else v for v in labels.tolist()]
    try:
        _decode_labels(labels.dtype.str, values)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(
            f"Labels such as {values[0]!r:.80}, of dtype {labels.dtype}, cannot be "
            "saved. Fit with labels of type str, bool, int or float."
        ) from error
    return values


def decode(value: Any, where: object) -> Any:
    """Decode a value that :func:`encode` returned, except that schemas become dicts.

    Parameters
    ----------
    value : object
        Value decoded from JSON.
    where : object
        Location for the error message.

    Returns
    -------
    object
        The value before :func:`encode`.

    Raises
    ------
    ModelFormatError
        If an object that names a type does not contain a value of this type.
    """
    if isinstance(value, list):
        return [decode(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    decoded = {key: decode(item, where) for key, item in value.items()}
    if _TYPE not in decoded:
        return decoded
    found = convert(decoded, _Typed, where)
    make = _MAKERS.get(found.kind) or functools.partial(_decode_labels, found.kind)
    try:
        return make(found.value)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ModelFormatError(f"{where}: {value!r:.80}: {error}") from error


def _decode_labels(dtype: str, values: Any) -> np.ndarray:
    if not _LABEL_DTYPE.fullmatch(dtype):
        raise ValueError(f"unsupported label dtype {dtype}")
    labels = np.array(values, dtype=dtype)
    found = labels.tolist()
    is_plain = all(type(value) in _SCALARS for value in found)
    # By type too, as True == 1 == 1.0.
    if found != values or [*map(type, found)] != [*map(type, values)] or not is_plain:
        raise ValueError(f"the values are not exactly representable as {dtype}")
    return labels
