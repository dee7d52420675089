"""A training tells scikit-learn's callbacks of its epochs and steps.

See :mod:`sklearn.callback`: ``fit`` is a task whose subtasks are epochs, and the
subtasks of an epoch are steps.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sklearn.callback import ProgressBar

from ._compat import callbacks_of, is_nested_fit


class FitMonitor:
    """Stands between the training loop and the callbacks of an estimator.

    Parameters
    ----------
    estimator : estimator
        Being fitted.
    context : sklearn.callback.CallbackContext
        The task of the whole fit.
    data : dict
        X, y and metadata, as the callbacks see them.
    fitted_attributes : callable
        Returns what makes a copy of the estimator predict with the current weights. The
        history so far is added, which has the scores of held-out texts.
    evaluate : callable or None
        Returns entries for an epoch's record, and whether to stop.

    Attributes
    ----------
    history : list of dict
        The records of the epochs that ended. A fit that is resumed puts those here that
        it does not train again.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        data: dict[str, Any],
        fitted_attributes: Callable[[], dict[str, Any]],
        evaluate: Callable[[], tuple[dict[str, float], bool]] | None,
    ) -> None:
        self._estimator = estimator
        self._fit = context
        self._data = data
        self._fitted_attributes = fitted_attributes
        self._evaluate = evaluate
        self.history: list[dict[str, Any]] = []

    def epoch_begins(self, n_steps: int) -> None:
        """Open the task of an epoch."""
        self._epoch = self._fit.subcontext(task_name="epoch", max_subtasks=n_steps)
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def step_begins(self) -> None:
        """Open the task of a step."""
        self._step = self._epoch.subcontext(task_name="step")
        self._step.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def step_ends(self) -> bool:
        """Close the task of a step; return whether a callback ends the epoch."""
        # Without a fitted estimator: a score at each step would take longer than the
        # training.
        return bool(
            self._step.call_on_fit_task_end(estimator=self._estimator, **self._data)
        )

    def epoch_ends(self, record: dict[str, Any]) -> bool:
        """Close the task of an epoch; return whether to end the training."""
        stop = False
        if self._evaluate is not None:
            scores, stop = self._evaluate()
            record.update(scores)
        self.history.append(record)
        stopped_by_callback = self._epoch.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=self._attributes_so_far,
            **self._data,
        )
        return bool(stop or stopped_by_callback)

    def _attributes_so_far(self) -> dict[str, Any]:
        """Return what a fit that stopped now would set."""
        history = list(self.history)
        return {
            **self._fitted_attributes(),
            "history_": history,
            "n_epochs_": len(history),
        }


@contextlib.contextmanager
def progress_bar(estimator: Any) -> Iterator[None]:
    """Show scikit-learn's progress bar during one fit, if ``verbose`` asks for it.

    Inside a search or a pipeline the outermost estimator's callbacks show progress.
    """
    callbacks = callbacks_of(estimator)
    shown = any(isinstance(callback, ProgressBar) for callback in callbacks)
    is_inner = is_nested_fit(estimator)
    if not estimator.verbose or shown or is_inner:
        yield
        return
    estimator.set_callbacks(*callbacks, ProgressBar())
    try:
        yield
    finally:
        estimator.set_callbacks(*callbacks)
