"""Batching of sequences by length, to minimize padding."""

import numpy as np


def training_batches(
    lengths: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    pool: int = 50,
) -> list[np.ndarray]:
    """Split one epoch into shuffled batches of sequences of similar length.

    The sequences are shuffled, sorted by length within pools of ``pool`` batches and
    split into batches, which are then shuffled. The order stays random, with little
    padding.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        Number of tokens of each sequence.
    batch_size : int
        Sequences per batch; the last batch of a pool may have fewer.
    rng : numpy.random.Generator
        Random number generator for shuffling.
    pool : int, default=50
        Batches per pool. Larger pools reduce padding but make batches less random.

    Returns
    -------
    list of ndarray
        Indices of the sequences in each batch; each sequence occurs once.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * pool):
        rows = order[start : start + batch_size * pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def inference_batches(
    lengths: np.ndarray, keys: np.ndarray | None = None, *, token_budget: int = 4096
) -> list[np.ndarray]:
    """Split sequences, sorted by length, into batches of ``token_budget`` tokens.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        Number of tokens of each sequence.
    keys : ndarray of shape (n_rows,) or None, default=None
        Sort keys among sequences of equal length. None keeps the input order. With
        unique keys, the composition of the batches, and so every bit of the outputs,
        does not depend on the input order.
    token_budget : int, default=4096
        Maximum tokens per batch, padding included. A longer sequence forms a batch of
        its own.

    Returns
    -------
    list of ndarray
        Indices of the sequences in each batch, longest sequences first, so that running
        out of memory occurs in the first batches.
    """
    by_length = -lengths
    order = np.lexsort((by_length,) if keys is None else (keys, by_length))
    batches = []
    start = 0
    while start < len(order):
        size = max(1, token_budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
