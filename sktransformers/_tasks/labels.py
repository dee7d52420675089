"""Classification task, and validation of the labels of classifiers."""

import re
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import sparse
from scipy.special import logsumexp
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from .base import Task, is_regression_head, names_of_outputs, sort_names
from .multilabel import MultilabelTask
from .y_arrays import find_collection, require_present, to_array

if TYPE_CHECKING:
    import torch

_SEVERAL_LABELS = (
    "If texts have several labels, pass MultiLabelBinarizer().fit_transform(y), of "
    "sklearn.preprocessing."
)
_UNNAMED = re.compile(r"LABEL_\d+")


class LabelTask(Task):
    """Binary or multiclass classification: one label per text.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted labels, in the dtype of y.
    """

    kind = "labels"
    estimator = "TransformerClassifier"
    problem_type: str | None = "single_label_classification"

    def __init__(self, classes: np.ndarray) -> None:
        if len(set(classes.tolist())) < max(1, len(classes)):
            raise ValueError("classes must be unique and not empty.")
        self.classes = classes
        self.n_outputs = len(classes)
        if self.n_outputs == 1:  # transformers rejects it for one output
            self.problem_type = None
        # A penalty of 2 for two classes is C=1 in scikit-learn. An overconfident
        # initialization leaves vanishing gradients, but many classes need larger
        # weights. Chosen empirically, see docs/defaults.md.
        self.head_penalty = min(2.0, max(0.1, 4 / len(classes)))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Encode labels as indices into ``classes``.

        Parameters
        ----------
        y : ndarray of shape (n_texts,)
            Validated labels.

        Returns
        -------
        ndarray of shape (n_texts,), dtype=int64
            Index of the class of each text.

        Raises
        ------
        ValueError
            If a label is not in ``classes``; the message gives the row.
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
                f"{self.classes.tolist()}. Pass all classes in the first call to "
                "partial_fit, or refit with fit."
            )
        return np.array(codes, dtype=np.int64)

    def weigh_classes(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the class weight of each encoded label."""
        if not isinstance(class_weight, dict):
            return compute_sample_weight(class_weight, targets)
        for label, weight in class_weight.items():
            if not (isinstance(weight, Real) and 0 <= float(weight) < np.inf):
                raise ValueError(
                    f"class_weight[{label!r}] must be a finite number of at least 0. "
                    f"Got {weight!r} instead."
                )
        # With the classes of the task, as y may lack a class of class_weight.
        by_class = compute_class_weight(
            class_weight, classes=self.classes, y=self.classes[targets]
        )
        return by_class[targets]

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the cross-entropy of each row, of shape (n_rows,)."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def explained_score(self, outputs: "torch.Tensor", target: int) -> "torch.Tensor":
        """Return the log-odds of a class."""
        logs = outputs.log_softmax(dim=-1).logsumexp(dim=1)
        others = [i for i in range(self.n_outputs) if i != target]
        return logs[:, target] - logs[:, others].logsumexp(dim=1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return class probabilities, of shape (n_rows, n_classes), as float64."""
        # scipy.special.softmax takes ten times as long for a single text.
        outputs = outputs.astype(np.float64)
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _to_mean(self, outputs: np.ndarray) -> np.ndarray:
        return self.probabilities(outputs)

    def _from_mean(self, probabilities: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(probabilities)

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return log-probabilities, or for two classes the log-odds of the second."""
        outputs = outputs.astype(np.float64)
        if self.n_outputs == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs - logsumexp(outputs, axis=1, keepdims=True)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the label with the largest output in each row."""
        return self.classes[outputs.argmax(axis=1)]

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted accuracy."""
        return float(np.average(outputs.argmax(axis=1) == targets, weights=weights))

    @classmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Build the task of a classification head; default names become integers."""
        if is_regression_head(config):
            return None
        if config.problem_type == MultilabelTask.problem_type:
            return None
        names: list[Any] = names_of_outputs(config)
        if all(_UNNAMED.fullmatch(name) for name in names):
            names = [int(name.removeprefix("LABEL_")) for name in names]
        classes, order = sort_names(names)
        return cls(classes), order


def make_classification_task(y: np.ndarray) -> LabelTask | MultilabelTask:
    """Return the task for validated labels or a multilabel indicator matrix."""
    if y.ndim == 2:
        return MultilabelTask(y.shape[1])
    return LabelTask(np.unique(y))


def make_first_task(y: Any, classes: Any) -> LabelTask | MultilabelTask:
    """Return the task for the first call to ``partial_fit``.

    Parameters
    ----------
    y : array-like
        Labels or multilabel indicators of the first batch, not yet validated.
    classes : array-like of shape (n_classes,) or None
        All labels of all calls; not required for indicators.

    Returns
    -------
    LabelTask or MultilabelTask
        Task with all classes.

    Raises
    ------
    ValueError
        If y contains labels and classes is None.
    """
    labels = check_classification_y(y)
    if labels.ndim == 1:
        if classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: the "
                "labels of all calls, e.g. classes=numpy.unique(all_labels)."
            )
        labels = check_classification_y(classes)
    return make_classification_task(labels)


def check_classification_y(y: Any) -> np.ndarray:
    """Validate the labels of a classifier and convert them to an array.

    Parameters
    ----------
    y : array-like of shape (n_texts,) or indicator of shape (n_texts, n_labels)
        Labels of str, int, bool, categorical or object dtype, or a dense or sparse
        multilabel indicator matrix.

    Returns
    -------
    ndarray
        One-dimensional for labels, two-dimensional for indicators.

    Raises
    ------
    ValueError
        If y is None, has missing values, or is continuous or of an unknown type.
    """
    if y is None:
        raise ValueError(
            "This classifier requires y to be passed, but the target y is None."
        )
    if sparse.issparse(y):
        y = y.toarray()
    if isinstance(y, (str, bytes)):
        raise ValueError("y is a single str; it must hold a label for each text.")
    y = to_array(y)
    row = find_collection(y)
    if row is not None:
        raise ValueError(
            f"y[{row}] is a {type(y[row]).__name__}, {y[row]!r:.80}; y must hold one "
            f"label for each text. {_SEVERAL_LABELS}"
        )
    if y.ndim != 2 or y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    require_present(y)
    if y.ndim == 1 and y.dtype == object:
        _require_one_type(y)
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind not in ("binary", "multiclass", "multilabel-indicator"):
        raise ValueError(
            f"Unknown label type: {kind}. y must hold a discrete label for each text, "
            f"or be a multilabel indicator matrix of 0 and 1. {_SEVERAL_LABELS}"
        )
    if y.ndim == 2 and not np.isin(y, (0, 1)).all():
        raise ValueError(
            "y has two dimensions but is not a multilabel indicator matrix: it must "
            f"hold nothing but 0 and 1. Got {np.unique(y)[:5].tolist()} instead. "
            f"{_SEVERAL_LABELS}"
        )
    return y


def _require_one_type(y: np.ndarray) -> None:
    strings = [isinstance(label, str) for label in y.tolist()]
    if any(strings) and not all(strings):
        row = strings.index(not strings[0])
        raise ValueError(
            "y mixes str labels with other types, which cannot be sorted: y[0] is "
            f"{y[0]!r} and y[{row}] is {y[row]!r}. Use one type throughout."
        )
