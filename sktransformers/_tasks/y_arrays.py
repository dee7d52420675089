"""Conversion and validation of y as an array."""

from collections.abc import Collection
from typing import Any

import numpy as np


def to_array(y: Any) -> np.ndarray:
    """Convert y to an array; values of extension dtypes become plain objects."""
    dtype = getattr(y, "dtype", None)
    is_extension = hasattr(y, "to_list") and not isinstance(dtype, np.dtype)
    if is_extension or getattr(dtype, "kind", "") == "T":
        # Categorical, string, Int64, numpy's StringDType, or polars without tolist.
        values = y.tolist() if hasattr(y, "tolist") else y.to_list()
        return _compact(np.array(values, dtype=object))
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        return _compact(np.array(y, dtype=object))  # NumPy would convert 1 to "1"
    try:
        y = np.asarray(y)
    except ValueError:  # rows of different lengths
        return np.array([*y, None], dtype=object)[:-1]
    if y.ndim == 2 and y.dtype == object:  # e.g. a DataFrame of nullable integers
        return np.array(y.tolist())
    is_labels = y.dtype == object and y.ndim == 1 and len(y)
    return _compact(y) if is_labels and not isinstance(y[0], str) else y


def _compact(values: np.ndarray) -> np.ndarray:
    """Convert an object array of a single plain type to the dtype of that type."""
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    kinds = set(map(type, plain))
    is_plain = len(kinds) == 1 and kinds <= {str, int, bool, float}
    return np.array(plain) if is_plain else values


def find_collection(y: np.ndarray) -> int | None:
    """Return the index of the first value of y that is a collection, or None."""
    if y.ndim != 1 or y.dtype != object:
        return None
    for row, value in enumerate(y):
        if isinstance(value, Collection) and not isinstance(value, (str, bytes)):
            return row
    return None


def require_present(y: np.ndarray) -> None:
    """Raise ValueError for a missing or infinite value; the message gives the row."""
    if y.dtype.kind not in "fOMm":  # other dtypes have no missing values
        return
    if y.dtype.kind == "f" and np.isfinite(y).all():
        return
    for position, label in enumerate(y.ravel().tolist()):
        missing = label is None or type(label).__name__ in ("NAType", "NaTType")
        if missing or (isinstance(label, float) and not np.isfinite(label)):
            row = position // max(1, y.size // len(y))
            raise ValueError(
                f"Input y contains NaN or None or infinity: y[{row}] is {label!r}. "
                "Drop the rows without a label."
            )
