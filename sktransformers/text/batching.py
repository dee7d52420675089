"""Which rows go together: batches of like length waste nothing on padding."""

import numpy as np


def training_batches(
    lengths: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    pool: int = 50,
) -> list[np.ndarray]:
    """Cut one epoch into shuffled batches of like length.

    The rows are shuffled, sorted by length inside pools of ``pool`` batches, cut,
    and the batches shuffled: random enough to train on, with hardly any padding.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        Tokens in each row.
    batch_size : int
        Rows in a batch; the last one of a pool may have fewer.
    rng : numpy.random.Generator
        Source of the order.
    pool : int, default=50
        Batches in a pool. More: less padding, and batches that differ more.

    Returns
    -------
    list of ndarray
        The rows of each batch; each row occurs once.
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
    """Cut rows, sorted by length, into batches of about ``token_budget`` tokens.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        Tokens in each row.
    keys : ndarray of shape (n_rows,) or None, default=None
        Order of rows of one length. None: as they come. With keys that tell rows apart,
        a row has the same company in whatever order they come, and so, to the last bit,
        the same result.
    token_budget : int, default=4096
        Tokens in a batch, padding included; a longer row is a batch of its own.

    Returns
    -------
    list of ndarray
        The rows of each batch, longest batches first, so that memory that does not
        suffice is noticed at once.
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
