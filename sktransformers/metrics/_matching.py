"""Match predicted with true entities, as class labels for scikit-learn's metrics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

from .._compat import check_sample_weight
from ._schemes import (
    EncodedTags,
    Spans,
    TagTable,
    encode_tags,
    find_entities,
    has_prefixes,
    scheme_of,
)

_NO_ENTITY = -1  # label of the missing side of an entity without a match


@dataclass(frozen=True)
class MatchedEntities:
    """Class labels of all true and predicted entities.

    An entity that is both true and predicted is one sample with the same label twice.
    A missed entity has the predicted label -1, a spurious one the true label -1. The
    last sample has both: a true negative, which the metrics of single classes ignore.

    Attributes
    ----------
    types : list of str
        Sorted names of the entity types that occur.
    labels : ndarray of int
        Class label of each type; a single unused label if there is no entity.
    true, predicted : ndarray of shape (n_samples,)
        Class labels.
    weights : ndarray of shape (n_samples,) or None
        Sample weights.
    """

    types: list[str]
    labels: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    weights: np.ndarray | None


def match_entities(
    y_true: Any, y_pred: Any, mode: str, scheme: str, sample_weight: Any
) -> MatchedEntities:
    """Match the entities of predicted tag lists with those of true ones.

    Parameters
    ----------
    y_true, y_pred : iterable of sequences of str
        True and predicted tags of each text.
    mode : {"default", "strict"}
        Whether to ignore entities whose tags are not valid in the scheme.
    scheme : str
        One of `SCHEMES`, or "auto".
    sample_weight : array-like of shape (n_texts,) or None
        Sample weights, applied to the entities of each text.

    Returns
    -------
    MatchedEntities
        Class labels for the metrics of scikit-learn.

    Raises
    ------
    ValueError
        If the numbers of texts or words differ, or a tag is not valid in the scheme.
    """
    true, pred = encode_tags(y_true, "y_true"), encode_tags(y_pred, "y_pred")
    _require_same_words(true, pred)
    both = _concatenate(true, pred)
    inferred = _detect(true, pred, both, mode) if scheme == "auto" else scheme
    table, strict = TagTable(both.classes, inferred), mode == "strict"
    n_words, offsets = len(true.codes), true.offsets
    actual = find_entities(both.codes[:n_words], offsets, table, strict=strict)
    predicted = find_entities(both.codes[n_words:], offsets, table, strict=strict)
    actual_keys, predicted_keys = (
        _keys(spans, offsets, len(table.types)) for spans in (actual, predicted)
    )
    is_missed = ~np.isin(actual_keys, predicted_keys, assume_unique=True)
    is_spurious = ~np.isin(predicted_keys, actual_keys, assume_unique=True)
    weights = None
    if sample_weight is not None:
        by_text = check_sample_weight(sample_weight, offsets[1:])
        texts = np.concatenate([actual.text, predicted.text[is_spurious]])
        weights = np.append(by_text[texts], 1.0)
    codes = np.union1d(actual.type, predicted.type)
    none = np.full(is_spurious.sum() + 1, _NO_ENTITY)
    return MatchedEntities(
        types=[table.types[code] for code in codes],
        labels=codes if len(codes) else np.array([0]),
        true=np.concatenate([actual.type, none]),
        predicted=np.concatenate(
            [
                np.where(is_missed, _NO_ENTITY, actual.type),
                predicted.type[is_spurious],
                none[:1],
            ]
        ),
        weights=weights,
    )


def _keys(spans: Spans, offsets: np.ndarray, n_types: int) -> np.ndarray:
    """Return a key per entity, unique for its words and type."""
    first, length = offsets[spans.text] + spans.start, spans.end - spans.start
    return (first * (offsets[-1] + 1) + length) * n_types + spans.type


def _require_same_words(true: EncodedTags, pred: EncodedTags) -> None:
    n_true, n_pred = np.diff(true.offsets), np.diff(pred.offsets)
    check_consistent_length(n_true, n_pred)
    if (n_true != n_pred).any():
        row = int((n_true != n_pred).argmax())
        raise ValueError(
            "y_true and y_pred must hold a tag for each word of a text. Got "
            f"y_pred[{row}] has {n_pred[row]} tags, but y_true[{row}] has "
            f"{n_true[row]}."
        )


def _concatenate(true: EncodedTags, pred: EncodedTags) -> EncodedTags:
    """Return the texts of both, concatenated, with common classes."""
    classes = sorted({*true.classes, *pred.classes})
    position = {tag: i for i, tag in enumerate(classes)}
    codes = [
        np.array([position[tag] for tag in part.classes], dtype=np.int64)[part.codes]
        for part in (true, pred)
    ]
    offsets = [true.offsets, pred.offsets[1:] + len(true.codes)]
    return EncodedTags(np.concatenate(codes), np.concatenate(offsets), classes)


def _detect(
    true: EncodedTags, pred: EncodedTags, both: EncodedTags, mode: str
) -> str | None:
    """Infer the scheme; None interprets the prefixes of all schemes."""
    is_typed = has_prefixes(true.classes)
    if mode == "default":
        return None if is_typed or has_prefixes(both.classes) else "plain"
    scheme = scheme_of(true)
    if scheme == "plain" and is_typed:
        raise ValueError(
            "mode='strict' needs tags of one scheme, but the scheme of y_true cannot "
            f"be inferred from its tags {true.classes}. Pass `scheme`, or use "
            "mode='default'."
        )
    if scheme == "plain":  # no entity in y_true
        return scheme_of(both)
    if scheme == "IO" and any(tag[0] == "B" for tag in pred.classes if tag):
        return "IOB1"  # in IO and IOB1, an entity may begin with "I"
    return scheme
