"""Make scorers with docstrings of their own."""

from collections.abc import Callable
from typing import Any

from sklearn.metrics import make_scorer


def make_documented_scorer(function: Callable[..., Any], measured: str) -> Any:
    """Return the scorer of a metric, with a docstring.

    Parameters
    ----------
    function : callable
        Metric function, whose name ends in ``_score``.
    measured : str
        What the metric measures, for the docstring.

    Returns
    -------
    callable
        Scorer, as from :func:`sklearn.metrics.make_scorer`.
    """
    metric, scorer = function.__name__, make_scorer(function)
    name = metric.removesuffix("_score")
    scorer.__doc__ = f"""Score an estimator by the {measured}.

    Pass it as ``scoring`` to cross-validation and hyper-parameter search. For other
    options than the defaults, use ``make_scorer({metric}, ...)``.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator whose predictions :func:`{metric}` takes as `y_pred`.
    X : sequence of shape (n_texts,)
        Input of the estimator.
    y_true : sequence of shape (n_texts,)
        As in :func:`{metric}`.
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, if :func:`{metric}` takes them. None: equal weights.
    **kwargs : dict
        Other metadata, if scikit-learn's metadata routing is enabled.

    Returns
    -------
    float
        Score between 0 and 1 (best).

    See Also
    --------
    {metric} : Metric function of `y_true` and `y_pred`.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktransformers.metrics import {name}
    >>> cross_val_score(estimator, X, y, scoring={name})  # doctest: +SKIP
    """
    return scorer
