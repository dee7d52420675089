"""What a fit learns from, and the part of it that is held out."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from ._compat import check_sample_weight, safe_indexing
from .text.encoding import Encoding


@dataclass(frozen=True)
class Data:
    """Encoded texts, their encoded targets and weights.

    Attributes
    ----------
    encoding : Encoding
        A row for each window.
    targets : ndarray of shape (n_targets, ...)
        As the target encodes them: one for each text; or where the encoding says what
        is read off a window, one for each output.
    weights : ndarray of shape (n_targets,)
        Weight of each target in the loss.
    """

    encoding: Encoding
    targets: np.ndarray
    weights: np.ndarray

    def take(self, texts: np.ndarray) -> "Data":
        """Return the texts at the given ascending positions."""
        kept = texts
        if self.encoding.positions is not None:
            windows = np.flatnonzero(np.isin(self.encoding.owners, texts))
            kept = self.encoding.outputs_of(windows)
        return Data(self.encoding.take(texts), self.targets[kept], self.weights[kept])

    @functools.cached_property
    def target_of_output(self) -> np.ndarray:
        """Position of each output's target: windows of a text share the text's."""
        if self.encoding.positions is None:
            return self.encoding.owners
        return np.arange(self.encoding.n_outputs)

    @functools.cached_property
    def output_weights(self) -> np.ndarray:
        """Weights of the outputs: those of one target share its weight."""
        owners = self.target_of_output
        return self.weights[owners] / np.bincount(owners)[owners]

    @functools.cached_property
    def step_weights(self) -> np.ndarray:
        """The same with mean 1: their size must not scale the gradients."""
        return self.output_weights / self.output_weights.mean()

    @functools.cached_property
    def n_targets(self) -> np.ndarray:
        """Number of targets of each text, of shape (n_texts,)."""
        if self.encoding.positions is None:
            return np.ones(self.encoding.n_texts, dtype=np.int64)
        counts = np.bincount(
            self.encoding.owners,
            weights=self.encoding.output_counts,
            minlength=self.encoding.n_texts,
        )
        return counts.astype(np.int64)


def make_rng(random_state: Any) -> np.random.Generator:
    """Return a generator of our own: drawing from it changes no global state."""
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def weigh(
    y: np.ndarray, target: Any, sample_weight: Any, class_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encode and weigh what is to be learned; leave out what has no weight.

    Parameters
    ----------
    y : ndarray of shape (n_texts, ...)
        Checked labels.
    target : Target
        What they are.
    sample_weight : array-like of shape (n_texts,) or None
        The weight of each text.
    class_weight : dict, "balanced" or None
        The weights of the classes.

    Returns
    -------
    texts : ndarray of shape (n_kept,)
        Positions of the texts of which some target has a weight.
    targets, weights : ndarray of shape (n_targets, ...)
        Encoded targets of these texts, and their weights.

    Raises
    ------
    ValueError
        The weights are no weights, or all of them are zero.
    """
    targets = target.encode(y)
    by_text = check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True, copy=True
    )
    owners = np.repeat(np.arange(len(y)), target.counts(y))
    weights = by_text[owners]
    used = np.flatnonzero(weights)
    if len(used):
        weights[used] *= target.weights(targets[used], class_weight)
    if not weights.any():
        raise ValueError(
            "Sample weights are all zero, so no text is left to learn from. At least "
            "one must be positive, and its class_weight too."
        )
    totals = np.bincount(owners, weights, minlength=len(y))
    kept = totals[owners] > 0
    return np.flatnonzero(totals), targets[kept], weights[kept]


def split(
    data: Data, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the texts to train on and those to hold out.

    Parameters
    ----------
    data : Data
        Where each text has one integer as its target, equal shares of each integer
        are held out.
    fraction : float
        Share of the texts to hold out.
    rng : numpy.random.Generator
        Source of the choice.

    Returns
    -------
    train, valid : ndarray
        Positions, ascending.

    Raises
    ------
    ValueError
        There are too few texts to hold any out.
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
    """Return what callbacks are told a model is trained on.

    Parameters
    ----------
    X, y, sample_weight : array-like
        As passed to ``fit``.
    rows : ndarray or None
        Positions of the texts that are not held out. None: all.

    Returns
    -------
    dict
        "X", "y" and "metadata", in the containers that were passed.
    """

    def take(values: Any) -> Any:
        if rows is None or values is None:
            return values
        return safe_indexing(values, rows)

    # As scikit-learn does: a scorer without weights must not be handed None.
    metadata = None if sample_weight is None else {"sample_weight": take(sample_weight)}
    return {"X": take(X), "y": take(y), "metadata": metadata}
