"""What a fit learns from, and the part of it that is held out."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from .text.encoding import Encoding


@dataclass(frozen=True)
class Data:
    """Encoded texts, their encoded targets and weights.

    Attributes
    ----------
    encoding : Encoding
        A row for each window.
    targets : ndarray of shape (n_texts, ...)
        As the target encodes them.
    weights : ndarray of shape (n_texts,)
        Weight of each text in the loss.
    """

    encoding: Encoding
    targets: np.ndarray
    weights: np.ndarray

    def take(self, texts: np.ndarray) -> "Data":
        """Return the texts at the given ascending positions."""
        return Data(self.encoding.take(texts), self.targets[texts], self.weights[texts])

    @functools.cached_property
    def window_weights(self) -> np.ndarray:
        """Weights of the windows: those of a text share its weight."""
        owners = self.encoding.owners
        return self.weights[owners] / np.bincount(owners)[owners]

    @functools.cached_property
    def step_weights(self) -> np.ndarray:
        """The same with mean 1: their size must not scale the gradients."""
        return self.window_weights / self.window_weights.mean()


def split(
    targets: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows to train on and those to hold out.

    Parameters
    ----------
    targets : ndarray of shape (n_texts, ...)
        Integers of one dimension are held out in equal shares of each.
    fraction : float
        Share of the rows to hold out.
    rng : numpy.random.Generator
        Source of the choice.

    Returns
    -------
    train, valid : ndarray
        Positions, ascending.

    Raises
    ------
    ValueError
        There are too few rows to hold any out.
    """
    rows = np.arange(len(targets))
    n_valid = math.ceil(fraction * len(rows))
    stratify = None
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
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
