"""Truncation of long texts, or splitting into overlapping windows."""

import numpy as np

_OVERLAP = 4  # adjacent windows overlap by a quarter of their tokens


def cut_rows(
    lengths: np.ndarray, capacity: int, *, window: bool, side: str = "right"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Compute the token slices of the windows of each row.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows, n_columns)
        Number of tokens of each text.
    capacity : int
        Maximum number of tokens of a window, over all columns.
    window : bool
        If False, return one window per row, the longest column truncated first. If
        True, split the longest column and truncate the others to an equal share of the
        capacity if needed.
    side : {"right", "left"}, default="right"
        Side on which the columns of a single window are truncated.

    Returns
    -------
    sample_index : ndarray of shape (n_windows,)
        Index of the row of each window.
    starts, sizes : ndarray of shape (n_windows, n_columns)
        Start and size of the slice of each column in the window.
    n_truncated : int
        Number of rows with tokens that are in no window.
    """
    n_rows, n_columns = lengths.shape
    sample_index = np.arange(n_rows, dtype=np.int32)  # half the memory of int64
    too_long = lengths.sum(axis=1) > capacity
    if not too_long.any():
        return sample_index, np.zeros(lengths.shape, dtype=int), lengths, 0
    sizes = lengths.copy()
    sizes[too_long] = share(lengths[too_long], capacity)
    if not window:
        starts = lengths - sizes if side == "left" else np.zeros_like(sizes)
        return sample_index, starts, sizes, int(too_long.sum())

    longest = lengths.argmax(axis=1)
    rows = np.arange(n_rows)
    size = sizes[rows, longest]
    length = lengths[rows, longest]
    step = np.maximum(size - size // _OVERLAP, 1)
    n_windows = np.where(length > size, -(-(length - size) // step) + 1, 1)
    cut_elsewhere = lengths - sizes
    cut_elsewhere[rows, longest] = 0

    sample_index = np.repeat(sample_index, n_windows)
    number = np.arange(len(sample_index)) - np.repeat(
        np.cumsum(n_windows) - n_windows, n_windows
    )
    starts = np.zeros((len(sample_index), n_columns), dtype=lengths.dtype)
    windows = np.arange(len(sample_index))
    # The last window ends at the end of the text and is as long as the others.
    starts[windows, longest[sample_index]] = np.minimum(
        number * step[sample_index], (length - size)[sample_index]
    )
    return (
        sample_index,
        starts,
        sizes[sample_index],
        int((cut_elsewhere.sum(axis=1) > 0).sum()),
    )


def share(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Truncate rows to a capacity, the longest column first.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows, n_columns)
        Number of tokens of each text.
    capacity : int
        Maximum number of tokens of a row.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
        Number of tokens kept of each text; rows that fit are unchanged.
    """
    kept = np.zeros_like(lengths)
    left = np.full(len(lengths), capacity)
    order = np.argsort(lengths, axis=1, kind="stable")
    n_columns = lengths.shape[1]
    rows = np.arange(len(lengths))
    # Shortest column first: it gets at most an equal share of the remaining tokens.
    for rank in range(n_columns):
        column = order[:, rank]
        allowed = left // (n_columns - rank)
        kept[rows, column] = np.minimum(lengths[rows, column], allowed)
        left -= kept[rows, column]
    return kept
