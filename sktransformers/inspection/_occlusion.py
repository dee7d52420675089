"""Attribution by occlusion: the change of the score when a word is cut out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import logsumexp

from .._text.words import check_words
from ._explanation import Explanation
from ._tokens import TokenTable
from ._words import TextColumns, cut_out, find_words

_BLOCK = 1024  # texts passed to the estimator at a time
_PLACEHOLDER = "\u2026"  # for a word of a tagger: an ellipsis, always a word of its own
_TINY = 1e-12


def explain_by_occlusion(
    estimator: Any,
    data: TextColumns,
    target: Any,
    tokens: TokenTable | None,
) -> list[Explanation]:
    """Return an explanation of each text.

    Parameters
    ----------
    estimator : estimator
        Classifier or regressor of texts.
    data : TextColumns
        Texts.
    target : object
        See :func:`~sktransformers.inspection.explain`.
    tokens : TokenTable or None
        Tokens that the estimator reads. None: unknown, so all words count as read.

    Returns
    -------
    list of Explanation
        One for each text.
    """
    found = [find_words(data.texts_of(row)) for row in range(len(data))]
    explanations = []
    for rows in _blocks([len(words) + 2 for words in found]):
        variants = [
            (row, texts) for row in rows for texts in _variants(data, row, found[row])
        ]
        owners, texts = zip(*variants, strict=True)
        scores, targets = scores_of(estimator, data.replace(list(owners), list(texts)))
        ends = np.cumsum([len(found[row]) + 2 for row in rows])
        for row, part in zip(rows, np.split(scores, ends[:-1]), strict=True):
            column = choose_target(targets, part[0], target)
            score, baseline, *others = part[:, column].tolist()
            read = np.ones(len(found[row]), dtype=bool)
            if tokens is not None:
                read = tokens.words_of(row, found[row]).is_read
            words = [
                {
                    **word,
                    "attribution": score - other if seen else 0.0,
                    "is_read": bool(seen),
                }
                for word, other, seen in zip(found[row], others, read, strict=True)
            ]
            explanations.append(
                Explanation(
                    texts=data.texts_of(row),
                    target=targets[column],
                    score=score,
                    baseline_score=baseline,
                    words=words,
                    method="occlusion",
                    sample_index=row,
                )
            )
    return explanations


def _variants(
    data: TextColumns, row: int, words: list[dict[str, Any]]
) -> Iterator[tuple[str, ...]]:
    """Yield the texts of a row: all words, no words, and without each word."""
    texts = data.texts_of(row)
    yield texts
    yield cut_out(texts, words)
    for word in words:
        yield cut_out(texts, [word])


def _blocks(sizes: list[int]) -> Iterator[range]:
    """Yield consecutive ranges of rows whose sizes add up to about a block."""
    start, total = 0, 0
    for row, size in enumerate(sizes):
        if total and total + size > _BLOCK:
            yield range(start, row)
            start, total = row, 0
        total += size
    yield range(start, len(sizes))


def scores_of(estimator: Any, X: Any) -> tuple[np.ndarray, list[Any]]:
    """Return the scores of texts that explanations are about, and their targets.

    Parameters
    ----------
    estimator : estimator
        Classifier with ``predict_proba``, or regressor.
    X : array-like
        Texts.

    Returns
    -------
    scores : ndarray of shape (n_texts, n_targets)
        Log-odds of each class or label, or predicted numbers.
    targets : list
        Class label of each column, or its index.

    Raises
    ------
    ValueError
        If the classifier predicts no probabilities, or has a single class.
    """
    if not hasattr(estimator, "classes_"):
        numbers = np.asarray(estimator.predict(X), dtype=np.float64)
        numbers = numbers.reshape(len(numbers), -1)
        return numbers, list(range(numbers.shape[1]))
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"{type(estimator).__name__} has no predict_proba. Explanations of a "
            "classifier require probabilities; wrap it in CalibratedClassifierCV."
        )
    classes = np.asarray(estimator.classes_).tolist()
    if len(classes) == 1:
        raise ValueError(
            f"The classifier knows the single class {classes[0]!r}, so no word can "
            "change its prediction. Fit it on at least two classes."
        )
    p = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    logs = np.log(np.maximum(p, _TINY))
    if np.allclose(p.sum(axis=1), 1.0, atol=1e-4):
        others = [
            logsumexp(np.delete(logs, i, axis=1), axis=1) for i in range(len(classes))
        ]
        return logs - np.array(others).T, classes
    return logs - np.log(np.maximum(1 - p, _TINY)), classes


def choose_target(targets: list[Any], scores: np.ndarray, target: Any) -> int:
    """Return the column of a target; of the largest score if it is None."""
    if target is None:
        return int(np.argmax(scores)) if len(targets) > 1 else 0
    try:
        return targets.index(target)
    except ValueError:
        raise ValueError(
            f"target={target!r} is not among the estimator's: {targets!r:.200}."
        ) from None


def explain_tags_by_occlusion(tagger: Any, X: Any, target: Any) -> list[Explanation]:
    """Return an explanation of each entity that a tagger predicts.

    Parameters
    ----------
    tagger : estimator
        Fitted tagger.
    X : array-like of shape (n_texts,)
        Texts, as str or as lists of words.
    target : str or None
        Entity type to explain. None: all.

    Returns
    -------
    list of Explanation
        One for each predicted entity. Its score is the sum of the log-odds of the tags
        of its words; instead of being cut out, words are replaced by an ellipsis.

    Raises
    ------
    ValueError
        If the target is not an entity type of the tagger.
    """
    types = tagger.get_feature_names_out().tolist()
    if target is not None and target not in types:
        raise ValueError(
            f"target={target!r} is not among the entity types of the tagger: "
            f"{types!r:.200}."
        )
    words = check_words(X, tagger.word_pattern)
    explanations = []
    for row, predicted in enumerate(tagger.predict_entities(X)):
        one = words.take([row])
        text = one.rows[0] if one.texts is None else one.texts[0]
        entities = [e for e in predicted if target in (None, e["label"])]
        if entities:
            explanations += _explain_entities(tagger, one, text, entities, row)
    return explanations


def _explain_entities(
    tagger: Any, words: Any, text: Any, entities: list[dict[str, Any]], row: int
) -> list[Explanation]:
    """Explain the entities of one text, which share their forward passes."""
    n_words = len(words.rows[0])
    places = [words.locate(0, i, i + 1) for i in range(n_words)]
    variants = [text, _replace(text, places, range(n_words))]
    variants += [_replace(text, places, [i]) for i in range(n_words)]
    codes = [tagger.classes_.tolist().index(tag) for tag in tagger.predict([text])[0]]
    p = np.stack(list(tagger.predict_proba(variants)))  # (n_variants, n_words, n_tags)
    own = np.take_along_axis(p, np.array(codes)[None, :, None], axis=2)[..., 0]
    logs = np.log(np.maximum(own, _TINY)) - np.log(np.maximum(1 - own, _TINY))
    spans, joined = places, text
    if not isinstance(text, str):
        ends = np.cumsum([len(word) + 1 for word in text])
        starts = [0, *ends[:-1].tolist()]
        spans = [
            {"text": word, "start": start, "end": start + len(word)}
            for word, start in zip(text, starts, strict=True)
        ]
        joined = " ".join(text)
    explanations = []
    for entity in entities:
        is_own = [
            entity["start"] <= place["start"] and place["end"] <= entity["end"]
            for place in places
        ]
        score, baseline, *others = logs[:, is_own].sum(axis=1).tolist()
        explanations.append(
            Explanation(
                texts=(joined,),
                target=entity,
                score=score,
                baseline_score=baseline,
                words=[
                    {**span, "column": 0, "attribution": score - other, "is_read": True}
                    for span, other in zip(spans, others, strict=True)
                ],
                method="occlusion",
                sample_index=row,
            )
        )
    return explanations


def _replace(text: Any, places: list[dict[str, Any]], which: Any) -> Any:
    """Return a text, a str or a list of words, with some words replaced."""
    parts = text if isinstance(text, str) else list(text)
    for i in reversed(list(which)):
        start, end = places[i]["start"], places[i]["end"]
        if isinstance(parts, str):
            parts = parts[:start] + _PLACEHOLDER + parts[end:]
        else:
            parts[start:end] = [_PLACEHOLDER]
    return parts
