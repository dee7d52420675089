"""Validation and encoding of X for token classification: lists of words, or strings.

Every accepted type of X is converted to :class:`Words`. Words are tokenized separately,
so that their token ids do not depend on context and each distinct word is tokenized
once.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import regex

from ..exceptions import TextValueError
from .encoding import Encoding, encode
from .inputs import describe, read_column
from .ragged import Ragged, offsets_of, ranges
from .tokenization import (
    SpecialTokens,
    count_dropped,
    first_id,
    per_tokenizer,
    tokenize,
)
from .windows import cut_rows

_FOR_UNKNOWN_WORD = ("unk", "mask", "eos", "sep", "cls", "bos")
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}ー]"

WORD_PATTERN = (
    rf"(?={_UNSPACED})\X"  # a character with its combining marks
    rf"|(?:(?!{_UNSPACED})[\w\p{{M}}\u200c\u200d])+"  # a run of letters and digits
    r"|(?!\s)\X"  # any other grapheme, such as an emoji of several code points
)
"""Regular expression of a word, in the syntax of the package ``regex``."""


@dataclass(frozen=True)
class Words:
    """Validated texts, split into words.

    Attributes
    ----------
    rows : list of list of str
        The words of each text.
    texts : list of str or None
        The texts, if X contained strings.
    spans : list of list of (int, int) or None
        Character span of each word in its text, if X contained strings.
    """

    rows: list[list[str]]
    texts: list[str] | None = None
    spans: list[list[tuple[int, int]]] | None = None

    n_columns: ClassVar[int] = 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """Number of words in each text, of shape (n_texts,)."""
        return np.fromiter(map(len, self.rows), dtype=np.int64, count=len(self))

    def fitted_attributes(self) -> dict[str, Any]:
        """Return no attributes, as X has no features in scikit-learn's sense."""
        return {}

    def take(self, rows: Iterable[int]) -> "Words":
        """Return the texts at the given indices."""
        rows = list(rows)
        return Words(
            [self.rows[row] for row in rows],
            None if self.texts is None else [self.texts[row] for row in rows],
            None if self.spans is None else [self.spans[row] for row in rows],
        )

    def locate(self, text: int, start: int, end: int) -> dict[str, Any]:
        """Return the text and location of a range of words.

        Parameters
        ----------
        text : int
            Index of the text.
        start, end : int
            Range of words; ``end`` is exclusive.

        Returns
        -------
        dict
            Keys "text", "start" and "end". Offsets are in characters if X contained
            strings, else in words.
        """
        if self.texts is None or self.spans is None:
            words = " ".join(self.rows[text][start:end])
            return {"text": words, "start": start, "end": end}
        first, last = self.spans[text][start][0], self.spans[text][end - 1][1]
        return {"text": self.texts[text][first:last], "start": first, "end": last}

    def is_spaced(self) -> list[bool]:
        """Return for each word of all texts whether whitespace precedes it."""
        if self.texts is None or self.spans is None:
            return [number > 0 for row in self.rows for number in range(len(row))]
        return [
            start > 0 and text[start - 1].isspace()
            for text, row in zip(self.texts, self.spans, strict=True)
            for start, _ in row
        ]


def check_words(X: Any, word_pattern: str = WORD_PATTERN) -> Words:
    """Validate X and convert it to words.

    Parameters
    ----------
    X : list, tuple, array, Series or frame of one column
        Either str, or lists, tuples or arrays of str, which may be empty.
    word_pattern : str, default=WORD_PATTERN
        Regular expression of a word, to split str.

    Returns
    -------
    Words
        The words of each text.

    Raises
    ------
    TextTypeError
        If X is not a collection of texts.
    TextValueError
        If X is a single string, is empty, mixes strings and lists of words, or contains
        other values; the message gives the row.
    """
    values = read_column(X)
    if not values:
        raise TextValueError(
            "X is empty: found 0 sample(s) while a minimum of 1 is required."
        )
    if isinstance(values[0], str):
        return _split(values, word_pattern)
    return Words([_check_word_list(row, value) for row, value in enumerate(values)])


def _split(values: list[Any], word_pattern: str) -> Words:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise TextValueError(
                f"X[{row}] must be a str like X[0]. Got {describe(value)} instead."
            )
    try:
        pattern = regex.compile(word_pattern)
    except regex.error as error:
        raise ValueError(
            f"word_pattern={word_pattern!r} is not a valid regular expression: {error}."
        ) from error
    texts = [str.__str__(value) for value in values]
    spans = [
        [
            match.span()
            for match in pattern.finditer(text)
            if match.end() > match.start()
        ]
        for text in texts
    ]
    rows = [
        [text[start:end] for start, end in row]
        for text, row in zip(texts, spans, strict=True)
    ]
    return Words(rows, texts, spans)


def _check_word_list(row: int, value: Any) -> list[str]:
    if isinstance(value, str) or not _is_word_list(value):
        both = ", not both" if isinstance(value, str) else ""
        raise TextValueError(
            f"X[{row}] must be a list of words. Got {describe(value)} instead. X must "
            f"contain lists of words or strings{both}."
        )
    words = value.tolist() if hasattr(value, "tolist") else list(value)
    if not words or set(map(type, words)) == {str}:  # fast path
        return words
    for position, word in enumerate(words):
        if not isinstance(word, str):
            raise TextValueError(
                f"X[{row}][{position}] must be a str. Got {describe(word)} instead."
            )
    return [str.__str__(word) for word in words]


def _is_word_list(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return True
    return getattr(value, "ndim", None) == 1 or hasattr(value, "to_list")


def encode_words(
    words: Words, tokenizer: Any, special: SpecialTokens, *, max_length: int
) -> Encoding:
    """Encode texts in windows, with one output position per word.

    The output of a word is that of its first token, a bare space marker left out, in
    the window where the smaller of the contexts to its left and right is largest.
    Windows without outputs are dropped.

    Parameters
    ----------
    words : Words
        Texts to encode.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.
    special : SpecialTokens
        Special tokens of the tokenizer.
    max_length : int
        Maximum number of tokens of a window, special tokens included.

    Returns
    -------
    Encoding
        Windows with one position per word, in the order of the words.
    """
    pieces, word_offsets, tokens, n_dropped = _tokenize_words(tokenizer, words)
    n_words = words.lengths
    texts = np.repeat(np.arange(len(words)), n_words)
    bounds = word_offsets[offsets_of(n_words)]
    column = Ragged(pieces, bounds)
    encoding = encode([column], special, max_length=max_length, window=True)

    _, starts, sizes, _ = cut_rows(
        column.lengths[:, None], max_length - special.count(1), window=True
    )
    # Index of the first token of each window among all tokens.
    firsts = bounds[encoding.sample_index] + starts[:, 0]
    is_next = np.diff(encoding.sample_index) == 0
    # From the middle of an overlap onwards, the later window has more context.
    middles = (firsts[:-1] + sizes[:-1, 0] + firsts[1:] + 1)[is_next] // 2
    windows = texts + np.searchsorted(middles, tokens, side="right")
    # Texts without words also have one window; they have no overlap.
    positions = Ragged(
        tokens - firsts[windows] + len(special.prefix),
        offsets_of(np.bincount(windows, minlength=len(encoding))),
    )
    return dataclasses.replace(encoding.read_at(positions), n_dropped=n_dropped)


def _tokenize_words(
    tokenizer: Any, words: Words
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Tokenize words.

    Returns
    -------
    ids : ndarray of shape (n_tokens,)
        Token ids of all words, concatenated; at least one of each word.
    offsets : ndarray of shape (n_words + 1,)
        Offsets of the words in ``ids``.
    read : ndarray of shape (n_words,)
        Index in ``ids`` of each word's first token, the space marker left out.
    n_dropped : int
        Number of words of which the tokenizer drops all characters.
    """
    numbers: dict[str, int] = {}
    flat = [word for row in words.rows for word in row]
    marks = SpaceMarks.of(tokenizer)
    if marks.in_text:
        pairs = zip(flat, words.is_spaced(), strict=True)
        flat = [" " + word if spaced else word for word, spaced in pairs]
    order = np.array([numbers.setdefault(word, len(numbers)) for word in flat], int)
    vocabulary = tokenize(tokenizer, list(numbers))
    unknown = first_id(tokenizer, _FOR_UNKNOWN_WORD)
    ids = np.append(vocabulary.values, np.int32(unknown))
    starts = np.where(vocabulary.lengths > 0, vocabulary.offsets[:-1], len(ids) - 1)
    is_marked = ids[starts] == marks.token_id
    n_dropped = count_dropped(flat, (vocabulary.lengths - is_marked)[order])
    sizes = np.maximum(vocabulary.lengths, 1)
    shifts = is_marked & (sizes > 1)
    starts, sizes, shifts = starts[order], sizes[order], shifts[order]
    offsets = offsets_of(sizes)
    return ids[ranges(starts, sizes)], offsets, offsets[:-1] + shifts, n_dropped


@dataclass(frozen=True)
class SpaceMarks:
    """How a tokenizer marks the space before a word.

    Attributes
    ----------
    in_text : bool
        Whether it encodes a word together with the space before it, if there is one.
    token_id : int
        Id of the token that stands for a space before a word that has no token with a
        space in it; -1 if there is none. SentencePiece often puts it before each word.
    """

    in_text: bool
    token_id: int

    @classmethod
    @per_tokenizer
    def of(cls, tokenizer: Any) -> "SpaceMarks":
        """Infer the space marks from encoded words."""
        running, first, second, with_space = (
            row.tolist() for row in tokenize(tokenizer, ["b a", "b", "a", " a"]).rows()
        )
        in_text = running == first + with_space and running != first + second
        rare = [in_text * " " + character for character in _RARE_CHARACTERS]
        blank, *rows = tokenize(tokenizer, [" ", *rare]).rows()
        bare = blank.tolist()
        marker = {row[0] for row in rows if len(row) > 1 or row.tolist() == bare != []}
        marker -= {tokenizer.unk_token_id}
        return cls(in_text, marker.pop() if len(marker) == 1 else -1)


_RARE_CHARACTERS = ("\ua66e", "\U00010900", "\u0cf1")  # which begin unlike in UTF-8
