"""`LossCurveDisplay`: plot of the training and validation loss."""

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted


class LossCurveDisplay:
    """Loss curve visualization: training and validation loss by optimizer step.

    Parameters
    ----------
    n_steps : array-like of shape (n_epochs,)
        Cumulative number of optimizer steps at the end of each epoch.
    train_loss : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    valid_loss : array-like of shape (n_epochs,) or None, default=None
        Loss on the validation set after each epoch.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the loss curve.
    figure_ : matplotlib.figure.Figure
        Figure of `ax_`.

    See Also
    --------
    sktransformers.TransformerClassifier : Its ``history_`` holds the losses.

    Examples
    --------
    >>> from sktransformers.inspection import LossCurveDisplay
    >>> display = LossCurveDisplay(n_steps=[10, 20], train_loss=[0.7, 0.2])
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(
        self, *, n_steps: Any, train_loss: Any, valid_loss: Any = None
    ) -> None:
        self.n_steps = n_steps
        self.train_loss = train_loss
        self.valid_loss = valid_loss

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the loss curve of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with a ``history_`` of at least one epoch.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: a new figure.

        Returns
        -------
        LossCurveDisplay
            Display with the plot.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator has no ``history_``, such as a pipeline.
        ValueError
            If no epoch was trained.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"This {type(estimator).__name__} has no `history_`. Pass the text "
                "estimator itself: the step of a pipeline, pipeline[-1], or the "
                "best_estimator_ of a search."
            )
        history = estimator.history_
        if not history:
            raise ValueError(
                f"This {type(estimator).__name__} was trained for 0 epochs, so there "
                "is no loss curve. Fit it with max_epochs of at least 1."
            )
        has_validation = "valid_loss" in history[0]
        return cls(
            n_steps=np.cumsum([record["n_steps"] for record in history]),
            train_loss=[record["train_loss"] for record in history],
            valid_loss=[record["valid_loss"] for record in history]
            if has_validation
            else None,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: a new figure.

        Returns
        -------
        LossCurveDisplay
            The display, with ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from .._compat import check_matplotlib_support

        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        ax.plot(self.n_steps, self.train_loss, marker="o", label="training texts")
        if self.valid_loss is not None:
            ax.plot(self.n_steps, self.valid_loss, marker="s", label="held-out texts")
        ax.set(xlabel="Optimizer steps", ylabel="Loss", ylim=(0, None))
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
