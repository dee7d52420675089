"""Texts become ragged integer arrays; each text is tokenized once.

No padding or truncation state is ever set on the tokenizer: concurrent calls that
set different lengths corrupt each other. Special tokens, cutting and windows are
array work, here and in :mod:`.windows`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .windows import cut_rows

_CHUNK = 4096  # texts tokenized at a time, so that Python lists stay few


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one flat array.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        The rows, one after the other.
    offsets : ndarray of shape (n_rows + 1,)
        Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of values in each row, of shape (n_rows,)."""
        return np.diff(self.offsets)

    @classmethod
    def from_rows(cls, rows: Iterable[list[int]]) -> "Ragged":
        """Build from an iterable of lists."""
        rows = list(rows)
        values = np.concatenate(
            [np.asarray(row, dtype=np.int32) for row in rows]
            or [np.empty(0, dtype=np.int32)]
        )
        return cls(values, _offsets(np.array([len(row) for row in rows], dtype=int)))


@dataclass(frozen=True)
class Encoding:
    """What a model reads: one row of ids for each window of a text.

    Attributes
    ----------
    ids : Ragged
        Token ids with special tokens, a row for each window.
    type_ids : ndarray of shape (n_ids,) or None
        Segment of each token (0 for the first text column), where the model
        distinguishes them.
    owners : ndarray of shape (n_windows,)
        The text each window comes from, in ascending order.
    n_texts : int
        Number of texts.
    n_truncated : int
        Number of texts that were cut.
    pad_id : int
        The id that padding is made of.
    """

    ids: Ragged
    type_ids: np.ndarray | None
    owners: np.ndarray
    n_texts: int
    n_truncated: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens in each window, of shape (n_windows,)."""
        return self.ids.lengths

    def take(self, texts: np.ndarray) -> "Encoding":
        """Return the windows of the texts at the given ascending positions."""
        rows = np.flatnonzero(np.isin(self.owners, texts))
        lengths = self.lengths[rows]
        source = ranges(self.ids.offsets[rows], lengths)
        return Encoding(
            Ragged(self.ids.values[source], _offsets(lengths)),
            None if self.type_ids is None else self.type_ids[source],
            np.searchsorted(texts, self.owners[rows]),
            n_texts=len(texts),
            n_truncated=self.n_truncated,
            pad_id=self.pad_id,
        )

    def pad(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the given windows as rectangular arrays, padded on the right."""
        starts, lengths = self.ids.offsets[rows], self.lengths[rows]
        mask = np.arange(lengths.max()) < lengths[:, None]
        source = ranges(starts, lengths)
        arrays = {"input_ids": np.full(mask.shape, self.pad_id, dtype=np.int64)}
        arrays["input_ids"][mask] = self.ids.values[source]
        arrays["attention_mask"] = mask.astype(np.int64)
        if self.type_ids is not None:
            arrays["token_type_ids"] = np.zeros(mask.shape, dtype=np.int64)
            arrays["token_type_ids"][mask] = self.type_ids[source]
        return arrays


@dataclass(frozen=True)
class SpecialTokens:
    """The ids a tokenizer puts around and between the texts of a row."""

    prefix: list[int]
    separator: list[int]
    suffix: list[int]
    has_types: bool
    pad_id: int
    empty: list[int]

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Read them off a tokenizer, by encoding two words with and without."""
        single = tokenizer("a")["input_ids"]
        pair = tokenizer("a", "a")
        plain = tokenizer("a", add_special_tokens=False)["input_ids"]
        end = tokenizer.eos_token_id
        start = _find(single, plain)
        prefix, suffix = single[:start], single[start + len(plain) :]
        between = pair["input_ids"][start + len(plain) :]
        separator = between[: _find(between, plain)]
        if not separator and end is not None:
            separator = [end]  # GPT-2's kind: nothing would part the two texts
        pad_id = tokenizer.pad_token_id
        if pad_id is None:
            pad_id = end if end is not None else 0  # masked, so any id will do
        fallback = end if end is not None else pad_id
        return cls(
            prefix=prefix,
            separator=separator,
            suffix=suffix,
            has_types=any(pair.get("token_type_ids") or ()),
            pad_id=pad_id,
            # A text without a single token still needs one for the model to read.
            empty=[] if prefix or suffix else [fallback],
        )

    def count(self, n_columns: int) -> int:
        """Return how many ids are added to a row of ``n_columns`` texts."""
        n_separators = (n_columns - 1) * len(self.separator)
        return len(self.prefix) + len(self.suffix) + n_separators


def tokenize(tokenizer: Any, texts: list[str]) -> Ragged:
    """Tokenize texts without special tokens, padding or truncation.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Its own settings stay as they are.
    texts : list of str
        Lone surrogates, which no tokenizer can read, count as U+FFFD.

    Returns
    -------
    Ragged
        The ids of each text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = []
    for start in range(0, len(texts), _CHUNK):
        chunk = [_encodable(text) for text in texts[start : start + _CHUNK]]
        if backend is not None:
            encoded = backend.encode_batch_fast(chunk, add_special_tokens=False)
            parts.append(Ragged.from_rows(item.ids for item in encoded))
        else:
            encoded = tokenizer(chunk, add_special_tokens=False, verbose=False)
            parts.append(Ragged.from_rows(encoded["input_ids"]))
    return Ragged(
        np.concatenate([part.values for part in parts]),
        _offsets(np.concatenate([part.lengths for part in parts])),
    )


def encode(
    columns: list[Ragged],
    special: SpecialTokens,
    *,
    max_length: int,
    window: bool,
) -> Encoding:
    """Join the columns of each row with special tokens, and cut what is too long.

    Parameters
    ----------
    columns : list of Ragged
        The tokens of each text column, without special tokens.
    special : SpecialTokens
        What goes around and between them.
    max_length : int
        Tokens a window may have, special tokens included.
    window : bool
        Whether a longer text is split into overlapping windows rather than cut.

    Returns
    -------
    Encoding
        One row for each window.
    """
    capacity = max_length - special.count(len(columns))
    lengths = np.stack([column.lengths for column in columns], axis=1)
    owners, starts, sizes, n_truncated = cut_rows(lengths, capacity, window=window)

    # A row is a sequence of pieces: constants and slices of the columns. Their sizes
    # say where each goes in the flat output, and so each is copied in one go.
    pieces: list[tuple[Any, np.ndarray | None, np.ndarray, int]] = []
    n_windows = len(owners)

    def add_constant(ids: list[int], kind: int) -> None:
        if ids:
            pieces.append((ids, None, np.full(n_windows, len(ids)), kind))

    add_constant(special.prefix, 0)
    for number, column in enumerate(columns):
        if number:
            add_constant(special.separator, min(number - 1, 1))
        begin = column.offsets[:-1][owners] + starts[:, number]
        pieces.append((column.values, begin, sizes[:, number], min(number, 1)))
    add_constant(special.suffix, min(len(columns) - 1, 1))
    if special.empty:
        missing = sizes.sum(axis=1) == 0
        filler = np.asarray(special.empty, dtype=np.int32)
        pieces.append(
            (filler, np.zeros(n_windows, dtype=int), missing * len(filler), 0)
        )

    offsets = _offsets(np.sum([size for _, _, size, _ in pieces], axis=0))
    values = np.empty(offsets[-1], dtype=np.int32)
    needs_types = special.has_types and len(columns) > 1
    types = np.zeros(offsets[-1], dtype=np.uint8) if needs_types else None
    position = offsets[:-1].copy()
    for ids, begin, size, kind in pieces:
        target = ranges(position, size)
        values[target] = (
            np.tile(ids, n_windows) if begin is None else ids[ranges(begin, size)]
        )
        if types is not None:
            types[target] = kind
        position += size
    return Encoding(
        Ragged(values, offsets),
        types,
        owners,
        n_texts=len(lengths),
        n_truncated=n_truncated,
        pad_id=special.pad_id,
    )


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the concatenation of ``arange(start, start + size)``."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - sizes), sizes)


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _find(ids: list[int], wanted: list[int]) -> int:
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return start
    return 0


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
