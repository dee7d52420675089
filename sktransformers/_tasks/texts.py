"""Text generation task."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .base import Task

if TYPE_CHECKING:
    import torch


class TextTask(Task):
    """Text generation with texts as targets.

    The targets of the loss are token ids, which the estimator encodes once the
    tokenizer is loaded: see :class:`~sktransformers._text.prompt_format.PromptFormat`.

    Parameters
    ----------
    is_source : bool, default=False
        Whether the model is trained by language modelling on X, without targets.
    """

    kind = "texts"
    estimator = "TransformerGenerator"
    head = None
    pipeline_tag = "text-generation"

    def __init__(self, is_source: bool = False) -> None:
        self.is_source = is_source

    def label_names(self) -> list[str]:
        """Return an empty list, as the outputs are the tokens of the vocabulary."""
        return []

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the texts unchanged."""
        return y

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the cross-entropy of each token, of shape (n_targets,)."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the negative weighted mean loss of the tokens.

        Parameters
        ----------
        outputs : ndarray of shape (n_targets,)
            Loss of each token, as the logits over the vocabulary would be too large.
        targets, weights, counts : ndarray
            As in :meth:`Task.score`.

        Returns
        -------
        float
            Score; at most 0.
        """
        return -float(np.average(outputs, weights=weights))

    @classmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Return None, as a language model has no task-specific head."""
        return None
