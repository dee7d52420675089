"""Ragged arrays: rows of different lengths in one flat array."""

import functools
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

CHUNK = 512  # rows processed at a time, to bound the memory of intermediate results


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
        weights = _hash_weights(int(lengths.max(initial=1) - 1).bit_length())
        for start in range(0, len(self), CHUNK):
            rows = slice(start, start + CHUNK)
            sizes = lengths[rows]
            first, last = self.offsets[start], self.offsets[start + len(sizes)]
            values = self.values[first:last].astype(np.uint64)
            columns = ranges(np.zeros_like(sizes), sizes)
            values *= weights[columns]  # wraps around, as intended
            sums = np.cumsum(values, dtype=np.uint64)
            ends = np.append(np.uint64(0), sums)[np.cumsum(sizes)]
            hashes[rows] = np.diff(ends, prepend=np.uint64(0))
        return hashes

    def rows(self) -> list[np.ndarray]:
        """Return the rows as a list of arrays."""
        return np.split(self.values, self.offsets[1:-1])

    def head(self, most: int) -> "Ragged":
        """Return the first values of each row, ``most`` at the most."""
        lengths = np.minimum(self.lengths, most)
        return Ragged(
            self.values[ranges(self.offsets[:-1], lengths)], offsets_of(lengths)
        )

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


@functools.cache
def _hash_weights(log2_size: int) -> np.ndarray:
    """Return random factors; fewer are the beginning of more."""
    rng = np.random.default_rng(0)
    return rng.integers(2**64, size=1 << log2_size, dtype=np.uint64)


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
