"""`explain`: attribute predictions to the words of texts."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._estimators.base import BaseTextEstimator
from .._warnings import warn
from ..exceptions import ExplanationWarning
from ._explanation import Explanation
from ._generated import explain_generated
from ._gradients import explain_by_gradients, why_not
from ._occlusion import explain_by_occlusion, explain_tags_by_occlusion
from ._tokens import locate_tokens
from ._words import read_text_columns

_METHODS = ("auto", "integrated_gradients", "occlusion")


def explain(
    estimator: Any,
    X: Any,
    target: Any = None,
    *,
    method: str = "auto",
    n_steps: int = 16,
) -> list[Explanation]:
    """Attribute the prediction for each text to its words.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier, regressor, tagger or generator, or a pipeline, search or
        ensemble of texts that classifies or predicts numbers. It is not changed.
    X : array-like of str of shape (n_texts,), pairs or DataFrame
        Texts, as for ``predict``.
    target : class label, int, str or list of str, default=None
        What to explain: a class label; for a multilabel classifier or a regressor with
        several outputs, the index of the column; for a tagger, an entity type; for a
        generator, the output text, or one for each text. If None, the predicted class
        of each text (multilabel: the most probable label), the first output, every
        predicted entity, or the generated text.
    method : {"auto", "integrated_gradients", "occlusion"}, default="auto"
        - "integrated_gradients": gradients on the path from the text without its words
          (mask or padding tokens in their place) to the text [1]_. The attributions
          add up to ``score - baseline_score`` within 2 %. Requires the extra
          ``explain`` and a fitted classifier or regressor of this package.
        - "occlusion": the change of the score when a word is cut out, through the
          prediction methods alone, so that it serves any estimator of texts.
        - "auto": integrated gradients where they are possible, else occlusion.
    n_steps : int, default=16
        Initial number of steps of integrated gradients. It is doubled until the
        attributions add up.

    Returns
    -------
    list of Explanation
        One for each text; for a tagger, one for each entity.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ImportError
        If ``method="integrated_gradients"`` and captum is not installed.
    ValueError
        If `target` is not one of the estimator's, or a parameter is invalid.
    TextValueError, TextTypeError
        If X does not hold texts.

    References
    ----------
    .. [1] Sundararajan, Taly and Yan (2017). Axiomatic attribution for deep networks.
           https://arxiv.org/abs/1703.01365

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransformers.inspection import explain
    >>> model = make_pipeline(CountVectorizer(), LogisticRegression())
    >>> _ = model.fit(["good film", "bad film", "good", "bad"], [1, 0, 1, 0])
    >>> (explanation,) = explain(model, ["a good film"])
    >>> max(explanation.words, key=lambda word: word["attribution"])["text"]
    'good'
    """
    _check_parameters(method, n_steps)
    check_is_fitted(estimator)
    generates = hasattr(estimator, "generate")
    if generates or hasattr(estimator, "predict_entities"):
        if method == "integrated_gradients":
            raise ValueError(
                "method='integrated_gradients' explains classifiers and regressors. "
                "Pass method='occlusion' for a tagger or generator."
            )
        by_occlusion = explain_generated if generates else explain_tags_by_occlusion
        return by_occlusion(estimator, X, target)
    data = read_text_columns(X)
    tokens = None
    if isinstance(estimator, BaseTextEstimator):
        tokens = locate_tokens(estimator, X)
    reason = why_not(estimator, tokens)
    if reason is not None and method == "integrated_gradients":
        raise reason
    if method == "occlusion" or reason is not None or tokens is None:
        if method == "auto" and isinstance(estimator, BaseTextEstimator):
            message = f"Explaining by occlusion instead: {reason}"
            warn(message, ExplanationWarning)
        return explain_by_occlusion(estimator, data, target, tokens)
    return explain_by_gradients(estimator, data, target, tokens, n_steps)


def _check_parameters(method: Any, n_steps: Any) -> None:
    if method not in _METHODS:
        raise ValueError(f"method must be one of {_METHODS}. Got {method!r} instead.")
    check_count("n_steps", n_steps)


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless a parameter is an int of at least 1."""
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_int or value < 1:
        raise ValueError(f"{name} must be an int of at least 1. Got {value!r}.")
