"""Scores of entities, as `sklearn.metrics` has them of labels."""

from numbers import Real
from typing import Any

from sklearn.metrics import make_scorer

from .._compat import Options, StrOptions, validate_params
from .._tags import SCHEMES
from ._matching import AVERAGES, count_entities, score_of

# y_true and y_pred are ragged; `count_entities` checks them.
CONSTRAINTS = {
    "mode": [StrOptions({"default", "strict"})],
    "scheme": [StrOptions({"auto", *SCHEMES})],
    "sample_weight": ["array-like", None],
    "zero_division": [Options(Real, {0.0, 1.0}), StrOptions({"warn"})],
}
_SCORE_CONSTRAINTS = {**CONSTRAINTS, "average": [StrOptions(set(AVERAGES)), None]}


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

    A predicted entity is right if its type, its first word and its last word are, as in
    the shared tasks of CoNLL [1]_ [2]_. The scores are those of seqeval [3]_, but for
    BILOU in the default mode: here "L-" and "U-" mean what "E-" and "S-" mean, while
    seqeval does not know them there and misses some entities.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags, a list for each text and a tag for each word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        "micro" counts the entities of all types together, "macro" takes the mean of the
        types' scores, "weighted" the mean weighted by the true entities of each type.
        None returns the score of each type.
    mode : {"default", "strict"}, default="default"
        "default" reads tags in any order, as conlleval does: an entity may begin with
        "I-", say. "strict" counts only entities that are spelt as the scheme asks.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"}, default="auto"
        What the tags mean. "auto" finds it in the tags of `y_true`, or where these have
        no entity, of both. "BIO" is also known as IOB2, "BIOES" as IOBES. In "plain",
        for tags without a prefix, neighbours with the same tag are one entity, unless
        the tag is "O".
    sample_weight : array-like of shape (n_texts,), default=None
        What an entity of each text counts; None: 1.
    zero_division : {"warn", 0, 1}, default="warn"
        The score where there is neither a true nor a predicted entity. "warn" is 0 with
        a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        The score, from 0 to 1, the best; for ``average=None`` of each entity type that
        occurs, sorted by name.

    Raises
    ------
    ValueError
        `y_true` and `y_pred` differ in their numbers of texts or words, one of them is
        not made of lists of str, or the tags are not those of the scheme.

    Warns
    -----
    UndefinedMetricWarning
        There is neither a true nor a predicted entity, and `zero_division` is "warn".

    See Also
    --------
    entity_precision_score : How many of the predicted entities are right.
    entity_recall_score : How many of the true entities were predicted.
    entity_classification_report : All scores of each type.
    entity_f1 : This score as a scorer, for ``scoring=entity_f1``.

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
    counts = count_entities(
        y_true, y_pred, mode=mode, scheme=scheme, sample_weight=sample_weight
    )
    return score_of("f1-score", counts, average, zero_division)


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
    """Compute which part of the predicted entities is right.

    What an entity is, and when it is right, stands at :func:`entity_f1_score`.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags, a list for each text and a tag for each word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        How to average over the entity types; None returns the score of each.
    mode : {"default", "strict"}, default="default"
        Whether entities count that are not spelt as the scheme asks.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"}, default="auto"
        What the tags mean.
    sample_weight : array-like of shape (n_texts,), default=None
        What an entity of each text counts; None: 1.
    zero_division : {"warn", 0, 1}, default="warn"
        The score where no entity is predicted. "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        The precision, from 0 to 1, the best; for ``average=None`` of each entity type
        that occurs, sorted by name.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        No entity is predicted, and `zero_division` is "warn".

    See Also
    --------
    entity_recall_score : How many of the true entities were predicted.
    entity_f1_score : Precision and recall in one number, and more on the parameters.

    Examples
    --------
    >>> from sktransformers.metrics import entity_precision_score
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> round(entity_precision_score(y_true, y_pred), 2)
    0.33
    """
    counts = count_entities(
        y_true, y_pred, mode=mode, scheme=scheme, sample_weight=sample_weight
    )
    return score_of("precision", counts, average, zero_division)


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
    """Compute which part of the true entities was predicted.

    What an entity is, and when it is right, stands at :func:`entity_f1_score`.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags, a list for each text and a tag for each word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        How to average over the entity types; None returns the score of each.
    mode : {"default", "strict"}, default="default"
        Whether entities count that are not spelt as the scheme asks.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"}, default="auto"
        What the tags mean.
    sample_weight : array-like of shape (n_texts,), default=None
        What an entity of each text counts; None: 1.
    zero_division : {"warn", 0, 1}, default="warn"
        The score where there is no true entity. "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        The recall, from 0 to 1, the best; for ``average=None`` of each entity type
        that occurs, sorted by name.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        There is no true entity, and `zero_division` is "warn".

    See Also
    --------
    entity_precision_score : How many of the predicted entities are right.
    entity_f1_score : Precision and recall in one number, and more on the parameters.

    Examples
    --------
    >>> from sktransformers.metrics import entity_recall_score
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> entity_recall_score(y_true, y_pred)
    0.5
    """
    counts = count_entities(
        y_true, y_pred, mode=mode, scheme=scheme, sample_weight=sample_weight
    )
    return score_of("recall", counts, average, zero_division)


def _make_scorer(score: Any, what: str) -> Any:
    """Return a scorer with a documentation of its own."""
    scorer = make_scorer(score)
    scorer.__doc__ = f"""Score an estimator by the {what} of the entities it predicts.

    To be passed as ``scoring`` to cross-validation and searches. Other options of
    :func:`{score.__name__}` take ``make_scorer({score.__name__}, average="macro")``.

    Parameters
    ----------
    estimator : estimator
        Fitted; its ``predict`` returns a list of tags for each text.
    X : sequence of shape (n_texts,)
        The texts, as the estimator takes them.
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags.
    sample_weight : array-like of shape (n_texts,), default=None
        What an entity of each text counts; None: 1.
    **kwargs : dict
        Other metadata, if scikit-learn's metadata routing is enabled.

    Returns
    -------
    float
        The micro average of all entity types.

    See Also
    --------
    {score.__name__} : The same from predictions.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktransformers.metrics import {_name_of(score)}
    >>> cross_val_score(tagger, X, y, scoring={_name_of(score)})  # doctest: +SKIP
    """
    return scorer


def _name_of(score: Any) -> str:
    return score.__name__.removesuffix("_score")


entity_f1 = _make_scorer(entity_f1_score, "F1 score")
entity_precision = _make_scorer(entity_precision_score, "precision")
entity_recall = _make_scorer(entity_recall_score, "recall")
