"""Regression task with one or more targets per text."""

from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import sparse
from sklearn.metrics import r2_score

from .._compat import check_sample_weight
from .base import Task, is_regression_head
from .y_arrays import find_collection, require_present, to_array

if TYPE_CHECKING:
    import torch

# Twice the alpha of ridge regression on embeddings of unit mean square norm. Smaller
# penalties of 0.5 and 4 were less accurate on two datasets with noisy targets.
_RIDGE_PENALTY = 20.0
_RIDGE_PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)  # in decreasing order


class NumberTask(Task):
    """Single- or multi-output regression on standardized targets.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_numbers,)
        Mean and scale for standardizing the targets.
    is_flat : bool
        Whether y and the predictions are one-dimensional.
    """

    kind = "numbers"
    estimator = "TransformerRegressor"
    problem_type = "regression"
    has_units = True

    def __init__(self, mean: np.ndarray, scale: np.ndarray, *, is_flat: bool) -> None:
        if mean.shape != scale.shape or (is_flat and len(mean) != 1):
            raise ValueError("mean, scale and is_flat are inconsistent.")
        if {mean.dtype.kind, scale.dtype.kind} != {"f"}:
            raise ValueError("mean and scale must be floats.")
        self.mean = mean
        self.scale = scale
        self.is_flat = is_flat
        self.classes = np.arange(len(mean))
        self.n_outputs = len(mean)
        # The loss is a mean over columns, so divide to keep the penalty per column.
        self.head_penalty = _RIDGE_PENALTY / self.n_outputs
        self.head_penalties = tuple(p / self.n_outputs for p in _RIDGE_PENALTIES)

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of the targets."""
        return self.mean, self.scale

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Standardize the targets.

        Parameters
        ----------
        y : ndarray of shape (n_texts,) or (n_texts, n_numbers)
            Targets returned by :func:`check_regression_y`.

        Returns
        -------
        ndarray of shape (n_texts, n_numbers), dtype=float32
            Standardized targets.

        Raises
        ------
        ValueError
            If y has a different number of columns.
        """
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must hold {self.n_outputs} numbers for each text, as in the first "
                f"fit. Got an array of shape {y.shape} instead."
            )
        return ((columns - self.mean) / self.scale).astype(np.float32)

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the mean squared error of each row, of shape (n_rows,)."""
        return (outputs - targets.to(outputs.dtype)).square().mean(dim=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predictions in the units and shape of y, as float64."""
        predicted = outputs.astype(np.float64) * self.scale + self.mean
        return predicted.ravel() if self.is_flat else predicted

    def explained_score(self, outputs: "torch.Tensor", target: int) -> "torch.Tensor":
        """Return a number in the units of y."""
        return (
            outputs[:, :, target].mean(dim=1) * self.scale[target] + self.mean[target]
        )

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted R^2, averaged over columns; 0 for a single text."""
        if len(targets) < 2:  # R^2 is undefined
            return 0.0
        return float(r2_score(targets, outputs, sample_weight=weights))

    @classmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Build the task of a regression head, without standardization."""
        if not is_regression_head(config):
            return None
        n = config.num_labels
        return cls(np.zeros(n), np.ones(n), is_flat=n == 1), list(range(n))


def make_number_task(y: np.ndarray, sample_weight: Any) -> NumberTask:
    """Return the task that standardizes y by its weighted mean and deviation.

    Parameters
    ----------
    y : ndarray of shape (n_texts,) or (n_texts, n_numbers)
        Targets returned by :func:`check_regression_y`.
    sample_weight : array-like of shape (n_texts,) or None
        Weight of each text.

    Returns
    -------
    NumberTask
        A constant column is scaled by its absolute value.

    Raises
    ------
    ValueError
        If ``sample_weight`` is invalid.
    """
    weights = check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True
    )
    # Drop rows of zero weight, so that the sums are exactly those without these rows.
    # If all weights are zero, an error is raised later.
    used = weights > 0 if weights.any() else np.isfinite(weights)
    columns, weights = (
        y.reshape(len(y), -1)[used],
        weights[used] if weights.any() else None,
    )
    size = np.abs(columns).max(axis=0)  # avoids overflow of the squares
    size[size == 0] = 1.0
    columns = columns / size
    mean = np.average(columns, axis=0, weights=weights)
    deviation = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
    deviation[np.ptp(columns, axis=0) == 0] = 1.0
    return NumberTask(mean * size, deviation * size, is_flat=y.ndim == 1)


def check_regression_y(y: Any) -> np.ndarray:
    """Validate the targets of a regressor and convert them to an array.

    Parameters
    ----------
    y : array-like of shape (n_texts,) or (n_texts, n_numbers)
        Numeric or boolean values, also of object dtype, dense or sparse.

    Returns
    -------
    ndarray of shape (n_texts,) or (n_texts, n_numbers), dtype=float64
        Validated targets.

    Raises
    ------
    ValueError
        If y is None, or has missing, infinite, complex or non-numeric values.
    """
    if y is None:
        raise ValueError(
            "This regressor requires y to be passed, but the target y is None."
        )
    y = to_array(y.toarray() if sparse.issparse(y) else y)
    row = find_collection(y)
    if row is not None:
        raise ValueError(
            f"y[{row}] is a {type(y[row]).__name__}, {y[row]!r:.80}; y must hold one "
            "number for each text, or as many numbers for each text, as an array of "
            "two dimensions: numpy.stack(y)."
        )
    if y.ndim not in (1, 2) or not y.size:
        raise ValueError(
            "y must hold one number for each text, or one row of numbers. Got "
            f"{'a single str' if y.dtype.kind in 'US' else 'an array'} of shape "
            f"{y.shape} instead."
        )
    if y.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must hold real numbers.")
    require_present(y)
    if y.dtype.kind not in "biuf":
        _require_numbers(y)
    y = y.astype(np.float64)
    require_present(y)  # e.g. Decimal("NaN")
    return y


def _require_numbers(y: np.ndarray) -> None:
    is_time = y.dtype.kind in "mM"  # tolist may return integers
    for position, value in enumerate(y.ravel().tolist()):
        if is_time or not isinstance(value, (Real, Decimal)):
            row = position // (y.size // len(y))
            raise ValueError(
                f"y[{row}] is {value!r}, which is not a number. For labels use "
                "TransformerClassifier."
            )
