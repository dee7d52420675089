"""Words of texts, and texts from which words are cut out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex

from .._compat import safe_indexing
from .._text.inputs import check_texts
from .._text.words import WORD_PATTERN

_WORD = regex.compile(WORD_PATTERN)

Span = tuple[int, int]


@dataclass(frozen=True)
class TextColumns:
    """The text columns of X, which may have other columns, too.

    Attributes
    ----------
    X : array-like
        As passed by the user.
    names : list
        Names of the text columns if X is a data frame, else their indices.
    columns : list of list of str
        Texts of each column.
    """

    X: Any
    names: list[Any]
    columns: list[list[str]]

    def __len__(self) -> int:
        return len(self.columns[0])

    def texts_of(self, row: int) -> tuple[str, ...]:
        """Return the texts of a row."""
        return tuple(column[row] for column in self.columns)

    def replace(self, rows: Sequence[int], texts: list[tuple[str, ...]]) -> Any:
        """Return the given rows of X with other texts, in the container type of X."""
        taken = safe_indexing(self.X, rows)
        columns = list(zip(*texts, strict=True))
        if hasattr(taken, "columns"):
            for name, column in zip(self.names, columns, strict=True):
                taken = _set_column(taken, name, list(column))
            return taken
        values = list(columns[0]) if len(columns) == 1 else texts
        if isinstance(taken, np.ndarray):
            return np.array(values, dtype=object).reshape(taken.shape)
        return values if isinstance(taken, list) else type(taken)(values)


def read_text_columns(X: Any) -> TextColumns:
    """Return the text columns of X.

    Parameters
    ----------
    X : array-like of str of shape (n_texts,), pairs or DataFrame
        A DataFrame may have other columns, too.

    Returns
    -------
    TextColumns
        At least one column.

    Raises
    ------
    TextTypeError, TextValueError
        If X has no text column.
    """
    names = list(X.columns) if hasattr(X, "columns") else []
    is_text = [all(isinstance(text, str) for text in X[name]) for name in names]
    if any(is_text) and not all(is_text):
        names = [name for name, kept in zip(names, is_text, strict=True) if kept]
        return TextColumns(X, names, [list(X[name]) for name in names])
    columns = check_texts(X).columns
    return TextColumns(X, names or list(range(len(columns))), columns)


def _set_column(frame: Any, name: Any, values: list[str]) -> Any:
    if hasattr(frame, "with_columns"):  # polars
        return frame.with_columns(type(frame[name])(name, values))
    return frame.assign(**{name: values}) if isinstance(name, str) else frame


def find_words(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the words of the texts of a row, with column and character offsets."""
    return [
        {"text": match[0], "column": column, "start": match.start(), "end": match.end()}
        for column, text in enumerate(texts)
        for match in _WORD.finditer(text)
    ]


def cut_out(texts: Sequence[str], words: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the texts without some of their words.

    Parameters
    ----------
    texts : sequence of str
        Texts of each column.
    words : iterable of dict
        Words to cut out, as returned by :func:`find_words`.

    Returns
    -------
    tuple of str
        Texts without the words. Whitespace on both sides of a word becomes one space.
    """
    parts = list(texts)
    for word in sorted(words, key=lambda word: word["start"], reverse=True):
        text, start, end = parts[word["column"]], word["start"], word["end"]
        before, after = text[:start], text[end:]
        if not before or before[-1].isspace():
            after = after[1:] if after[:1].isspace() else after
        parts[word["column"]] = before + after
    return tuple(parts)
