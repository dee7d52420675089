"""Encoded training data, sample weights and the validation split."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from .._compat import check_sample_weight, safe_indexing
from .encoding import Encoding


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with their encoded targets and weights.

    Attributes
    ----------
    encoding : Encoding
        Encoded texts, one row per window.
    targets : ndarray of shape (n_targets, ...)
        Targets as encoded by the task: one per text, or one per output if the encoding
        has ``positions``.
    weights : ndarray of shape (n_targets,)
        Weight of each target in the loss.
    """

    encoding: Encoding
    targets: np.ndarray
    weights: np.ndarray

    def take(self, texts: np.ndarray) -> "EncodedDataset":
        """Return the subset of texts at the given ascending indices."""
        kept = texts
        if self.encoding.positions is not None:
            windows = np.flatnonzero(np.isin(self.encoding.sample_index, texts))
            kept = self.encoding.outputs_of(windows)
        return EncodedDataset(
            self.encoding.take(texts), self.targets[kept], self.weights[kept]
        )

    @functools.cached_property
    def target_of_output(self) -> np.ndarray:
        """Target index of each output; windows of one text share its target."""
        if self.encoding.positions is None:
            return self.encoding.sample_index
        return np.arange(self.encoding.n_outputs)

    @functools.cached_property
    def output_weights(self) -> np.ndarray:
        """Weight of each output; outputs of one target share its weight equally."""
        sample_index = self.target_of_output
        return self.weights[sample_index] / np.bincount(sample_index)[sample_index]

    @functools.cached_property
    def step_weights(self) -> np.ndarray:
        """Output weights with mean 1, so that they do not rescale the gradients."""
        return self.output_weights / self.output_weights.mean()

    @functools.cached_property
    def n_targets(self) -> np.ndarray:
        """Number of targets of each text, of shape (n_texts,)."""
        if self.encoding.positions is None:
            return np.ones(self.encoding.n_texts, dtype=np.int64)
        counts = np.bincount(
            self.encoding.sample_index,
            weights=self.encoding.output_counts,
            minlength=self.encoding.n_texts,
        )
        return counts.astype(np.int64)


def make_rng(random_state: Any) -> np.random.Generator:
    """Return a new generator, independent of NumPy's global random state."""
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def weigh(
    y: np.ndarray, task: Any, sample_weight: Any, class_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encode and weight the targets, dropping texts of zero weight.

    Parameters
    ----------
    y : ndarray of shape (n_texts, ...)
        Validated targets.
    task : Task
        Task that encodes the targets.
    sample_weight : array-like of shape (n_texts,) or None
        Weight of each text.
    class_weight : dict, "balanced" or None
        Weights of the classes.

    Returns
    -------
    texts : ndarray of shape (n_kept,)
        Indices of the texts with at least one target of nonzero weight.
    targets, weights : ndarray of shape (n_targets, ...)
        Encoded targets of these texts and their weights.

    Raises
    ------
    ValueError
        If ``sample_weight`` is invalid, or all weights are zero.
    """
    targets = task.encode(y)
    by_text = check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True, copy=True
    )
    sample_index = np.repeat(np.arange(len(y)), task.count_targets(y))
    weights = by_text[sample_index]
    used = np.flatnonzero(weights)
    if len(used):
        weights[used] *= task.weigh_classes(targets[used], class_weight)
    if not weights.any():
        raise ValueError(
            "Sample weights are all zero, so no text is left to train on. At least one "
            "text must have a positive sample_weight and class_weight."
        )
    totals = np.bincount(sample_index, weights, minlength=len(y))
    kept = totals[sample_index] > 0
    return np.flatnonzero(totals), targets[kept], weights[kept]


def split(
    data: EncodedDataset, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split the texts into a training and a validation set.

    Parameters
    ----------
    data : EncodedDataset
        Training data. The split is stratified if each text has one integer target and
        every class has enough texts.
    fraction : float
        Fraction of the texts in the validation set.
    rng : numpy.random.Generator
        Random number generator for the split.

    Returns
    -------
    train, valid : ndarray
        Indices of the texts, in ascending order.

    Raises
    ------
    ValueError
        If no text would be left to train on.
    """
    targets = data.targets
    rows = np.arange(data.encoding.n_texts)
    n_valid = math.ceil(fraction * len(rows))
    stratify = None
    is_label = data.encoding.positions is None and targets.ndim == 1
    if is_label and np.issubdtype(targets.dtype, np.integer):
        counts = np.bincount(targets)
        counts = counts[counts > 0]
        if counts.min() >= 2 and len(counts) <= min(n_valid, len(rows) - n_valid):
            stratify = targets
    if len(rows) - n_valid < 1:
        raise ValueError(
            f"early_stopping=True holds out {n_valid} of {len(rows)} texts, which "
            "leaves none to train on. Lower validation_fraction or pass more texts."
        )
    train, valid = train_test_split(
        rows,
        test_size=n_valid,
        stratify=stratify,
        random_state=int(rng.integers(2**31)),
    )
    return np.sort(train), np.sort(valid)


def seen_by_callbacks(
    X: Any, y: Any, sample_weight: Any, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the training data to pass to callbacks.

    Parameters
    ----------
    X, y, sample_weight : array-like
        As passed to ``fit``.
    rows : ndarray or None
        Indices of the training texts. None selects all texts.

    Returns
    -------
    dict
        Keys "X", "y" and "metadata"; the values keep their container types.
    """

    def take(values: Any) -> Any:
        if rows is None or values is None:
            return values
        return safe_indexing(values, rows)

    # As in scikit-learn, scorers do not receive sample_weight=None.
    metadata = None if sample_weight is None else {"sample_weight": take(sample_weight)}
    return {"X": take(X), "y": take(y), "metadata": metadata}
