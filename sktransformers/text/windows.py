"""A long text becomes a shorter one, or several overlapping windows."""

import numpy as np

_OVERLAP = 4  # neighbouring windows share a quarter of their tokens


def cut_rows(
    lengths: np.ndarray, capacity: int, *, window: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Decide which tokens of each row go into which window.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows, n_columns)
        Tokens in each text.
    capacity : int
        Tokens a window may hold, over all its columns.
    window : bool
        False: one window a row, tokens dropped from the end of the longest column
        first. True: the longest column is split; the others are cut to an equal
        share of the capacity where need be.

    Returns
    -------
    owners : ndarray of shape (n_windows,)
        The row each window comes from.
    starts, sizes : ndarray of shape (n_windows, n_columns)
        The slice of each column that the window holds.
    n_truncated : int
        Rows of which some tokens are in no window.
    """
    n_rows, n_columns = lengths.shape
    owners = np.arange(n_rows, dtype=np.int32)  # half the memory, and enough
    too_long = lengths.sum(axis=1) > capacity
    if not too_long.any():
        return owners, np.zeros(lengths.shape, dtype=int), lengths, 0
    sizes = lengths.copy()
    sizes[too_long] = share(lengths[too_long], capacity)
    if not window:
        return owners, np.zeros_like(sizes), sizes, int(too_long.sum())

    longest = lengths.argmax(axis=1)
    rows = np.arange(n_rows)
    size = sizes[rows, longest]
    length = lengths[rows, longest]
    step = np.maximum(size - size // _OVERLAP, 1)
    n_windows = np.where(length > size, -(-(length - size) // step) + 1, 1)
    cut_elsewhere = lengths - sizes
    cut_elsewhere[rows, longest] = 0

    owners = np.repeat(owners, n_windows)
    number = np.arange(len(owners)) - np.repeat(
        np.cumsum(n_windows) - n_windows, n_windows
    )
    starts = np.zeros((len(owners), n_columns), dtype=lengths.dtype)
    windows = np.arange(len(owners))
    # The last window ends with the text and so is as full as the others.
    starts[windows, longest[owners]] = np.minimum(
        number * step[owners], (length - size)[owners]
    )
    return owners, starts, sizes[owners], int((cut_elsewhere.sum(axis=1) > 0).sum())


def share(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Cut rows to a capacity, always from the longest column first.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows, n_columns)
        Tokens in each text.
    capacity : int
        Tokens each row may keep.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
        Tokens kept; rows that fit are unchanged.
    """
    kept = np.zeros_like(lengths)
    left = np.full(len(lengths), capacity)
    order = np.argsort(lengths, axis=1, kind="stable")
    n_columns = lengths.shape[1]
    rows = np.arange(len(lengths))
    # Shortest column first: it takes at most an equal share of what is left.
    for rank in range(n_columns):
        column = order[:, rank]
        allowed = left // (n_columns - rank)
        kept[rows, column] = np.minimum(lengths[rows, column], allowed)
        left -= kept[rows, column]
    return kept
