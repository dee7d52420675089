"""Tokenization of texts into ragged arrays of token ids.

Padding and truncation are never set on the tokenizer, because concurrent calls with
different lengths would interfere. Special tokens, truncation and windows are added by
array operations, here and in :mod:`.windows`.
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

_CHUNK = 512  # rows processed at a time, to bound the memory of intermediate results


@dataclass(frozen=True)
class Ragged:
    """Ragged array: rows of different lengths in one flat array.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Concatenated rows.
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
        """Return a hash of each row's values, of shape (n_rows,), as uint64."""
        lengths, hashes = self.lengths, np.zeros(len(self), dtype=np.uint64)
        if len(self) == 1:  # nothing to order; saves time
            return hashes
        rng = np.random.default_rng(0)  # weights do not depend on max length
        weights = rng.integers(2**64, size=lengths.max(initial=0), dtype=np.uint64)
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            sizes = lengths[rows]
            first, last = self.offsets[start], self.offsets[start + len(sizes)]
            values = self.values[first:last].astype(np.uint64)
            columns = ranges(np.zeros_like(sizes), sizes)
            values *= weights[columns]  # wraps around, as intended
            sums = np.cumsum(values, dtype=np.uint64)
            ends = np.append(np.uint64(0), sums)[np.cumsum(sizes)]
            hashes[rows] = np.diff(ends, prepend=np.uint64(0))
        return hashes

    def flat_indices(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices into ``values`` of the given rows."""
        starts = self.offsets[rows]
        return ranges(starts, self.offsets[rows + 1] - starts)

    def take(self, rows: np.ndarray) -> "Ragged":
        """Return the given rows, in the given order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return Ragged(self.values[self.flat_indices(rows)], offsets_of(lengths))

    def keep(self, mask: np.ndarray) -> "Ragged":
        """Return the rows where the mask is True."""
        values = self.values[np.repeat(mask, self.lengths)]
        return Ragged(values, offsets_of(self.lengths[mask]))

    @classmethod
    def from_rows(cls, rows: Iterable[list[int] | bytes]) -> "Ragged":
        """Build from rows given as lists of int, or as bytes of int32 values."""
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
    """Encoded texts: one row of token ids per window of a text.

    Attributes
    ----------
    ids : Ragged
        Token ids with special tokens, one row per window.
    type_ids : ndarray of shape (n_ids,) or None
        Token type id of each token (0 for the first text column), if the model uses
        token type ids.
    sample_index : ndarray of shape (n_windows,)
        Index of the text of each window, in ascending order.
    n_texts : int
        Number of texts.
    n_truncated : int
        Number of truncated texts.
    pad_id : int
        Id of the padding token.
    positions : Ragged or None
        Token positions of the outputs in each window. None: one output per window.
    """

    ids: Ragged
    type_ids: np.ndarray | None
    sample_index: np.ndarray
    n_texts: int
    n_truncated: int
    pad_id: int
    positions: Ragged | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_outputs(self) -> int:
        """Total number of outputs."""
        return len(self) if self.positions is None else len(self.positions.values)

    @property
    def output_counts(self) -> np.ndarray:
        """Number of outputs of each window, of shape (n_windows,)."""
        if self.positions is None:
            return np.ones(len(self), dtype=np.int64)
        return self.positions.lengths

    @property
    def all_ids(self) -> np.ndarray:
        """Token ids of all windows and of padding, with duplicates."""
        return np.append(self.ids.values, self.pad_id)

    def outputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of the outputs of the given windows."""
        return rows if self.positions is None else self.positions.flat_indices(rows)

    def read_at(self, positions: Ragged) -> "Encoding":
        """Set ``positions`` and drop the windows without any."""
        has_some = positions.lengths > 0
        kept = self.keep(has_some)
        return dataclasses.replace(kept, positions=positions.keep(has_some))

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens in each window, of shape (n_windows,)."""
        return self.ids.lengths

    def hashes(self) -> np.ndarray:
        """Return a hash of each window's token ids, of shape (n_windows,)."""
        return self.ids.hashes()

    def take(self, texts: np.ndarray) -> "Encoding":
        """Return the windows of the texts at the given ascending indices."""
        kept = self.keep(np.isin(self.sample_index, texts))
        sample_index = np.searchsorted(texts, kept.sample_index).astype(
            self.sample_index.dtype
        )
        return dataclasses.replace(kept, sample_index=sample_index, n_texts=len(texts))

    def keep(self, windows: np.ndarray) -> "Encoding":
        """Return the windows where the mask is True, with unchanged text indices."""
        types = self.type_ids
        if types is not None:
            types = types[np.repeat(windows, self.lengths)]
        return dataclasses.replace(
            self,
            ids=self.ids.keep(windows),
            type_ids=types,
            sample_index=self.sample_index[windows],
            positions=None if self.positions is None else self.positions.keep(windows),
        )

    def parts_of_rows(self) -> list[list[np.ndarray]]:
        """Return each window's ids, type ids and positions as a list of arrays."""
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
        """Return the model inputs of the given windows, padded on the right.

        With ``few_widths``, the padded length is rounded up by at most one eighth, so
        that few distinct shapes occur and kernels compiled for a shape are reused.
        """
        starts = self.ids.offsets[rows]
        lengths = self.ids.offsets[rows + 1] - starts  # of these rows only
        width = int(lengths.max())
        if few_widths:
            step = 1 << max(0, (width - 1).bit_length() - 4)  # 8 per power of two
            width = min(-(-width // step) * step, self.longest)
        mask = np.arange(width) < lengths[:, None]
        source = ranges(starts, lengths)
        arrays = {"input_ids": np.full(mask.shape, self.pad_id, dtype=np.int64)}
        arrays["input_ids"][mask] = self.ids.values[source]
        arrays["attention_mask"] = mask.astype(np.int64)
        if self.type_ids is not None:
            arrays["token_type_ids"] = np.zeros(mask.shape, dtype=np.int64)
            arrays["token_type_ids"][mask] = self.type_ids[source]
        if self.positions is not None:  # flat positions in the padded batch
            read = self.positions.take(rows)
            lines = np.repeat(np.arange(len(rows)), read.lengths)
            arrays["positions"] = lines * width + read.values
        return arrays


@dataclass(frozen=True)
class SpecialTokens:
    """Special token ids that a tokenizer adds around and between the texts of a row."""

    prefix: list[int]
    separator: list[int]
    suffix: list[int]
    has_types: bool
    pad_id: int
    empty: list[int]

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Return the special tokens of a tokenizer, cached per tokenizer."""
        special = _SPECIAL_TOKENS.get(tokenizer)
        if special is None:
            special = _SPECIAL_TOKENS[tokenizer] = cls._read(tokenizer)
        return special

    @classmethod
    def _read(cls, tokenizer: Any) -> "SpecialTokens":
        """Infer the special tokens from an encoded text and an encoded text pair."""
        single = tokenizer("a")["input_ids"]
        pair = tokenizer("a", "a")
        plain = tokenizer("a", add_special_tokens=False)["input_ids"]
        end = tokenizer.eos_token_id
        start = _find(single, plain)
        prefix, suffix = single[:start], single[start + len(plain) :]
        between = pair["input_ids"][start + len(plain) :]
        separator = between[: _find(between, plain)]
        if not separator and end is not None:
            separator = [end]  # GPT-2 and similar add no separator of their own
        pad_id = tokenizer.pad_token_id
        if pad_id is None:
            # Padding is masked, but some heads take the last other token for the end.
            ids = (end, tokenizer.bos_token_id, tokenizer.unk_token_id)
            pad_id = next((i for i in ids if i not in (None, *suffix[-1:])), 0)
        fallback = end if end is not None else pad_id
        return cls(
            prefix=prefix,
            separator=separator,
            suffix=suffix,
            has_types=any(pair.get("token_type_ids") or ()),
            pad_id=pad_id,
            # The model needs at least one token, even for an empty text.
            empty=[] if prefix or suffix else [fallback],
        )

    def count(self, n_columns: int) -> int:
        """Return the number of special tokens in a row of ``n_columns`` texts."""
        n_separators = (n_columns - 1) * len(self.separator)
        return len(self.prefix) + len(self.suffix) + n_separators


_SPECIAL_TOKENS: WeakKeyDictionary[Any, SpecialTokens] = WeakKeyDictionary()


def tokenize(tokenizer: Any, texts: list[str]) -> Ragged:
    """Tokenize texts without special tokens, padding or truncation.

    The token ids of recent texts are cached.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Padding and truncation of its backend are switched off.
    texts : list of str
        Lone surrogates, which tokenizers cannot encode, are replaced by U+FFFD.

    Returns
    -------
    Ragged
        Token ids of each text.
    """
    return Ragged.from_rows(_iter_ids(tokenizer, texts))


def _iter_ids(tokenizer: Any, texts: list[str]) -> Iterator[bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        _reset_backend(tokenizer, backend)
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
    """Return the token ids of texts that are not cached."""
    if not texts:
        return []
    texts = [_replace_surrogates(text) for text in texts]
    if backend is None:
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
        rows: list[list[int]] = encoded["input_ids"]
        return rows
    items = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [item.ids for item in items]


def _reset_backend(tokenizer: Any, backend: Any) -> None:
    """Reset settings that a previous call of the tokenizer may have left."""
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
        Token ids of each text column, without special tokens.
    special : SpecialTokens
        Special tokens to add.
    max_length : int
        Maximum number of tokens of a row, special tokens included.
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
    """Join the text columns with special tokens, and truncate or split long rows.

    Parameters
    ----------
    columns : list of Ragged
        Token ids of each text column, without special tokens.
    special : SpecialTokens
        Special tokens to add.
    max_length : int
        Maximum number of tokens of a window, special tokens included.
    window : bool
        Whether to split longer rows into overlapping windows instead of truncating.

    Returns
    -------
    Encoding
        One row per window.
    """
    capacity = max_length - special.count(len(columns))
    lengths = np.array([column.lengths for column in columns]).T
    sample_index, starts, sizes, n_truncated = cut_rows(
        lengths, capacity, window=window
    )

    n_ids = sizes.sum(axis=1) + special.count(len(columns))
    if special.empty:
        n_ids[~sizes.any(axis=1)] += 1
    offsets = offsets_of(n_ids)
    # The fill value remains only in rows without tokens, as their single token.
    values = np.full(offsets[-1], (special.empty or [0])[0], dtype=np.int32)
    needs_types = special.has_types and len(columns) > 1
    types = np.zeros(offsets[-1], dtype=np.uint8) if needs_types else None
    for first in range(0, len(sample_index), _CHUNK):
        rows = slice(first, first + _CHUNK)
        position = _write(special.prefix, values, offsets[:-1][rows])
        for number, column in enumerate(columns):
            if number > 0:
                position = _write(special.separator, values, position)
            if number == 1 and types is not None:
                types[ranges(position, offsets[1:][rows] - position)] = 1
            begin = column.offsets[sample_index[rows]] + starts[rows, number]
            size = sizes[rows, number]
            values[ranges(position, size)] = column.values[ranges(begin, size)]
            position = position + size
        _write(special.suffix, values, position)
    return Encoding(
        Ragged(values, offsets),
        types,
        sample_index,
        n_texts=len(lengths),
        n_truncated=n_truncated,
        pad_id=special.pad_id,
    )


def _write(ids: list[int], values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Write ``ids`` at each position and return the positions after them."""
    for token in ids:
        values[position] = token
        position = position + 1
    return position


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the concatenation of ``arange(start, start + size)``."""
    if len(starts) == 1:  # fast path for a single text
        return np.arange(starts[0], starts[0] + sizes[0])
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - sizes), sizes)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the offsets of rows of the given lengths, of shape (n_rows + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _find(ids: list[int], wanted: list[int]) -> int:
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return start
    return 0


def _replace_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
