"""Base class of the prediction tasks.

To add a task, subclass :class:`Task` in a new file and list the subclass in
:data:`sktransformers._tasks.TASKS`. All differences between classification, regression,
tagging and generation are implemented in these classes; other code does not check their
names or types.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    import torch


class Task(ABC):
    """A prediction task, determined from y.

    What is saved of it are the parameters of its constructor, which have to be
    annotated, and attributes of the same names. The constructor raises ValueError if
    they are inconsistent.

    Attributes
    ----------
    kind : str
        Identifier of the task in saved files.
    estimator : str
        Class name of the estimator for this task.
    head : str or None
        Suffix of the transformers model classes for this task, such as
        "SequenceClassification" in ``AutoModelForSequenceClassification``. None: the
        task requires a language model.
    pipeline_tag : str
        Pipeline tag on the Hugging Face Hub.
    problem_type : str or None
        Value of ``config.problem_type`` in transformers.
    predicts_words : bool
        Whether there is one output per word rather than one per text.
    has_units : bool
        Whether the targets are standardized, so that a trained head, whose outputs are
        in the units of y, has to be rescaled.
    classes : ndarray of shape (n_classes,)
        Labels of the outputs.
    n_outputs : int
        Number of outputs of the head.
    head_penalty : float
        L2 penalty of the linear model that initializes a new head.
    head_penalties : sequence of float or None
        L2 penalties to select from by cross-validation if the head is not trained
        further. None: the default of :func:`~sktransformers._training.head_init`.
    """

    kind: ClassVar[str]
    estimator: ClassVar[str]
    head: ClassVar[str | None] = "SequenceClassification"
    pipeline_tag: ClassVar[str] = "text-classification"
    problem_type: str | None = None
    predicts_words: ClassVar[bool] = False
    has_units: ClassVar[bool] = False

    classes: np.ndarray
    n_outputs: int
    head_penalty: float = 1.0
    head_penalties: Sequence[float] | None = None

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and scale that map outputs to the units of y, or None."""
        return None

    @abstractmethod
    def encode(self, y: np.ndarray) -> np.ndarray:
        """Encode y as targets of the loss.

        Parameters
        ----------
        y : ndarray of shape (n_texts, ...)
            Validated targets.

        Returns
        -------
        ndarray of shape (n_targets, ...)
            Targets for :meth:`loss`.

        Raises
        ------
        ValueError
            If y is invalid for the task, e.g. contains a label that is not in
            ``classes``.
        """

    def count_targets(self, y: np.ndarray) -> np.ndarray:
        """Return the number of targets of each text; 1 by default."""
        return np.ones(len(y), dtype=np.int64)

    def weigh_classes(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the class weight of each target; 1 by default."""
        return np.ones(len(targets))

    @abstractmethod
    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Return the loss of each target, of shape (n_targets,)."""

    @abstractmethod
    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the score on validation texts; greater is better.

        Parameters
        ----------
        outputs : ndarray of shape (n_targets, n_outputs)
            Outputs of the model.
        targets : ndarray of shape (n_targets, ...)
            Targets encoded by :meth:`encode`.
        weights : ndarray of shape (n_targets,)
            Sample weights.
        counts : ndarray of shape (n_texts,)
            Number of targets of each text.

        Returns
        -------
        float
            Score, as computed by the estimator's ``score`` method.
        """

    def pool_windows(self, outputs: np.ndarray, sample_index: np.ndarray) -> np.ndarray:
        """Average the outputs over the windows of each text.

        Parameters
        ----------
        outputs : ndarray of shape (n_windows, n_outputs)
            Outputs of all windows.
        sample_index : ndarray of shape (n_windows,)
            Index of the text of each window, in ascending order.

        Returns
        -------
        ndarray of shape (n_texts, n_outputs)
            Outputs of the texts; unchanged for a text with a single window.
        """
        counts = np.bincount(sample_index)
        first = np.cumsum(counts) - counts
        means = average_windows(self._to_mean(outputs), sample_index)
        pooled = np.where((counts > 1)[:, None], self._from_mean(means), outputs[first])
        return pooled.astype(outputs.dtype)

    def _to_mean(self, outputs: np.ndarray) -> np.ndarray:
        """Transform outputs before averaging over windows; identity by default."""
        return outputs.astype(np.float64)

    def _from_mean(self, means: np.ndarray) -> np.ndarray:
        """Invert :meth:`_to_mean` on the averages."""
        return means

    def explained_score(self, outputs: "torch.Tensor", target: int) -> "torch.Tensor":
        """Return the score of an output that explanations attribute to words.

        Parameters
        ----------
        outputs : Tensor of shape (n_texts, n_windows, n_outputs)
            Outputs of the windows of each text.
        target : int
            Index of the output.

        Returns
        -------
        Tensor of shape (n_texts,)
            Score of each text, a differentiable function of the outputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no explained score.")

    def label_names(self) -> list[str]:
        """Return the label names of the outputs, for ``config.id2label``."""
        return [str(label) for label in self.classes]

    def params_of_head(self) -> dict[str, Any]:
        """Return the parameters of an estimator that is made of a trained head."""
        return {}

    @classmethod
    @abstractmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Build the task of a trained head, if it is of this kind.

        Parameters
        ----------
        config : PreTrainedConfig
            Configuration of a checkpoint whose architecture ends in :attr:`head`.

        Returns
        -------
        task : Task
            Task with the labels of the configuration.
        order : list of int
            Index of the output of the head for each output of the task.

            A single None is returned if the head is for another kind of task.

        Raises
        ------
        ValueError
            If two outputs have the same label.
        """


def average_windows(values: np.ndarray, sample_index: np.ndarray) -> np.ndarray:
    """Average values over the windows of each text.

    Parameters
    ----------
    values : ndarray of shape (n_windows, n_columns)
        Values of all windows.
    sample_index : ndarray of shape (n_windows,)
        Index of the text of each window, in ascending order.

    Returns
    -------
    ndarray of shape (n_texts, n_columns)
        Means of the texts.
    """
    counts = np.bincount(sample_index)
    sums = np.add.reduceat(values, np.cumsum(counts) - counts, axis=0)
    return sums / counts[:, None]


def is_regression_head(config: Any) -> bool:
    """Return whether transformers treats a trained head as a regression head."""
    kind = config.problem_type
    return kind == "regression" or (kind is None and config.num_labels == 1)


def names_of_outputs(config: Any) -> list[str]:
    """Return the label names of a trained head, in the order of its outputs.

    Parameters
    ----------
    config : PreTrainedConfig
        Its ``id2label`` numbers the outputs from 0, or from 1.

    Raises
    ------
    ValueError
        If ``id2label`` is empty, leaves out a number, or two labels are equal.
    """
    labels = config.id2label or {}
    numbers = sorted(labels)
    first = 1 if numbers[:1] == [1] else 0
    if not numbers or numbers != list(range(first, first + len(numbers))):
        raise ValueError(
            "id2label in config.json must number the outputs of the trained head from "
            f"0, without gaps. Got the numbers {numbers}. Correct the file."
        )
    names = [str(labels[number]) for number in numbers]
    if len(set(names)) < len(names) or None in labels.values():
        raise ValueError(
            "id2label in config.json must give each output of the trained head a name "
            f"of its own. Got {names}. Correct the file."
        )
    return names


def sort_names(names: list[str]) -> tuple[np.ndarray, list[int]]:
    """Return the sorted label names and the indices that sort them."""
    order = sorted(range(len(names)), key=names.__getitem__)
    return np.array([names[i] for i in order]), order
