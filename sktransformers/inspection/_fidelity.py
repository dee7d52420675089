"""`explanation_fidelity`: whether attributions tell what a prediction depends on."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._explanation import Explanation
from ._occlusion import scores_of
from ._words import cut_out

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)


def explanation_fidelity(
    estimator: Any,
    explanations: Sequence[Explanation],
    *,
    fractions: Sequence[float] = FRACTIONS,
) -> dict[str, float]:
    """Measure whether explanations are faithful to the estimator.

    The words with the largest attributions are cut out of each text, and, the other way
    around, all other words are cut out [1]_.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier or regressor that was explained.
    explanations : sequence of Explanation
        Explanations of texts, as returned by :func:`explain`. Texts without words are
        left out.
    fractions : sequence of float, default=(0.01, 0.05, 0.1, 0.2, 0.5)
        Fractions of the words of a text, rounded up to at least one word. The measures
        are means over them.

    Returns
    -------
    dict of str to float
        - "comprehensiveness": how much the probability of the target (for a regressor,
          the number) falls without the most important words; greater is better;
        - "sufficiency": how much it falls with nothing but these words; smaller is
          better.

    Raises
    ------
    ValueError
        If there is no explanation with words, a fraction is not in (0, 1], or an
        explanation is not one of a classifier or regressor.

    References
    ----------
    .. [1] DeYoung et al. (2020). ERASER: A benchmark to evaluate rationalized NLP
           models. https://arxiv.org/abs/1911.03429

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransformers.inspection import explain, explanation_fidelity
    >>> model = make_pipeline(CountVectorizer(), LogisticRegression())
    >>> _ = model.fit(["good film", "bad film", "good", "bad"], [1, 0, 1, 0])
    >>> measures = explanation_fidelity(model, explain(model, ["a good film"]))
    >>> measures["comprehensiveness"] > measures["sufficiency"]
    True
    """
    if not len(fractions) or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(
            f"fractions must be numbers above 0 and at most 1. Got {fractions!r:.80}."
        )
    explained = [explanation for explanation in explanations if explanation.words]
    if not explained:
        raise ValueError("explanations must have at least one with words. Got none.")
    texts, owners = [], []
    for i, explanation in enumerate(explained):
        order = np.argsort(-explanation.attributions, kind="stable")
        variants = [explanation.texts]
        for fraction in fractions:
            n_top = max(1, math.ceil(fraction * len(order)))
            top, rest = order[:n_top], order[n_top:]
            for removed in (top, rest):
                words = [explanation.words[j] for j in removed]
                variants.append(cut_out(explanation.texts, words))
        texts += variants
        owners += [i] * len(variants)
    X = [row[0] for row in texts] if len(texts[0]) == 1 else texts
    scores, targets = scores_of(estimator, X)
    is_classifier = hasattr(estimator, "classes_")
    columns = [targets.index(explained[i].target) for i in owners]
    values = scores[np.arange(len(scores)), columns]
    if is_classifier:
        values = 1 / (1 + np.exp(-values))
    falls = values.reshape(len(explained), -1)
    falls = falls[:, :1] - falls[:, 1:]
    return {
        "comprehensiveness": float(falls[:, 0::2].mean()),
        "sufficiency": float(falls[:, 1::2].mean()),
    }
