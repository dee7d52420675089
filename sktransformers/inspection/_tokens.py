"""Tokens of texts with their character offsets, in the windows that a model reads."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._text.encoding import Encoding
from .._text.offsets import token_offsets
from .._text.ragged import Ragged
from .._text.tokenization import SpecialTokens


@dataclass(frozen=True)
class TokenTable:
    """Tokens of encoded texts.

    Attributes
    ----------
    encoding : Encoding
        Encoded texts, as for ``predict``.
    numbers : ndarray of shape (n_ids,)
        For each id of the encoding, the index of its token; -1 for special tokens.
    columns : ndarray of shape (n_tokens,)
        Index of the text column of each token.
    starts, ends : ndarray of shape (n_tokens,)
        Character offsets of each token in its text.
    """

    encoding: Encoding
    numbers: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def windows_of(self, text: int) -> np.ndarray:
        """Return the indices of the windows of a text."""
        return np.flatnonzero(self.encoding.sample_index == text)

    def numbers_of(self, text: int) -> np.ndarray:
        """Return the token indices of the windows of a text, concatenated."""
        return self.numbers[self.encoding.ids.flat_indices(self.windows_of(text))]

    def words_of(self, text: int, words: list[dict[str, Any]]) -> "WordIndex":
        """Return which words the tokens of a text belong to."""
        return WordIndex.of(self, self.numbers_of(text), words)


@dataclass(frozen=True)
class WordIndex:
    """The words that tokens belong to, with the share of each.

    Attributes
    ----------
    tokens, words : ndarray of shape (n_pairs,)
        Index of a token and of a word that it overlaps.
    shares : ndarray of shape (n_pairs,)
        Share of the token's characters in the word.
    n_words : int
        Number of words.
    """

    tokens: np.ndarray
    words: np.ndarray
    shares: np.ndarray
    n_words: int

    @classmethod
    def of(
        cls, table: TokenTable, numbers: np.ndarray, words: list[dict[str, Any]]
    ) -> "WordIndex":
        """Find the words of tokens.

        A token of several words is split by characters. One of none, such as
        whitespace, belongs to the next word of its column, or else to the last.
        """
        columns = np.array([word["column"] for word in words], dtype=np.int64)
        starts = np.array([word["start"] for word in words], dtype=np.int64)
        ends = np.array([word["end"] for word in words], dtype=np.int64)
        pairs: list[tuple[int, int, float]] = []
        for position in np.flatnonzero(numbers >= 0).tolist():
            number = numbers[position]
            own = np.flatnonzero(columns == table.columns[number])
            start, end = table.starts[number], table.ends[number]
            sizes = np.minimum(ends[own], end) - np.maximum(starts[own], start)
            hits = np.flatnonzero(sizes > 0)
            if not len(hits) and len(own):
                first = np.searchsorted(starts[own], start)
                hits = np.array([min(int(first), len(own) - 1)])
                sizes = np.ones(len(own))
            total = sizes[hits].sum()
            pairs += [(position, own[hit], sizes[hit] / total) for hit in hits]
        if not pairs:
            empty = np.empty(0, dtype=np.int64)
            return cls(empty, empty, np.empty(0), len(words))
        tokens, found, shares = zip(*pairs, strict=True)
        return cls(np.array(tokens), np.array(found), np.array(shares), len(words))

    @property
    def is_read(self) -> np.ndarray:
        """Whether each word has a token, of shape (n_words,)."""
        return np.bincount(self.words, minlength=self.n_words) > 0

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of the values of each word's tokens, of shape (n_words,)."""
        return np.bincount(
            self.words, values[self.tokens] * self.shares, minlength=self.n_words
        )


def locate_tokens(estimator: Any, X: Any) -> TokenTable | None:
    """Encode texts as an estimator does, and find their tokens in the texts.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier or regressor of this package.
    X : array-like of str of shape (n_texts,), pairs or DataFrame
        Texts.

    Returns
    -------
    TokenTable or None
        None if the tokenizer knows no offsets.
    """
    encoding = estimator._encode_fitted(X)
    columns = estimator._check_texts(X).columns
    parts = [token_offsets(estimator.tokenizer_, column) for column in columns]
    found = [part for part in parts if part is not None]
    if len(found) < len(columns):
        return None
    # The same windows of token indices instead of ids: -1 for special tokens.
    special = SpecialTokens.of(estimator.tokenizer_)
    marks = dataclasses.replace(
        special,
        prefix=[-1] * len(special.prefix),
        separator=[-1] * len(special.separator),
        suffix=[-1] * len(special.suffix),
        empty=[-1] * len(special.empty),
    )
    sizes = [len(starts) for starts, _, _ in found]
    firsts = np.cumsum(sizes) - sizes
    numbers = [
        Ragged(np.arange(first, first + size, dtype=np.int32), offsets)
        for first, size, (_, _, offsets) in zip(firsts, sizes, found, strict=True)
    ]
    located = estimator._arrange(
        numbers,
        marks,
        estimator._length_limit,
        estimator.tokenizer_.truncation_side,
    )
    return TokenTable(
        encoding=encoding,
        numbers=located.ids.values,
        columns=np.repeat(np.arange(len(columns)), sizes),
        starts=np.concatenate([starts for starts, _, _ in found]),
        ends=np.concatenate([ends for _, ends, _ in found]),
    )
