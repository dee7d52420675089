"""Entity-level precision, recall and F1, with the corresponding scorers.

The scores are scikit-learn's for class labels, computed on matched entities.
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import (
    classification_report,
    f1_score,
    precision_score,
    recall_score,
)

from .._compat import Interval, Options, StrOptions, validate_params
from ._matching import match_entities
from ._schemes import SCHEMES
from ._scorers import make_documented_scorer

# y_true and y_pred are ragged and are validated by `match_entities`.
_CONSTRAINTS = {
    "mode": [StrOptions({"default", "strict"})],
    "scheme": [StrOptions({"auto", *SCHEMES})],
    "sample_weight": ["array-like", None],
    "zero_division": [Options(Real, {0.0, 1.0}), StrOptions({"warn"})],
}
_SCORE_CONSTRAINTS = {
    **_CONSTRAINTS,
    "average": [StrOptions({"micro", "macro", "weighted"}), None],
}


@validate_params(_SCORE_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    average: str | None = "micro",
    mode: str = "default",
    scheme: str = "auto",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Compute the F1 score of entities, the harmonic mean of precision and recall.

    A predicted entity is correct if its type, its first word and its last word match a
    true entity, as in the CoNLL shared tasks [1]_ [2]_. The scores equal those of
    seqeval [3]_, except for BILOU in the default mode: here "L-" and "U-" are
    equivalent to "E-" and "S-", while seqeval does not recognize them and misses some
    entities.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags: one list per text, one tag per word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        "micro" computes the score over the entities of all types, "macro" is the
        unweighted mean of the scores of each type, "weighted" is their mean weighted by
        support, the number of true entities of each type. None returns the score of
        each type.
    mode : {"default", "strict"}, default="default"
        "default" interprets any sequence of tags, as conlleval does: for example, an
        entity may begin with "I-". "strict" counts only entities whose tags are valid
        in the scheme.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", \
"BMEWO"}, default="auto"
        Tagging scheme. "auto" infers it from the tags of `y_true` or, if these contain
        no entity, of both arguments. "BIO" is also known as IOB2, "BIOES" as IOBES.
        "plain" is for tags without prefixes: adjacent words with the same tag form one
        entity, unless the tag is "O".
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, applied to the entities of each text. None: equal weights.
    zero_division : {"warn", 0, 1}, default="warn"
        Score if there is neither a true nor a predicted entity. "warn" is 0 with a
        warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        Score between 0 and 1 (best). With ``average=None``, the score of each entity
        type that occurs, sorted by name.

    Raises
    ------
    ValueError
        If `y_true` and `y_pred` have different numbers of texts or words, if one of
        them does not consist of lists of str, or if a tag is not valid in the scheme.

    Warns
    -----
    UndefinedMetricWarning
        If there is neither a true nor a predicted entity and `zero_division` is "warn".

    See Also
    --------
    entity_precision_score : Fraction of the predicted entities that are correct.
    entity_recall_score : Fraction of the true entities that are predicted.
    entity_classification_report : Table of all scores of each entity type.
    entity_f1 : Scorer, for ``scoring=entity_f1``.

    References
    ----------
    .. [1] E. F. Tjong Kim Sang and S. Buchholz (2000). "Introduction to the CoNLL-2000
       Shared Task: Chunking". https://aclanthology.org/W00-0726
    .. [2] E. F. Tjong Kim Sang (2002). "Introduction to the CoNLL-2002 Shared Task:
       Language-Independent Named Entity Recognition".
       https://aclanthology.org/W02-2024
    .. [3] H. Nakayama (2018). "seqeval: A Python framework for sequence labeling
       evaluation". https://github.com/chakki-works/seqeval

    Examples
    --------
    >>> from sktransformers.metrics import entity_f1_score
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> entity_f1_score(y_true, y_pred)
    0.4
    >>> entity_f1_score(y_true, y_pred, average=None).round(2).tolist()  # LOC, PER
    [0.0, 0.67]
    """
    return _score(
        f1_score, y_true, y_pred, average, mode, scheme, sample_weight, zero_division
    )


@validate_params(_SCORE_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    average: str | None = "micro",
    mode: str = "default",
    scheme: str = "auto",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Compute the precision of entities, the fraction of predictions that are correct.

    See :func:`entity_f1_score` for the definition of a correct entity.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags: one list per text, one tag per word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Averaging over the entity types; None returns the score of each type.
    mode : {"default", "strict"}, default="default"
        "strict" ignores entities whose tags are not valid in the scheme.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", \
"BMEWO"}, default="auto"
        Tagging scheme; "auto" infers it from the tags.
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, applied to the entities of each text. None: equal weights.
    zero_division : {"warn", 0, 1}, default="warn"
        Score if no entity is predicted. "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        Precision between 0 and 1 (best). With ``average=None``, the precision of each
        entity type that occurs, sorted by name.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        If no entity is predicted and `zero_division` is "warn".

    See Also
    --------
    entity_recall_score : Fraction of the true entities that are predicted.
    entity_f1_score : Harmonic mean of precision and recall; details of the parameters.

    Examples
    --------
    >>> from sktransformers.metrics import entity_precision_score
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> round(entity_precision_score(y_true, y_pred), 2)
    0.33
    """
    return _score(
        precision_score,
        y_true,
        y_pred,
        average,
        mode,
        scheme,
        sample_weight,
        zero_division,
    )


@validate_params(_SCORE_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    average: str | None = "micro",
    mode: str = "default",
    scheme: str = "auto",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Compute the recall of entities, the fraction of true entities that are predicted.

    See :func:`entity_f1_score` for the definition of a correct entity.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags: one list per text, one tag per word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Averaging over the entity types; None returns the score of each type.
    mode : {"default", "strict"}, default="default"
        "strict" ignores entities whose tags are not valid in the scheme.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", \
"BMEWO"}, default="auto"
        Tagging scheme; "auto" infers it from the tags.
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, applied to the entities of each text. None: equal weights.
    zero_division : {"warn", 0, 1}, default="warn"
        Score if there is no true entity. "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        Recall between 0 and 1 (best). With ``average=None``, the recall of each entity
        type that occurs, sorted by name.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        If there is no true entity and `zero_division` is "warn".

    See Also
    --------
    entity_precision_score : Fraction of the predicted entities that are correct.
    entity_f1_score : Harmonic mean of precision and recall; details of the parameters.

    Examples
    --------
    >>> from sktransformers.metrics import entity_recall_score
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> entity_recall_score(y_true, y_pred)
    0.5
    """
    return _score(
        recall_score,
        y_true,
        y_pred,
        average,
        mode,
        scheme,
        sample_weight,
        zero_division,
    )


@validate_params(
    {
        **_CONSTRAINTS,
        "digits": [Interval(Integral, 0, None, closed="left")],
        "output_dict": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def entity_classification_report(
    y_true: Any,
    y_pred: Any,
    *,
    mode: str = "default",
    scheme: str = "auto",
    sample_weight: Any = None,
    digits: int = 2,
    output_dict: bool = False,
    zero_division: Any = "warn",
) -> Any:
    """Build a report of precision, recall and F1 of each entity type.

    See :func:`entity_f1_score` for the definition of a correct entity.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags: one list per text, one tag per word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    mode : {"default", "strict"}, default="default"
        "strict" ignores entities whose tags are not valid in the scheme.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", \
"BMEWO"}, default="auto"
        Tagging scheme; "auto" infers it from the tags.
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, applied to the entities of each text. None: equal weights.
    digits : int, default=2
        Number of decimal places in the text report.
    output_dict : bool, default=False
        Return a dict instead of the text.
    zero_division : {"warn", 0, 1}, default="warn"
        Value of 0 divided by 0. "warn" is 0 with a warning.

    Returns
    -------
    str or dict
        Report with one row per entity type that occurs, sorted by name ("no entity" if
        there is none), and one per average. The dict maps row names to dicts with the
        keys "precision", "recall", "f1-score" and "support", the number of true
        entities.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        If a score is 0 divided by 0 and `zero_division` is "warn".

    See Also
    --------
    entity_f1_score : A single score; details of the parameters.
    sklearn.metrics.classification_report : Report for class labels.

    Examples
    --------
    >>> from sktransformers.metrics import entity_classification_report
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> print(entity_classification_report(y_true, y_pred))
                  precision    recall  f1-score   support
    <BLANKLINE>
             LOC       0.00      0.00      0.00         1
             PER       0.50      1.00      0.67         1
    <BLANKLINE>
       micro avg       0.33      0.50      0.40         2
       macro avg       0.25      0.50      0.33         2
    weighted avg       0.25      0.50      0.33         2
    <BLANKLINE>
    """
    found = match_entities(y_true, y_pred, mode, scheme, sample_weight)
    return classification_report(
        found.true,
        found.predicted,
        labels=found.labels,
        target_names=found.types or ["no entity"],
        sample_weight=found.weights,
        digits=digits,
        output_dict=output_dict,
        zero_division=zero_division,
    )


def _score(
    metric: Callable[..., Any],
    y_true: Any,
    y_pred: Any,
    average: str | None,
    mode: str,
    scheme: str,
    sample_weight: Any,
    zero_division: Any,
) -> Any:
    """Compute a metric of scikit-learn on the matched entities."""
    found = match_entities(y_true, y_pred, mode, scheme, sample_weight)
    if average is None and not found.types:
        return np.empty(0)
    return metric(
        found.true,
        found.predicted,
        labels=found.labels,
        average=average,
        sample_weight=found.weights,
        zero_division=zero_division,
    )


entity_f1 = make_documented_scorer(entity_f1_score, "F1 score of its entities")
entity_precision = make_documented_scorer(
    entity_precision_score, "precision of its entities"
)
entity_recall = make_documented_scorer(entity_recall_score, "recall of its entities")
