"""Encoding of tokenized texts as model inputs, by operations on ragged arrays."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..exceptions import TextValueError
from .batching import BatchRule
from .ragged import CHUNK, Ragged, offsets_of, ranges
from .tokenization import SpecialTokens
from .windows import cut_rows


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
    n_dropped : int
        Number of texts or words of which the tokenizer drops all characters.
    positions : Ragged or None
        Token positions of the outputs in each window. None: one output per window.
    rule : BatchRule
        Which windows the model may be given together.
    """

    ids: Ragged
    type_ids: np.ndarray | None
    sample_index: np.ndarray
    n_texts: int
    n_truncated: int
    pad_id: int
    n_dropped: int = 0
    positions: Ragged | None = None
    rule: BatchRule = dataclasses.field(default_factory=BatchRule)

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

    def read_at(self, positions: Ragged) -> Self:
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

    def take(self, texts: np.ndarray) -> Self:
        """Return the windows of the texts at the given ascending indices."""
        kept = self.keep(np.isin(self.sample_index, texts))
        sample_index = np.searchsorted(texts, kept.sample_index).astype(
            self.sample_index.dtype
        )
        return dataclasses.replace(kept, sample_index=sample_index, n_texts=len(texts))

    def keep(self, windows: np.ndarray) -> Self:
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
        parts = [self.ids.rows()]
        if self.type_ids is not None:
            parts.append(Ragged(self.type_ids, self.ids.offsets).rows())
        if self.positions is not None:
            parts.append(self.positions.rows())
        return [list(row) for row in zip(*parts, strict=True)]

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split a batch of windows into batches that follow the rule."""
        return self.rule.split(rows, self.lengths[rows])

    @functools.cached_property
    def longest(self) -> int:
        """Number of tokens in the longest window."""
        return int(self.ids.lengths.max())

    def pad(self, rows: np.ndarray, *, few_widths: bool = False) -> dict[str, Any]:
        """Return the model inputs of the given windows, padded on the right.

        With ``few_widths``, the padded length is rounded up by at most one eighth, so
        that few distinct shapes occur and kernels compiled for a shape are reused.
        """
        starts = self.ids.offsets[rows]
        lengths = self.ids.offsets[rows + 1] - starts  # of these rows only
        width = int(lengths.max())
        if few_widths and self.rule.shared_by == "all":
            step = 1 << max(0, (width - 1).bit_length() - 4)  # 8 per power of two
            width = min(-(-width // step) * step, self.longest)
        width = max(width, self.rule.least_width)
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
    truncation_side: str = "right",
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
    truncation_side : {"right", "left"}, default="right"
        Side on which texts are truncated.

    Returns
    -------
    Encoding
        One row per window.
    """
    n_columns, types = len(columns), None
    capacity = max_length - special.count(n_columns)
    lengths = np.array([column.lengths for column in columns]).T
    sample_index, starts, sizes, n_truncated = cut_rows(
        lengths, capacity, window=window, side=truncation_side
    )
    is_empty = np.logical_and(~sizes.any(axis=1), len(special.empty))
    offsets = offsets_of(sizes.sum(axis=1) + special.count(n_columns) + is_empty)
    # The fill value remains only in rows without tokens, as their single token.
    values = np.full(offsets[-1], (special.empty or [0])[0], dtype=np.int32)
    if any(special.types(n_columns)):
        types = _make_types(special, sizes, is_empty)
    for first in range(0, len(sample_index), CHUNK):
        rows = slice(first, first + CHUNK)
        position = _write(special.prefix, values, offsets[:-1][rows])
        for number, column in enumerate(columns):
            if number > 0:
                position = _write(special.separator, values, position)
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


def _make_types(
    special: SpecialTokens, sizes: np.ndarray, is_empty: np.ndarray
) -> np.ndarray:
    """Return the token type ids of rows with texts of the given sizes."""
    n_columns = sizes.shape[1]
    types = np.array(special.types(n_columns), dtype=np.uint8)
    repeats = np.ones((len(sizes), len(types)), dtype=np.int64)
    gap = len(special.separator) + 1
    end = len(types) - len(special.suffix)
    repeats[:, len(special.prefix) : end : gap] = sizes
    repeats[:, -1] += is_empty  # without a suffix, so it belongs to the last text
    return np.repeat(np.tile(types, len(sizes)), repeats.ravel())


def _write(ids: list[int], values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Write ``ids`` at each position and return the positions after them."""
    for token in ids:
        values[position] = token
        position = position + 1
    return position
