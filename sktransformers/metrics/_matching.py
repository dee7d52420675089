"""Count correct, predicted and true entities, and compute scores from the counts."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array

from ._schemes import (
    EncodedTags,
    Spans,
    TagTable,
    encode_tags,
    find_entities,
    has_prefixes,
    scheme_of,
)

METRICS = ("precision", "recall", "f1-score")
AVERAGES = ("micro", "macro", "weighted")


@dataclass(frozen=True)
class Counts:
    """Numbers of correct, predicted and true entities of each type.

    Attributes
    ----------
    types : list of str
        Sorted names of the entity types that occur.
    correct, predicted, actual : ndarray of shape (n_types,)
        Entities in both `y_true` and `y_pred`, in `y_pred`, and in `y_true`. Integers,
        or floats with sample weights.
    """

    types: list[str]
    correct: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray

    def total(self) -> "Counts":
        """Return the sum over all types, as the counts of a single type."""
        sums = [counts.sum(keepdims=True) for counts in self._arrays()]
        return Counts(["any"], *sums)

    def of(self, types: np.ndarray) -> "Counts":
        """Return the counts of the types with the given indices."""
        names = [self.types[i] for i in types]
        return Counts(names, *(counts[types] for counts in self._arrays()))

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.correct, self.predicted, self.actual


def count_entities(
    y_true: Any, y_pred: Any, *, mode: str, scheme: str, sample_weight: Any
) -> Counts:
    """Count the correct, predicted and true entities of tag lists.

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
    Counts
        Counts of the types that occur in `y_true` or `y_pred`.

    Raises
    ------
    ValueError
        If the numbers of texts or words differ, or a tag is not valid in the scheme.
    """
    true, pred = encode_tags(y_true, "y_true"), encode_tags(y_pred, "y_pred")
    _require_same_words(true, pred)
    both = _concatenate(true, pred)
    if scheme == "auto":
        table = TagTable(both.classes, _detect(true, pred, both, mode))
    else:
        table = TagTable(both.classes, scheme)
    strict = mode == "strict"
    n_words, offsets = len(true.codes), true.offsets
    actual = find_entities(both.codes[:n_words], offsets, table, strict=strict)
    predicted = find_entities(both.codes[n_words:], offsets, table, strict=strict)
    n_types, longest = len(table.types), int(np.diff(offsets).max(initial=0))
    is_correct = np.isin(
        _keys(actual, offsets, longest, n_types),
        _keys(predicted, offsets, longest, n_types),
        assume_unique=True,
    )
    weights = _check_weights(sample_weight, len(offsets) - 1)

    def count(spans: Spans, chosen: Any = slice(None)) -> np.ndarray:
        return np.bincount(
            spans.type[chosen],
            weights=None if weights is None else weights[spans.text[chosen]],
            minlength=n_types,
        )

    counts = Counts(
        table.types, count(actual, is_correct), count(predicted), count(actual)
    )
    return counts.of(np.union1d(actual.type, predicted.type))


def _keys(spans: Spans, offsets: np.ndarray, longest: int, n_types: int) -> np.ndarray:
    """Return a key per entity, unique for its words and type."""
    first, length = offsets[spans.text] + spans.start, spans.end - spans.start
    return (first * (longest + 1) + length) * n_types + spans.type


def _require_same_words(true: EncodedTags, pred: EncodedTags) -> None:
    n_true, n_pred = np.diff(true.offsets), np.diff(pred.offsets)
    if len(n_true) != len(n_pred):
        raise ValueError(
            "y_true and y_pred must hold the tags of the same texts. Got "
            f"{len(n_true)} texts in y_true, but {len(n_pred)} in y_pred."
        )
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


def _check_weights(sample_weight: Any, n_texts: int) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_texts,):
        raise ValueError(
            f"sample_weight must hold a number for each of the {n_texts} texts. Got an "
            f"array of shape {weights.shape} instead."
        )
    return weights


_MISSING = {
    "precision": "y_pred has no entity",
    "recall": "y_true has no entity",
    "f1-score": "neither y_true nor y_pred has an entity",
}


def score_of(
    metric: str, counts: Counts, average: str | None, zero_division: Any
) -> Any:
    """Compute precision, recall or F1 from counts.

    Parameters
    ----------
    metric : {"precision", "recall", "f1-score"}
        Metric to compute.
    counts : Counts
        Numbers of entities of each type.
    average : {"micro", "macro", "weighted"} or None
        Averaging over the entity types.
    zero_division : {"warn", 0, 1}
        Value of 0 divided by 0; "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        Average score, or the score of each type if `average` is None.

    Warns
    -----
    UndefinedMetricWarning
        If a score is 0 divided by 0. The stack level is that of the public function.
    """
    weights = counts.actual if average == "weighted" else np.ones(len(counts.types))
    if average == "micro" or (average is not None and weights.sum() == 0):
        counts, weights = counts.total(), np.ones(1)
    numerator, denominator = {
        "precision": (counts.correct, counts.predicted),
        "recall": (counts.correct, counts.actual),
        "f1-score": (2 * counts.correct, counts.predicted + counts.actual),
    }[metric]
    is_defined = denominator != 0
    if zero_division == "warn" and not is_defined.all():
        names = [
            t for t, known in zip(counts.types, is_defined, strict=True) if not known
        ]
        warnings.warn(
            f"The {metric} is undefined and set to 0, as {_MISSING[metric]} of "
            f"{'any type' if names == ['any'] else f'the types {names}'}. Choose its "
            "value with zero_division=0 or 1.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
    undefined = 0.0 if zero_division == "warn" else float(zero_division)
    scores = np.full(len(denominator), undefined)
    np.divide(numerator, denominator, out=scores, where=is_defined)
    return scores if average is None else float(np.average(scores, weights=weights))
