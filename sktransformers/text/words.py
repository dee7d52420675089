"""What X may be where every word counts: token lists, or strings that are split.

Every kind of X becomes a :class:`Words`. A word is tokenized by itself, so that its
tokens do not depend on its neighbours and each word that occurs is tokenized once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import regex

from ..exceptions import TextValueError
from .encoding import (
    Encoding,
    Ragged,
    SpecialTokens,
    encode,
    offsets_of,
    ranges,
    tokenize,
)
from .inputs import describe, read_column
from .windows import cut_rows

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}ー]"

WORD_PATTERN = (
    rf"(?={_UNSPACED})\X"  # a character with its marks
    rf"|(?:(?!{_UNSPACED})[\w\p{{M}}\u200c\u200d])+"  # a run of letters and digits
    r"|(?!\s)\X"  # any other sign, such as an emoji of several code points
)
"""What counts as a word of a string, in the syntax of the package ``regex``."""


@dataclass(frozen=True)
class Words:
    """Checked texts as words.

    Attributes
    ----------
    columns : list
        One list: the words of each text, in a list.
    texts : list of str or None
        The texts, where X held strings.
    spans : list of list of (int, int) or None
        The characters of each word in its text, where X held strings.
    """

    columns: list[list[list[str]]]
    texts: list[str] | None = None
    spans: list[list[tuple[int, int]]] | None = None

    names = None
    is_frame = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> list[list[str]]:
        """The words of each text."""
        return self.columns[0]

    @property
    def lengths(self) -> np.ndarray:
        """Number of words in each text, of shape (n_texts,)."""
        return np.fromiter(map(len, self.rows), dtype=np.int64, count=len(self))

    def take(self, rows: Iterable[int]) -> "Words":
        """Return the texts at the given positions."""
        rows = list(rows)
        return Words(
            [[self.rows[row] for row in rows]],
            None if self.texts is None else [self.texts[row] for row in rows],
            None if self.spans is None else [self.spans[row] for row in rows],
        )

    def locate(self, text: int, start: int, end: int) -> dict[str, Any]:
        """Say where some words of a text are.

        Parameters
        ----------
        text : int
            Position of the text.
        start, end : int
            Its first word, and the one after the last.

        Returns
        -------
        dict
            "text"; and "start" and "end", in characters if X held strings.
        """
        if self.texts is None or self.spans is None:
            words = " ".join(self.rows[text][start:end])
            return {"text": words, "start": start, "end": end}
        first, last = self.spans[text][start][0], self.spans[text][end - 1][1]
        return {"text": self.texts[text][first:last], "start": first, "end": last}

    def is_spaced(self) -> list[bool]:
        """Whether there is a space before each word, for all words in one list."""
        if self.texts is None or self.spans is None:
            return [number > 0 for row in self.rows for number in range(len(row))]
        return [
            start > 0 and text[start - 1].isspace()
            for text, row in zip(self.texts, self.spans, strict=True)
            for start, _ in row
        ]


def check_words(X: Any, word_pattern: str = WORD_PATTERN) -> Words:
    """Turn token lists or strings into checked words.

    Parameters
    ----------
    X : list, tuple, array, Series or frame of one column
        Of str; or of lists, tuples or arrays of str, which may be empty.
    word_pattern : str, default=WORD_PATTERN
        What a word is, in a str.

    Returns
    -------
    Words
        In the order of the rows.

    Raises
    ------
    TextTypeError
        X is no container of texts.
    TextValueError
        X is a bare string, is empty, mixes strings and token lists, or holds
        something else; the message names the row.
    """
    values = read_column(X)
    if not values:
        raise TextValueError(
            "X is empty: found 0 sample(s) while a minimum of 1 is required."
        )
    if isinstance(values[0], str):
        return _split(values, word_pattern)
    return Words([[_check_row(row, value) for row, value in enumerate(values)]])


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
            f"word_pattern={word_pattern!r} is no regular expression: {error}."
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
    return Words([rows], texts, spans)


def _check_row(row: int, value: Any) -> list[str]:
    if isinstance(value, str) or not _is_row(value):
        kind = "mixes them" if isinstance(value, str) else "has neither"
        raise TextValueError(
            f"X[{row}] must be a list of words. Got {describe(value)} instead. X holds "
            f"lists of words or strings, and here {kind}."
        )
    words = value.tolist() if hasattr(value, "tolist") else list(value)
    if not words or set(map(type, words)) == {str}:  # the usual case, at C speed
        return words
    for position, word in enumerate(words):
        if not isinstance(word, str):
            raise TextValueError(
                f"X[{row}][{position}] must be a word, a str. Got {describe(word)} "
                "instead."
            )
    return [str.__str__(word) for word in words]


def _is_row(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return True
    return getattr(value, "ndim", None) == 1 or hasattr(value, "to_list")


def encode_words(
    words: Words, tokenizer: Any, special: SpecialTokens, *, max_length: int
) -> Encoding:
    """Encode texts in windows, and say where each word's output is read off.

    A word is read at its first token, in the window that sees most tokens on the side
    of the word where it sees less. Windows in which no word is read are left out.

    Parameters
    ----------
    words : Words
        The texts.
    tokenizer : PreTrainedTokenizerBase
        Its own settings stay as they are.
    special : SpecialTokens
        Those of the tokenizer.
    max_length : int
        Tokens a window may have, special tokens included.

    Returns
    -------
    Encoding
        With one position for each word, in the order of the words.
    """
    pieces, word_offsets = _tokenize_words(tokenizer, words)
    n_words = words.lengths
    texts = np.repeat(np.arange(len(words)), n_words)
    bounds = word_offsets[offsets_of(n_words)]
    column = Ragged(pieces, bounds)
    encoding = encode([column], special, max_length=max_length, window=True)

    _, starts, sizes, _ = cut_rows(
        column.lengths[:, None], max_length - special.count(1), window=True
    )
    firsts = bounds[encoding.owners] + starts[:, 0]  # of each window, in all tokens
    is_next = np.diff(encoding.owners) == 0
    # A word from the middle of an overlap onwards sees more in the later window.
    middles = (firsts[:-1] + sizes[:-1, 0] + firsts[1:] + 1)[is_next] // 2
    tokens = word_offsets[:-1]
    windows = texts + np.searchsorted(middles, tokens, side="right")
    # Texts without words have a window too, which has no middle.
    positions = Ragged(
        tokens - firsts[windows] + len(special.prefix),
        offsets_of(np.bincount(windows, minlength=len(encoding))),
    )
    return encoding.read_at(positions)


def _tokenize_words(tokenizer: Any, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all words, and where each word begins among them."""
    numbers: dict[str, int] = {}
    flat = [word for row in words.rows for word in row]
    if reads_spaces(tokenizer):
        pairs = zip(flat, words.is_spaced(), strict=True)
        flat = [" " + word if spaced else word for word, spaced in pairs]
    order = np.array([numbers.setdefault(word, len(numbers)) for word in flat], int)
    vocabulary = tokenize(tokenizer, list(numbers))
    unknown = _id_of_unknown(tokenizer)
    sizes = np.maximum(vocabulary.lengths, 1)[order]  # a word without tokens gets one
    ids = np.append(vocabulary.values, np.int32(unknown))
    starts = np.where(vocabulary.lengths > 0, vocabulary.offsets[:-1], len(ids) - 1)
    return ids[ranges(starts[order], sizes)], offsets_of(sizes)


def reads_spaces(tokenizer: Any) -> bool:
    """Whether a word must have its space before it to be read as in running text."""
    spaced = _READS_SPACES.get(tokenizer)
    if spaced is None:
        ids = tokenize(tokenizer, ["b a", "b", "a", " a"])
        parts = np.split(ids.values, ids.offsets[1:-1])
        running, first, second, with_space = (part.tolist() for part in parts)
        spaced = running == first + with_space and running != first + second
        _READS_SPACES[tokenizer] = spaced
    return spaced


_READS_SPACES: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _id_of_unknown(tokenizer: Any) -> int:
    for name in ("unk_token_id", "eos_token_id", "pad_token_id"):
        if (token_id := getattr(tokenizer, name, None)) is not None:
            return int(token_id)
    return 0
