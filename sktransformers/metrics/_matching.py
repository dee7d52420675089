"""Tags in, counts of entities out; counts in, scores out."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array

from .._tags import (
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
    """Entities of each type: found in both, in y_pred and in y_true.

    `types` holds the names of the types that occur, sorted. The counts are integers,
    or floats where the texts have weights.
    """

    types: list[str]
    right: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray

    def total(self) -> "Counts":
        """Return the counts of all types together, as those of a single one."""
        sums = [counts.sum(keepdims=True) for counts in self._arrays()]
        return Counts(["any"], *sums)

    def of(self, types: np.ndarray) -> "Counts":
        """Return the counts of some types."""
        names = [self.types[i] for i in types]
        return Counts(names, *(counts[types] for counts in self._arrays()))

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.right, self.predicted, self.actual


def count_entities(
    y_true: Any, y_pred: Any, *, mode: str, scheme: str, sample_weight: Any
) -> Counts:
    """Count the entities of tag lists, and those that both sides have.

    Parameters
    ----------
    y_true, y_pred : iterable of sequences of str
        Tags of each text.
    mode : {"default", "strict"}
        How to read them.
    scheme : str
        One of `SCHEMES`, or "auto".
    sample_weight : array-like of shape (n_texts,) or None
        What an entity of each text counts.

    Returns
    -------
    Counts
        Of the types that occur on either side.

    Raises
    ------
    ValueError
        The two do not have the same texts and words, or the tags are not the scheme's.
    """
    true, pred = encode_tags(y_true, "y_true"), encode_tags(y_pred, "y_pred")
    _require_same_words(true, pred)
    both = _joined(true, pred)
    if scheme == "auto":
        table = TagTable(both.classes, _detect(true, pred, both, mode))
    else:
        table = TagTable(both.classes, scheme)
    strict = mode == "strict"
    n_words, offsets = len(true.codes), true.offsets
    actual = find_entities(both.codes[:n_words], offsets, table, strict=strict)
    predicted = find_entities(both.codes[n_words:], offsets, table, strict=strict)
    n_types, longest = len(table.types), int(np.diff(offsets).max(initial=0))
    is_right = np.isin(
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
        table.types, count(actual, is_right), count(predicted), count(actual)
    )
    return counts.of(np.union1d(actual.type, predicted.type))


def _keys(spans: Spans, offsets: np.ndarray, longest: int, n_types: int) -> np.ndarray:
    """Return a number for each entity that stands for its words and its type."""
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


def _joined(true: EncodedTags, pred: EncodedTags) -> EncodedTags:
    """Return the texts of both, one after the other, with common classes."""
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
    """Return the scheme to read the tags by; None for any that has prefixes."""
    is_typed = has_prefixes(true.classes)
    if mode == "default":
        return None if is_typed or has_prefixes(both.classes) else "plain"
    scheme = scheme_of(true)
    if scheme == "plain" and is_typed:
        raise ValueError(
            "mode='strict' needs tags of one scheme, but the tags of y_true are a mix "
            f"or too few to tell: {true.classes}. Name the scheme, or use "
            "mode='default'."
        )
    if scheme == "plain":  # or there is no entity in y_true
        return scheme_of(both)
    if scheme == "IO" and any(tag[0] == "B" for tag in pred.classes if tag):
        return "IOB1"  # of both schemes an entity may begin with "I"
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
        What to compute.
    counts : Counts
        The entities of each type.
    average : {"micro", "macro", "weighted"} or None
        How to make one number of the types' scores.
    zero_division : {"warn", 0, 1}
        What to take for 0 divided by 0; "warn" is 0 with a warning.

    Returns
    -------
    float or ndarray of shape (n_types,)
        The average, or without one the score of each type.

    Warns
    -----
    UndefinedMetricWarning
        A score is 0 divided by 0. It points at the caller's caller's caller.
    """
    weights = counts.actual if average == "weighted" else np.ones(len(counts.types))
    if average == "micro" or (average is not None and weights.sum() == 0):
        counts, weights = counts.total(), np.ones(1)
    numerator, denominator = {
        "precision": (counts.right, counts.predicted),
        "recall": (counts.right, counts.actual),
        "f1-score": (2 * counts.right, counts.predicted + counts.actual),
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
