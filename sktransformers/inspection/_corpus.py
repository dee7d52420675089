"""`explain_corpus`: the words and phrases that speak for each class in a corpus."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from ._explain import check_count, explain
from ._explanation import Explanation


def explain_corpus(
    estimator: Any,
    X: Any,
    target: Any = None,
    *,
    method: str = "auto",
    n_steps: int = 16,
    max_words: int = 3,
    min_texts: int = 2,
) -> pd.DataFrame:
    """Find the words and phrases that speak for each class across a corpus.

    An artefact of the data, such as a word that gives a class away, is among the first
    rows of its class.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator, as for :func:`explain`.
    X : array-like of str of shape (n_texts,), pairs or DataFrame
        Texts of the corpus.
    target : class label, int or str, default=None
        What to explain, see :func:`explain`. If None, each text speaks for its
        predicted class.
    method : {"auto", "integrated_gradients", "occlusion"}, default="auto"
        Method, see :func:`explain`.
    n_steps : int, default=16
        Initial number of steps of integrated gradients.
    max_words : int, default=3
        Maximum number of words of a phrase. Words of phrases are consecutive.
    min_texts : int, default=2
        Minimum number of texts that a phrase occurs in.

    Returns
    -------
    pandas.DataFrame
        One row for each phrase and target, sorted by target and total attribution, with
        the columns "target", "phrase" (in lower case), "n_texts" (number of texts with
        this target that contain it), "mean" (mean over these texts of the summed
        attribution of its words) and "total" (their sum).

    Raises
    ------
    ValueError
        If `max_words` or `min_texts` is not an int of at least 1, or as in
        :func:`explain`.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransformers.inspection import explain_corpus
    >>> texts = ["good film", "bad film", "a good one", "a bad one"]
    >>> model = make_pipeline(CountVectorizer(), LogisticRegression())
    >>> corpus = explain_corpus(model.fit(texts, [1, 0, 1, 0]), texts, max_words=1)
    >>> corpus.groupby("target")["phrase"].first().tolist()
    ['bad', 'good']
    """
    check_count("max_words", max_words)
    check_count("min_texts", min_texts)
    explanations = explain(estimator, X, target, method=method, n_steps=n_steps)
    found: dict[tuple[Any, str], list[float]] = defaultdict(list)
    for explanation in explanations:
        label = explanation.target
        if isinstance(label, dict):  # an entity
            label = label["label"]
        for phrase, value in _phrases(explanation, max_words).items():
            found[label, phrase].append(value)
    rows = [
        (label, phrase, len(values), float(np.mean(values)), float(np.sum(values)))
        for (label, phrase), values in found.items()
        if len(values) >= min_texts
    ]
    columns = ["target", "phrase", "n_texts", "mean", "total"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(
        ["target", "total"], ascending=[True, False], ignore_index=True, kind="stable"
    )


def _phrases(explanation: Explanation, max_words: int) -> dict[str, float]:
    """Return the attribution of each phrase of a text, added up over occurrences."""
    totals: dict[str, float] = defaultdict(float)
    words = explanation.words
    for i, first in enumerate(words):
        total = 0.0
        for last in words[i : i + max_words]:
            if last["column"] != first["column"] or not last["is_read"]:
                break
            total += last["attribution"]
            text = explanation.texts[first["column"]][first["start"] : last["end"]]
            totals[" ".join(text.lower().split())] += total
    return totals
