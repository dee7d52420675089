"""Batching of sequences by length, to minimize padding."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchRule:
    """Which rows a model may be given together, so that their outputs stay the same.

    Attributes
    ----------
    shared_by : {"all", "equal", "none"}, default="all"
        Rows that may share a batch: all, as padding changes no outputs; those of equal
        length; or none.
    least_width : int, default=1
        Number of tokens, padding included, that the model needs.
    """

    shared_by: str = "all"
    least_width: int = 1

    def split(self, rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Split a batch into batches that follow the rule.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of the rows in the batch.
        lengths : ndarray of shape (n_rows,)
            Their numbers of tokens.

        Returns
        -------
        list of ndarray
            The batches, longest rows first.
        """
        if self.shared_by == "all":
            return [rows]
        if self.shared_by == "none":
            return [rows[i : i + 1] for i in np.argsort(-lengths, kind="stable")]
        return [rows[lengths == n] for n in np.unique(lengths)[::-1]]


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
