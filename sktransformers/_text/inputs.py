"""Validation of X as texts.

Every accepted type of X is converted to :class:`Texts`, one list of str per column, or
for token classification to :class:`~.words.Words`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from scipy import sparse

from ..exceptions import TextTypeError, TextValueError

_EXPECTED = (
    "X must hold texts: a list, tuple, array or Series of str, pairs of str, "
    "or a frame of text columns."
)


class Inputs(Protocol):
    """Validated X: what all estimators need of it."""

    @property
    def n_columns(self) -> int:
        """Number of text columns."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return the texts at the given indices."""

    def fitted_attributes(self) -> dict[str, Any]:
        """Return scikit-learn's fitted attributes that describe the features of X."""


@dataclass(frozen=True)
class Texts:
    """Validated texts, by column.

    Attributes
    ----------
    columns : list of list of str
        One list per text column, all of the same length.
    names : list of str or None
        Column names, if X was a frame with str column names.
    is_frame : bool
        Whether X was two-dimensional: text pairs or a frame.
    """

    columns: list[list[str]]
    names: list[str] | None = None
    is_frame: bool = False

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def n_columns(self) -> int:
        """Number of text columns."""
        return len(self.columns)

    def fitted_attributes(self) -> dict[str, Any]:
        """Return ``n_features_in_`` and ``feature_names_in_`` of a frame."""
        attributes: dict[str, Any] = {}
        if self.is_frame:
            attributes["n_features_in_"] = self.n_columns
        if self.names is not None and len(set(self.names)) == self.n_columns:
            attributes["feature_names_in_"] = np.array(self.names, dtype=object)
        return attributes

    def take(self, rows: Sequence[int] | np.ndarray) -> "Texts":
        """Return the texts at the given indices."""
        columns = [[column[row] for row in rows] for column in self.columns]
        return Texts(columns, self.names, self.is_frame)


def check_texts(X: Any) -> Texts:
    """Validate X and convert it to texts.

    Parameters
    ----------
    X : list, tuple, array, Series or frame of str
        Texts; text pairs as 2-tuples or two columns; or a frame of text columns.

    Returns
    -------
    Texts
        Text columns as lists of str.

    Raises
    ------
    TextTypeError
        If X is not a collection of texts, e.g. a sparse matrix, generator or mapping.
    TextValueError
        If X is a single string, is empty, has too many dimensions, or contains a value
        that is not a str; the message gives the row.
    """
    _require_collection(X)
    names = None
    if _is_frame(X):
        labels, columns = _read_frame(X)
        if not columns:
            raise TextValueError(
                "X is a frame with 0 feature(s) while a minimum of 1 is required: "
                "it has no columns."
            )
        if all(isinstance(label, str) for label in labels):
            names = labels
        is_frame = True
    else:
        columns, is_frame = _split_columns(X)
    if not columns[0]:
        raise TextValueError(
            "X is empty: found 0 sample(s) while a minimum of 1 is required."
        )
    for position, column in enumerate(columns):
        label = f" of column {(names[position] if names else position)!r}"
        columns[position] = _check_strings(column, label if is_frame else "")
    return Texts(columns, names, is_frame)


def read_column(X: Any) -> list[Any]:
    """Return the values of a single column, of any type.

    Parameters
    ----------
    X : list, tuple, array, Series or frame of one column
        The rows of a two-dimensional array are the values.

    Returns
    -------
    list
        One value per row.

    Raises
    ------
    TextTypeError
        If X is not a collection.
    TextValueError
        If X is a single string or a frame of several columns.
    """
    _require_collection(X)
    if _is_frame(X):
        labels, columns = _read_frame(X)
        if len(columns) != 1:
            raise TextValueError(
                f"X must be one column of texts. Got a frame of {len(columns)} columns "
                f"instead: {labels}."
            )
        return columns[0]
    return list(X) if isinstance(X, np.ndarray) else _to_list(X)


def _require_collection(X: Any) -> None:
    if isinstance(X, (str, bytes, bytearray, memoryview)):
        raise TextValueError(
            f"X is a single {type(X).__name__}, not a collection of texts. "
            "Wrap it in a list: [text]."
        )
    if sparse.issparse(X):
        raise TextTypeError(
            "Sparse data was passed for X, but texts are required. Pass the texts "
            "themselves, not a vectorizer's output."
        )
    if isinstance(X, Iterator):
        raise TextTypeError(
            f"X is a {type(X).__name__}, which can be read only once. Pass list(X)."
        )
    if isinstance(X, np.ndarray) and not X.ndim:
        raise TextTypeError(f"{_EXPECTED} Got a 0-dimensional array instead.")
    no_order = isinstance(X, (Mapping, set, frozenset))
    if no_order or isinstance(X, type) or not hasattr(X, "__len__"):
        raise TextTypeError(f"{_EXPECTED} Got {type(X).__name__} instead.")


def _is_frame(X: Any) -> bool:
    """Whether X is a pandas or polars DataFrame or an Arrow table."""
    return hasattr(X, "columns") and hasattr(X, "shape") and len(X.shape) == 2


def _read_frame(frame: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return the column names and values of a DataFrame or Arrow table."""
    if hasattr(frame, "column_names") and not hasattr(frame, "iloc"):  # Arrow
        labels, columns = list(frame.column_names), frame.columns
    else:
        # By position, as column names of a pandas DataFrame may be duplicated.
        at, labels = getattr(frame, "iloc", frame), list(frame.columns)
        columns = [at[:, i] for i in range(len(labels))]
    return labels, [_to_list(column) for column in columns]


def _to_list(X: Any) -> list[Any]:
    """Convert a one-dimensional container to a list, ignoring its index."""
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(X, method):
            return list(getattr(X, method)())
    return list(X)


def _split_columns(X: Any) -> tuple[list[list[Any]], bool]:
    """Return the columns of an array or sequence, and whether it is two-dimensional."""
    if isinstance(X, np.ndarray):
        if X.ndim > 2 or (X.ndim == 2 and X.shape[1] not in (1, 2)):
            raise TextValueError(
                "An array of texts must have one dimension, or two with one column "
                f"(texts) or two columns (pairs). Got shape {X.shape} instead; pass "
                "a DataFrame for more text columns."
            )
        if X.ndim == 2:
            return [X[:, i].tolist() for i in range(X.shape[1])], True
        values = X.tolist()
    else:
        values = _to_list(X)
    if not values or not isinstance(values[0], (tuple, list)):
        return [values], False
    for row, value in enumerate(values):
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            wanted = "a pair of texts like X[0]" if row else "a str or a pair of texts"
            raise TextValueError(
                f"X[{row}] must be {wanted}. Got {describe(value)} instead."
            )
    return [[first for first, _ in values], [second for _, second in values]], True


def _check_strings(values: list[Any], label: str) -> list[str]:
    if set(map(type, values)) == {str}:  # fast path
        return values
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise TextValueError(
                f"X[{row}]{label} must be a str. Got {describe(value)} instead."
                + _advice(value)
            )
    return [str.__str__(value) for value in values]  # numpy.str_ and other subclasses


def describe(value: Any) -> str:
    """Return a short description of an invalid value for an error message."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} items"
    text = " ".join(repr(value).split())
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{shown} ({type(value).__name__})"


def _advice(value: Any) -> str:
    is_missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    if is_missing or (isinstance(value, float) and np.isnan(value)):
        return " Drop the row or fill it, e.g. with the empty string."
    if isinstance(value, bytes):
        return " Decode it first, e.g. with value.decode('utf-8')."
    return ""
