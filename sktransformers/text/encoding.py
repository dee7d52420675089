"""Texts become ragged integer arrays; each text is tokenized once.

No padding or truncation state is ever set on the tokenizer: concurrent calls that
set different lengths corrupt each other. Special tokens, cutting and windows are
array work, here and in :mod:`.windows`.
"""

import dataclasses
import functools
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..exceptions import TextValueError
from .token_cache import cache_of
from .windows import cut_rows

_CHUNK = 512  # rows worked on at a time, so that intermediate results stay small


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
        return self.offsets[1:] - self.offsets[:-1]

    def hashes(self) -> np.ndarray:
        """Return a number for each row that depends on its values and their order."""
        lengths, hashes = self.lengths, np.zeros(len(self), dtype=np.uint64)
        if len(self) == 1:  # a text alone should not wait for what orders many
            return hashes
        rng = np.random.default_rng(0)  # a longer row draws more, and the same at first
        weights = rng.integers(2**64, size=lengths.max(initial=0), dtype=np.uint64)
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            sizes = lengths[rows]
            first, last = self.offsets[start], self.offsets[start + len(sizes)]
            values = self.values[first:last].astype(np.uint64)
            places = ranges(np.zeros_like(sizes), sizes)
            values *= weights[places]  # overflows, as meant
            sums = np.cumsum(values, dtype=np.uint64)
            ends = np.append(np.uint64(0), sums)[np.cumsum(sizes)]
            hashes[rows] = np.diff(ends, prepend=np.uint64(0))
        return hashes

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the positions in ``values`` of all values of the given rows."""
        starts = self.offsets[rows]
        return ranges(starts, self.offsets[rows + 1] - starts)

    def take(self, rows: np.ndarray) -> "Ragged":
        """Return the given rows, in their order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return Ragged(self.values[self.places(rows)], offsets_of(lengths))

    def keep(self, mask: np.ndarray) -> "Ragged":
        """Return the rows for which the mask is true."""
        values = self.values[np.repeat(mask, self.lengths)]
        return Ragged(values, offsets_of(self.lengths[mask]))

    @classmethod
    def from_rows(cls, rows: Iterable[list[int] | bytes]) -> "Ragged":
        """Build from lists, or from the bytes of integers of 4 bytes."""
        values, offsets = array("i"), array("q", [0])
        for row in rows:
            if isinstance(row, bytes):
                values.frombytes(row)
            else:
                values.fromlist(row)
            offsets.append(len(values))
        return cls(np.asarray(values, np.int32), np.asarray(offsets, np.int64))


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
    positions : Ragged or None
        Where in its window each output is read off. None: one output a window.
    """

    ids: Ragged
    type_ids: np.ndarray | None
    owners: np.ndarray
    n_texts: int
    n_truncated: int
    pad_id: int
    positions: Ragged | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_outputs(self) -> int:
        """Number of outputs that are read off all windows."""
        return len(self) if self.positions is None else len(self.positions.values)

    @property
    def output_counts(self) -> np.ndarray:
        """Number of outputs of each window, of shape (n_windows,)."""
        if self.positions is None:
            return np.ones(len(self), dtype=np.int64)
        return self.positions.lengths

    def outputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Return which outputs are read off the given windows."""
        return rows if self.positions is None else self.positions.places(rows)

    def read_at(self, positions: Ragged) -> "Encoding":
        """Return the windows that have positions, to be read at these."""
        has_some = positions.lengths > 0
        kept = self.keep(has_some)
        return dataclasses.replace(kept, positions=positions.keep(has_some))

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens in each window, of shape (n_windows,)."""
        return self.ids.lengths

    def hashes(self) -> np.ndarray:
        """Return a number for each window that depends on its tokens."""
        return self.ids.hashes()

    def take(self, texts: np.ndarray) -> "Encoding":
        """Return the windows of the texts at the given ascending positions."""
        kept = self.keep(np.isin(self.owners, texts))
        owners = np.searchsorted(texts, kept.owners).astype(self.owners.dtype)
        return dataclasses.replace(kept, owners=owners, n_texts=len(texts))

    def keep(self, windows: np.ndarray) -> "Encoding":
        """Return the windows for which the mask is true; texts keep their numbers."""
        types = self.type_ids
        if types is not None:
            types = types[np.repeat(windows, self.lengths)]
        return dataclasses.replace(
            self,
            ids=self.ids.keep(windows),
            type_ids=types,
            owners=self.owners[windows],
            positions=None if self.positions is None else self.positions.keep(windows),
        )

    def parts_of_rows(self) -> list[list[np.ndarray]]:
        """Return the arrays that each window consists of."""
        ends = self.ids.offsets[1:-1]
        parts = [np.split(self.ids.values, ends)]
        if self.type_ids is not None:
            parts.append(np.split(self.type_ids, ends))
        if self.positions is not None:
            at = self.positions
            parts.append(np.split(at.values, at.offsets[1:-1]))
        return [list(row) for row in zip(*parts, strict=True)]

    @functools.cached_property
    def longest(self) -> int:
        """Number of tokens in the longest window."""
        return int(self.lengths.max())

    def pad(self, rows: np.ndarray, *, few_widths: bool = False) -> dict[str, Any]:
        """Return the given windows as rectangular arrays, padded on the right.

        With ``few_widths`` they are padded to one of a few widths, at most one part in
        eight more than the longest has: kernels that are generated for the shape of
        their matrices then serve many batches.
        """
        starts = self.ids.offsets[rows]
        lengths = self.ids.offsets[rows + 1] - starts  # not of all rows: there are many
        width = int(lengths.max())
        if few_widths:
            step = 1 << max(0, (width - 1).bit_length() - 4)  # 8 to each doubling
            width = min(-(-width // step) * step, self.longest)
        mask = np.arange(width) < lengths[:, None]
        source = ranges(starts, lengths)
        arrays = {"input_ids": np.full(mask.shape, self.pad_id, dtype=np.int64)}
        arrays["input_ids"][mask] = self.ids.values[source]
        arrays["attention_mask"] = mask.astype(np.int64)
        if self.type_ids is not None:
            arrays["token_type_ids"] = np.zeros(mask.shape, dtype=np.int64)
            arrays["token_type_ids"][mask] = self.type_ids[source]
        if self.positions is not None:  # in the rectangle, read line by line
            read = self.positions.take(rows)
            lines = np.repeat(np.arange(len(rows)), read.lengths)
            arrays["positions"] = lines * width + read.values
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
        """Return those of a tokenizer, which are read off it once."""
        special = _SPECIAL_TOKENS.get(tokenizer)
        if special is None:
            special = _SPECIAL_TOKENS[tokenizer] = cls._read(tokenizer)
        return special

    @classmethod
    def _read(cls, tokenizer: Any) -> "SpecialTokens":
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


_SPECIAL_TOKENS: WeakKeyDictionary[Any, SpecialTokens] = WeakKeyDictionary()


def tokenize(tokenizer: Any, texts: list[str]) -> Ragged:
    """Tokenize texts without special tokens, padding or truncation.

    What was tokenized lately is not tokenized again.

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
    return Ragged.from_rows(_rows_of_ids(tokenizer, texts))


def _rows_of_ids(tokenizer: Any, texts: list[str]) -> Iterator[bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        _forget_settings(tokenizer, backend)
    cache = cache_of(tokenizer)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        known = {text: ids for text in chunk if (ids := cache.get(text)) is not None}
        new = [text for text in dict.fromkeys(chunk) if text not in known]
        for text, row in zip(new, _read_ids(tokenizer, backend, new), strict=True):
            known[text] = array("i", row).tobytes()
            cache.add(text, known[text])
        yield from map(known.__getitem__, chunk)


def _read_ids(tokenizer: Any, backend: Any, texts: list[str]) -> list[list[int]]:
    """Ask a tokenizer for the ids of a few texts."""
    if not texts:
        return []
    texts = [_encodable(text) for text in texts]
    if backend is None:
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
        rows: list[list[int]] = encoded["input_ids"]
        return rows
    items = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [item.ids for item in items]


def _forget_settings(tokenizer: Any, backend: Any) -> None:
    """Undo what a user's own call of the tokenizer may have left on it."""
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens


def require_fitting(
    columns: list[Ragged], special: SpecialTokens, max_length: int
) -> None:
    """Raise TextValueError if a row is longer than ``max_length`` tokens.

    Parameters
    ----------
    columns : list of Ragged
        The tokens of each text column, without special tokens.
    special : SpecialTokens
        What goes around and between them.
    max_length : int
        Tokens a row may have, special tokens included.
    """
    lengths = np.sum([column.lengths for column in columns], axis=0)
    lengths += special.count(len(columns))
    too_long = np.flatnonzero(lengths > max_length)
    if len(too_long):
        raise TextValueError(
            f"X[{too_long[0]}] has {lengths[too_long[0]]} tokens, more than "
            f"max_length={max_length} ({len(too_long)} such texts in all). Shorten "
            "them, or pass long_text='truncate' or 'window'."
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
    lengths = np.array([column.lengths for column in columns]).T
    owners, starts, sizes, n_truncated = cut_rows(lengths, capacity, window=window)

    n_ids = sizes.sum(axis=1) + special.count(len(columns))
    if special.empty:
        n_ids[~sizes.any(axis=1)] += 1
    offsets = offsets_of(n_ids)
    # What is left of this at the end is the one token of a text without tokens.
    values = np.full(offsets[-1], (special.empty or [0])[0], dtype=np.int32)
    needs_types = special.has_types and len(columns) > 1
    types = np.zeros(offsets[-1], dtype=np.uint8) if needs_types else None
    for first in range(0, len(owners), _CHUNK):
        rows = slice(first, first + _CHUNK)
        position = _write(special.prefix, values, offsets[:-1][rows])
        for number, column in enumerate(columns):
            if number > 0:
                position = _write(special.separator, values, position)
            if number == 1 and types is not None:
                types[ranges(position, offsets[1:][rows] - position)] = 1
            begin = column.offsets[owners[rows]] + starts[rows, number]
            size = sizes[rows, number]
            values[ranges(position, size)] = column.values[ranges(begin, size)]
            position = position + size
        _write(special.suffix, values, position)
    return Encoding(
        Ragged(values, offsets),
        types,
        owners,
        n_texts=len(lengths),
        n_truncated=n_truncated,
        pad_id=special.pad_id,
    )


def _write(ids: list[int], values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Write the same ids at each position; return the positions after them."""
    for token in ids:
        values[position] = token
        position = position + 1
    return position


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the concatenation of ``arange(start, start + size)``."""
    if len(starts) == 1:  # a text alone should not wait for seven small steps
        return np.arange(starts[0], starts[0] + sizes[0])
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - sizes), sizes)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where rows of the given lengths begin, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


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
