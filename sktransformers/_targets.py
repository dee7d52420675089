"""y in, ids out; outputs in, predictions out.

A target knows its labels and its loss, and nothing of texts or models.
"""

from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.special import expit, logsumexp
from sklearn.metrics import r2_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from ._compat import check_sample_weight

if TYPE_CHECKING:
    import torch


# Twice the alpha of ridge regression on embeddings of unit mean square norm. Starts of
# 0.5 and 4 ended less accurate on two data sets: noisy numbers need a lot.
_RIDGE_START = 20.0
_RIDGE_PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)  # strongest first


class LabelTarget:
    """One label for each text.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted, in the dtype of y.

    Attributes
    ----------
    n_outputs : int
        Outputs that a model needs.
    start_penalty : float
        How strongly to regularize the linear model that a head starts from.
    penalties : sequence of float or None
        What to choose from where no training follows. None: the engine's own.
    """

    penalties: tuple[float, ...] | None = None

    def __init__(self, classes: np.ndarray) -> None:
        self.classes = classes
        self.n_outputs = len(classes)
        # 2 for two classes is C=1 in scikit-learn. A start that is too sure of itself
        # leaves nothing to learn, but many classes need weights that tell them apart.
        # Measured, see docs/defaults.md.
        self.start_penalty = min(2.0, max(0.1, 4 / len(classes)))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the position of each label among the classes.

        Parameters
        ----------
        y : ndarray of shape (n_texts,)
            Labels.

        Returns
        -------
        ndarray of shape (n_texts,)
            int64.

        Raises
        ------
        ValueError
            A label is not among the classes; the message names the row.
        """
        if y.ndim != 1:
            raise ValueError(
                f"y must hold one label for each text, of {self.classes.tolist()}. Got "
                f"an array of shape {y.shape} instead."
            )
        lookup = {label: i for i, label in enumerate(self.classes.tolist())}
        codes = [lookup.get(label, -1) for label in y.tolist()]
        if -1 in codes:
            row = codes.index(-1)
            raise ValueError(
                f"y[{row}] is {y.tolist()[row]!r}, which is not among the classes "
                f"{self.classes.tolist()}. Name every class in the first call of "
                "partial_fit, or start anew with fit."
            )
        return np.array(codes, dtype=np.int64)

    def weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight that ``class_weight`` gives each encoded label."""
        if not isinstance(class_weight, dict):
            return compute_sample_weight(class_weight, targets)
        for label, weight in class_weight.items():
            if not (isinstance(weight, Real) and 0 <= float(weight) < np.inf):
                raise ValueError(
                    f"class_weight[{label!r}] must be a finite number of at least 0. "
                    f"Got {weight!r} instead."
                )
        # Not of y's labels: a part of the texts may lack a label that has a weight.
        by_class = compute_class_weight(
            class_weight, classes=self.classes, y=self.classes[targets]
        )
        return by_class[targets]

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the cross-entropy of each row."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return class probabilities, of shape (n_rows, n_classes), as float64."""
        # SciPy's softmax does the same, but takes ten times as long for one text.
        outputs = outputs.astype(np.float64)
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        """Return outputs that have the given probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(probabilities)

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return log-probabilities; of two classes, the log-odds of the second."""
        outputs = outputs.astype(np.float64)
        if self.n_outputs == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs - logsumexp(outputs, axis=1, keepdims=True)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the label with the greatest output for each row."""
        return self.classes[outputs.argmax(axis=1)]

    def counts(self, y: np.ndarray) -> np.ndarray:
        """Return the number of targets of each text: one."""
        return np.ones(len(y), dtype=np.int64)

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted accuracy."""
        return float(np.average(outputs.argmax(axis=1) == targets, weights=weights))


class MultilabelTarget:
    """Any number of labels for each text: an indicator matrix.

    Parameters
    ----------
    n_labels : int
        Columns of the matrix.
    """

    penalties: tuple[float, ...] | None = None

    def __init__(self, n_labels: int) -> None:
        self.classes = np.arange(n_labels)
        self.n_outputs = n_labels
        self.start_penalty = 1.0

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the indicators, of shape (n_texts, n_labels), as float32."""
        if y.ndim != 2 or y.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must have {self.n_outputs} columns, a label each. Got an array of "
                f"shape {y.shape} instead."
            )
        return y.astype(np.float32)

    def weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight that ``class_weight`` gives each text."""
        if isinstance(class_weight, dict):
            raise ValueError(
                "class_weight must be 'balanced' or None where y is an indicator "
                "matrix. Got a dict instead; weigh the texts with sample_weight."
            )
        if class_weight is None:
            return np.ones(len(targets))
        return compute_sample_weight(class_weight, targets)

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the sum of each row's binary cross-entropies."""
        from torch.nn import functional

        losses = functional.binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), reduction="none"
        )
        return losses.sum(dim=1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return label probabilities, of shape (n_rows, n_labels), as float64."""
        return expit(outputs.astype(np.float64))

    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        """Return outputs that have the given probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(probabilities) - np.log1p(-probabilities)

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return the log-odds of each label."""
        return outputs.astype(np.float64)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the indicators of the labels that are more likely than not."""
        return (outputs > 0).astype(np.int64)

    def counts(self, y: np.ndarray) -> np.ndarray:
        """Return the number of targets of each text: one row."""
        return np.ones(len(y), dtype=np.int64)

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted share of texts whose labels are all predicted right."""
        is_right = ((outputs > 0) == (targets > 0.5)).all(axis=1)
        return float(np.average(is_right, weights=weights))


class FloatTarget:
    """Numbers for each text, one or several: learned standardized, told in their units.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_numbers,)
        What is subtracted from the numbers, and what they are then divided by.
    is_flat : bool
        Whether predictions have one dimension, as y had.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, *, is_flat: bool) -> None:
        self.mean = mean
        self.scale = scale
        self.is_flat = is_flat
        self.classes = np.arange(len(mean))
        self.n_outputs = len(mean)
        # Of the mean over the columns: each gets the same, whatever their number.
        self.start_penalty = _RIDGE_START / self.n_outputs
        self.penalties = tuple(p / self.n_outputs for p in _RIDGE_PENALTIES)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the standardized numbers, of shape (n_texts, n_numbers), as float32.

        Parameters
        ----------
        y : ndarray of shape (n_texts,) or (n_texts, n_numbers)
            As :func:`check_regression_y` returns it.

        Returns
        -------
        ndarray of shape (n_texts, n_numbers)
            float32.

        Raises
        ------
        ValueError
            y has another number of columns.
        """
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must hold {self.n_outputs} numbers for each text, as in the first "
                f"fit. Got an array of shape {y.shape} instead."
            )
        return ((columns - self.mean) / self.scale).astype(np.float32)

    def weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight of each text: 1, for there are no classes."""
        return np.ones(len(targets))

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the mean of each row's squared errors."""
        return (outputs - targets.to(outputs.dtype)).square().mean(dim=1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return what is averaged over a text's windows: their outputs, as float64."""
        return outputs.astype(np.float64)

    def outputs_of(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the outputs of pooled windows: as they are."""
        return probabilities

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the outputs in the units of y, in its shape, as float64."""
        predicted = outputs.astype(np.float64) * self.scale + self.mean
        return predicted.ravel() if self.is_flat else predicted

    def counts(self, y: np.ndarray) -> np.ndarray:
        """Return the number of targets of each text: one row."""
        return np.ones(len(y), dtype=np.int64)

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted R^2, averaged over the columns; of one text 0."""
        if len(targets) < 2:  # nothing varies
            return 0.0
        return float(r2_score(targets, outputs, sample_weight=weights))


class TextTarget:
    """A text for each text: what a model is to write.

    The tokens are targets of their own, and made where the tokenizer is known.

    Parameters
    ----------
    is_source : bool, default=False
        Whether the texts are learned for themselves, rather than written from others.
    """

    def __init__(self, is_source: bool = False) -> None:
        self.is_source = is_source

    classes = np.array([])
    n_outputs = 0
    start_penalty = 1.0

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the texts as they are."""
        return y

    def counts(self, y: np.ndarray) -> np.ndarray:
        """Return the number of targets of each text: one."""
        return np.ones(len(y), dtype=np.int64)

    def weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight of each text: 1."""
        return np.ones(len(targets))

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the cross-entropy of each token."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")


Target = LabelTarget | MultilabelTarget | FloatTarget


def classification_target(y: np.ndarray) -> Target:
    """Return the target that fits checked labels or indicators."""
    if y.ndim == 2:
        return MultilabelTarget(y.shape[1])
    return LabelTarget(np.unique(y))


def first_target(y: Any, classes: Any) -> Target:
    """Return the target of a first call of ``partial_fit``.

    Parameters
    ----------
    y : array-like
        Labels or indicators of a part of the texts, not yet checked.
    classes : array-like of shape (n_classes,) or None
        All labels that will ever occur; not needed for indicators.

    Returns
    -------
    LabelTarget or MultilabelTarget
        With all the classes.

    Raises
    ------
    ValueError
        y holds labels, and classes is None.
    """
    labels = check_classification_y(y)
    if labels.ndim == 1:
        if classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: all labels "
                "that will ever occur, e.g. classes=numpy.unique(all_labels)."
            )
        labels = check_classification_y(classes)
    return classification_target(labels)


def check_classification_y(y: Any) -> np.ndarray:
    """Check the labels of a classifier and return them as an array.

    Parameters
    ----------
    y : array-like of shape (n_texts,) or indicator of shape (n_texts, n_labels)
        str, int, bool, categorical or object labels; indicators dense or sparse.

    Returns
    -------
    ndarray
        Of one dimension for labels, two for indicators.

    Raises
    ------
    ValueError
        y is missing, has missing values, is continuous or of another kind.
    """
    if y is None:
        raise ValueError(
            "This classifier requires y to be passed, but the target y is None."
        )
    if sparse.issparse(y):
        y = y.toarray()
    if isinstance(y, (str, bytes)):
        raise ValueError("y is a single str; it must hold a label for each text.")
    y = _to_array(y)
    if y.ndim != 2 or y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    _require_present(y)
    if y.ndim == 1 and y.dtype == object:
        _require_one_type(y)
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind not in ("binary", "multiclass", "multilabel-indicator"):
        raise ValueError(
            f"Unknown label type: {kind}. y must hold a discrete label for each text, "
            "or be a multilabel indicator matrix of 0 and 1."
        )
    if y.ndim == 2 and not np.isin(y, (0, 1)).all():
        raise ValueError(
            "y has two dimensions but is no multilabel indicator matrix: it must hold "
            f"nothing but 0 and 1. Got {np.unique(y)[:5].tolist()} instead."
        )
    return y


def float_target(y: np.ndarray, sample_weight: Any) -> FloatTarget:
    """Return the target that standardizes checked numbers by their weighted moments.

    Parameters
    ----------
    y : ndarray of shape (n_texts,) or (n_texts, n_numbers)
        As :func:`check_regression_y` returns it.
    sample_weight : array-like of shape (n_texts,) or None
        The weight of each text.

    Returns
    -------
    FloatTarget
        Where all numbers of a column are the same, it is scaled by their size.

    Raises
    ------
    ValueError
        The weights are no weights.
    """
    weights = check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True
    )
    # That all are zero is told later. Without rows of weight zero the sums are exactly
    # those of a y that never had them.
    used = weights > 0 if weights.any() else np.isfinite(weights)
    columns, weights = (
        y.reshape(len(y), -1)[used],
        weights[used] if weights.any() else None,
    )
    size = np.abs(columns).max(axis=0)  # lest squares overflow
    size[size == 0] = 1.0
    columns = columns / size
    mean = np.average(columns, axis=0, weights=weights)
    deviation = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
    deviation[np.ptp(columns, axis=0) == 0] = 1.0
    return FloatTarget(mean * size, deviation * size, is_flat=y.ndim == 1)


def check_regression_y(y: Any) -> np.ndarray:
    """Check the numbers of a regressor and return them as an array.

    Parameters
    ----------
    y : array-like of shape (n_texts,) or (n_texts, n_numbers)
        Floats, integers or booleans, also as objects; sparse too.

    Returns
    -------
    ndarray of shape (n_texts,) or (n_texts, n_numbers)
        float64.

    Raises
    ------
    ValueError
        y is missing, has missing or infinite values, or others than real numbers.
    """
    if y is None:
        raise ValueError(
            "This regressor requires y to be passed, but the target y is None."
        )
    y = _to_array(y.toarray() if sparse.issparse(y) else y)
    if y.ndim not in (1, 2) or not y.size:
        raise ValueError(
            "y must hold one number for each text, or one row of numbers. Got "
            f"{'a single str' if y.dtype.kind in 'US' else 'an array'} of shape "
            f"{y.shape} instead."
        )
    if y.dtype.kind == "c":
        raise ValueError("Complex data not supported: y must hold real numbers.")
    _require_present(y)
    if y.dtype.kind not in "biuf":
        _require_numbers(y)
    y = y.astype(np.float64)
    _require_present(y)  # of decimals, say
    return y


def _require_numbers(y: np.ndarray) -> None:
    is_time = y.dtype.kind in "mM"  # which numpy takes for integers
    for position, value in enumerate(y.ravel().tolist()):
        if is_time or not isinstance(value, (Real, Decimal)):
            row = position // (y.size // len(y))
            raise ValueError(
                f"y[{row}] is {value!r}, which is no number. A regressor learns "
                "numbers; for labels use TransformerClassifier."
            )


def _to_array(y: Any) -> np.ndarray:
    """Like ``np.asarray``, but Series of extension dtypes keep plain labels."""
    dtype = getattr(y, "dtype", None)
    if hasattr(y, "to_list") and not isinstance(dtype, np.dtype):
        # Categorical, string, Int64, polars ...; polars has no tolist.
        values = y.tolist() if hasattr(y, "tolist") else y.to_list()
        return _compact(np.array(values, dtype=object))
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        return _compact(np.array(y, dtype=object))  # numpy would turn 1 into "1"
    y = np.asarray(y)
    if y.ndim == 2 and y.dtype == object:  # of a frame of nullable integers, say
        return np.array(y.tolist())
    is_labels = y.dtype == object and y.ndim == 1 and len(y)
    return _compact(y) if is_labels and not isinstance(y[0], str) else y


def _compact(values: np.ndarray) -> np.ndarray:
    """Give an object array of one plain type that type's own dtype."""
    kinds = set(map(type, values))
    plain = len(kinds) == 1 and kinds <= {str, np.str_, int, bool, float}
    return np.array(values.tolist()) if plain else values


def _require_present(y: np.ndarray) -> None:
    if y.dtype.kind not in "fOMm":  # no other kind has such values
        return
    if y.dtype.kind == "f" and np.isfinite(y).all():
        return
    for position, label in enumerate(y.ravel().tolist()):
        missing = label is None or type(label).__name__ in ("NAType", "NaTType")
        if missing or (isinstance(label, float) and not np.isfinite(label)):
            row = position // max(1, y.size // len(y))
            raise ValueError(
                f"Input y contains NaN or None or infinity: y[{row}] is {label!r}. "
                "Drop the rows without a label."
            )


def _require_one_type(y: np.ndarray) -> None:
    strings = [isinstance(label, str) for label in y.tolist()]
    if any(strings) and not all(strings):
        row = strings.index(not strings[0])
        raise ValueError(
            "y mixes str labels with others, so they cannot be sorted: y[0] is "
            f"{y[0]!r} and y[{row}] is {y[row]!r}. Use one type throughout."
        )
