"""Multilabel classification task."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import expit
from sklearn.utils.class_weight import compute_sample_weight

from .base import Task

if TYPE_CHECKING:
    import torch


class MultilabelTask(Task):
    """Multilabel classification with an indicator matrix as targets.

    Parameters
    ----------
    n_labels : int
        Number of labels, the columns of the matrix.
    """

    kind = "indicators"
    estimator = "TransformerClassifier"
    problem_type = "multi_label_classification"

    def __init__(self, n_labels: int) -> None:
        if not 0 < n_labels < 2**24:
            raise ValueError(f"n_labels={n_labels} is out of range.")
        self.n_labels = self.n_outputs = n_labels
        self.classes = np.arange(n_labels)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the indicator matrix, of shape (n_texts, n_labels), as float32."""
        if y.ndim != 2 or y.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must have {self.n_outputs} columns, one per label. Got an array of "
                f"shape {y.shape} instead."
            )
        return y.astype(np.float32)

    def weigh_classes(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the class weight of each text."""
        if isinstance(class_weight, dict):
            raise ValueError(
                "class_weight must be 'balanced' or None if y is an indicator matrix. "
                "Got a dict instead; use sample_weight to weight the texts."
            )
        if class_weight is None:
            return np.ones(len(targets))
        return compute_sample_weight(class_weight, targets)

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the binary cross-entropy of each row, summed over the labels."""
        from torch.nn import functional

        losses = functional.binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), reduction="none"
        )
        return losses.sum(dim=1)

    def explained_score(self, outputs: "torch.Tensor", target: int) -> "torch.Tensor":
        """Return the log-odds of a label."""
        from torch.nn.functional import logsigmoid

        output = outputs[:, :, target]
        return logsigmoid(output).logsumexp(dim=1) - logsigmoid(-output).logsumexp(
            dim=1
        )

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return label probabilities, of shape (n_rows, n_labels), as float64."""
        return expit(outputs.astype(np.float64))

    def _to_mean(self, outputs: np.ndarray) -> np.ndarray:
        return self.probabilities(outputs)

    def _from_mean(self, probabilities: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(probabilities) - np.log1p(-probabilities)

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return the log-odds of each label."""
        return outputs.astype(np.float64)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the indicator matrix of the labels with a probability above 0.5."""
        return (outputs > 0).astype(np.int64)

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the weighted subset accuracy."""
        is_right = ((outputs > 0) == (targets > 0.5)).all(axis=1)
        return float(np.average(is_right, weights=weights))

    @classmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Build the task of a multilabel classification head."""
        if config.problem_type != cls.problem_type:
            return None
        return cls(config.num_labels), list(range(config.num_labels))
