"""Invoke scikit-learn's callbacks at the start and end of epochs and steps.

In the terms of :mod:`sklearn.callback`, ``fit`` is a task whose subtasks are epochs,
and the subtasks of an epoch are steps.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sklearn.callback import ProgressBar

from .._compat import callbacks_of, is_nested_fit


@dataclass
class FitMonitor:
    """Invoke an estimator's callbacks from the training loop.

    Attributes
    ----------
    estimator : estimator
        Estimator being fitted.
    context : sklearn.callback.CallbackContext
        Callback context of the whole fit.
    data : dict
        X, y and metadata, as passed to the callbacks.
    fitted_attributes : dict
        Fitted attributes for predicting with the current weights. ``history_`` and
        ``n_epochs_`` are added to them.
    evaluate : callable or None
        Evaluates the model after an epoch. Returns a dict of entries to add to the
        epoch's record, such as validation scores, and whether to stop training.
    history : list of dict
        Records of the finished epochs. When resuming, initialized with the records of
        the epochs finished before the interruption.
    """

    estimator: Any
    context: Any
    data: dict[str, Any]
    fitted_attributes: dict[str, Any]
    evaluate: Callable[[], tuple[dict[str, float], bool]] | None
    history: list[dict[str, Any]] = field(default_factory=list)

    def epoch_begins(self, n_steps: int) -> None:
        """Begin the callback task of an epoch."""
        self._epoch = self.context.subcontext(task_name="epoch", max_subtasks=n_steps)
        self._epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def step_begins(self) -> None:
        """Begin the callback task of a step."""
        self._step = self._epoch.subcontext(task_name="step")
        self._step.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def step_ends(self) -> bool:
        """End the callback task of a step; return whether to end the epoch."""
        # No reconstruction_attributes: a callback that scores a fitted estimator after
        # every step would take longer than the training itself.
        return bool(
            self._step.call_on_fit_task_end(estimator=self.estimator, **self.data)
        )

    def epoch_ends(self, record: dict[str, Any]) -> bool:
        """End the callback task of an epoch; return whether to stop training."""
        stop = False
        if self.evaluate is not None:
            scores, stop = self.evaluate()
            record.update(scores)
        self.history.append(record)
        stopped_by_callback = self._epoch.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self._current_attributes,
            **self.data,
        )
        return bool(stop or stopped_by_callback)

    def _current_attributes(self) -> dict[str, Any]:
        """Return the fitted attributes as of the current epoch."""
        history = list(self.history)
        return self.fitted_attributes | {"history_": history, "n_epochs_": len(history)}


@contextlib.contextmanager
def progress_bar(estimator: Any) -> Iterator[None]:
    """Show scikit-learn's progress bar during a fit if ``verbose`` is set.

    In a nested fit, such as in a grid search or a pipeline, nothing is shown: progress
    is reported by the callbacks of the outermost estimator.
    """
    callbacks = callbacks_of(estimator)
    is_shown = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if not estimator.verbose or is_shown or is_nested_fit(estimator):
        yield
        return
    estimator.set_callbacks(*callbacks, ProgressBar())
    try:
        yield
    finally:
        estimator.set_callbacks(*callbacks)
