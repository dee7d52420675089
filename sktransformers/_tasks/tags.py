"""Token classification task: encoding and constrained decoding of tag sequences."""

from typing import Any, Self

import numpy as np

from .._text.ragged import offsets_of
from ..metrics import entity_f1_score
from ..metrics._schemes import (
    Spans,
    TagTable,
    allowed_transitions,
    encode_tags,
    find_entities,
    scheme_of,
)
from .base import names_of_outputs, sort_names
from .labels import LabelTask

# Penalty of a transition that the scheme forbids. It exceeds the sum of the outputs of
# a text, so such a transition is only used if no valid sequence exists.
_FORBIDDEN = -1e9
_MAX_TEXTS = 1024  # decoded at a time, to bound the memory of intermediate results


class TagTask(LabelTask):
    """Token classification: one tag per word.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted tags.
    scheme : str
        Tagging scheme, one of ``SCHEMES``.

    Attributes
    ----------
    table : TagTable
        Entity type and position encoded by each tag.
    """

    kind = "tags"
    estimator = "TransformerTagger"
    head = "TokenClassification"
    pipeline_tag = "token-classification"
    problem_type = None
    predicts_words = True

    def __init__(self, classes: np.ndarray, scheme: str) -> None:
        super().__init__(classes)
        self.scheme = scheme
        self.table = TagTable(classes.tolist(), scheme)
        transitions = allowed_transitions(classes.tolist(), scheme)
        self._start, self._between, self._end = transitions

    def count_targets(self, y: np.ndarray) -> np.ndarray:
        """Return the number of tags of each text."""
        return np.fromiter(map(len, y), dtype=np.int64, count=len(y))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Encode tags as indices into ``classes``, concatenated over the texts.

        Parameters
        ----------
        y : ndarray of shape (n_texts,)
            Tag lists returned by :func:`check_tags`.

        Returns
        -------
        ndarray of shape (n_words,), dtype=int64
            Index of the tag of each word.

        Raises
        ------
        ValueError
            If a tag is not in ``classes``; the message gives the row.
        """
        encoded = encode_tags(y)
        lookup = {tag: i for i, tag in enumerate(self.classes.tolist())}
        positions = np.array([lookup.get(tag, -1) for tag in encoded.classes], int)
        codes = positions[encoded.codes]
        if (codes < 0).any():
            word = int(np.argmin(codes))
            text = int(np.searchsorted(encoded.offsets, word, side="right")) - 1
            raise ValueError(
                f"y[{text}] has the tag {encoded.classes[encoded.codes[word]]!r}, "
                f"which is not among the classes {self.classes.tolist()}. Refit "
                "with data that contain every tag."
            )
        return codes

    def decode_words(
        self, outputs: np.ndarray, counts: np.ndarray, *, constrained: bool = True
    ) -> np.ndarray:
        """Decode the outputs to tags by the Viterbi algorithm.

        Parameters
        ----------
        outputs : ndarray of shape (n_words, n_classes)
            Outputs of the words, concatenated over the texts.
        counts : ndarray of shape (n_texts,)
            Number of words in each text.
        constrained : bool, default=True
            Whether the tag sequence of a text must be valid in the scheme. False
            selects the best tag of each word independently.

        Returns
        -------
        ndarray of shape (n_words,)
            Index of the tag of each word. With ``constrained``, the valid tag sequence
            with the largest sum of outputs.
        """
        codes = outputs.argmax(axis=1)
        if not constrained or self._between.all():
            return codes
        ends = np.cumsum(counts)
        # If the best tags form a valid sequence, it is the optimum.
        invalid = np.flatnonzero(self._is_invalid(codes, counts, ends))
        invalid = invalid[np.argsort(-counts[invalid], kind="stable")]
        for first in range(0, len(invalid), _MAX_TEXTS):
            texts = invalid[first : first + _MAX_TEXTS]
            starts, lengths = (ends - counts)[texts], counts[texts]
            self._viterbi(outputs, starts, lengths, codes)
        return codes

    def _is_invalid(
        self, codes: np.ndarray, counts: np.ndarray, ends: np.ndarray
    ) -> np.ndarray:
        """Return whether the tag sequence of each text violates the scheme."""
        texts = np.repeat(np.arange(len(counts)), counts)
        wrong = ~self._between[codes[:-1], codes[1:]] & (texts[:-1] == texts[1:])
        is_invalid = np.bincount(texts[1:][wrong], minlength=len(counts)) > 0
        some = counts > 0
        is_invalid[some] |= ~self._start[codes[(ends - counts)[some]]]
        is_invalid[some] |= ~self._end[codes[ends[some] - 1]]
        return is_invalid

    def _viterbi(
        self,
        outputs: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Run the Viterbi algorithm on texts, longest first; write to ``codes``."""
        start, between, end = (
            np.where(allowed, 0.0, _FORBIDDEN)
            for allowed in (self._start, self._between, self._end)
        )
        # Number of texts with at least 1, 2, ... words.
        n_active = np.searchsorted(-lengths, -np.arange(1, lengths[0] + 1), "right")
        slots = offsets_of(n_active)
        pointers = np.empty((slots[-1], len(start)), dtype=np.int16)
        best = outputs[starts] + start  # best score of a path to each tag
        for number in range(1, lengths[0]):
            n = n_active[number]
            sums = best[:n, :, None] + between
            pointers[slots[number] : slots[number + 1]] = sums.argmax(axis=1)
            best[:n] = sums.max(axis=1) + outputs[starts[:n] + number]
            # Only differences matter; large sums would lose precision.
            best[:n] -= best[:n].max(axis=1, keepdims=True)
        tags = (best + end).argmax(axis=1)
        for number in range(lengths[0] - 1, -1, -1):
            n = n_active[number]
            codes[starts[:n] + number] = tags[:n]
            if number:
                tags[:n] = pointers[slots[number] + np.arange(n), tags[:n]]

    def find_entities(self, codes: np.ndarray, counts: np.ndarray) -> Spans:
        """Return the entities encoded by the tags."""
        return find_entities(codes, offsets_of(counts), self.table)

    def tag_lists(self, codes: np.ndarray, counts: np.ndarray) -> list[list[str]]:
        """Return the list of tags of each text."""
        tags = self.classes[codes].tolist()
        ends = np.cumsum(counts).tolist()
        starts = [0, *ends[:-1]]
        return [tags[a:b] for a, b in zip(starts, ends, strict=True)]

    def score(
        self,
        outputs: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        counts: np.ndarray,
    ) -> float:
        """Return the entity F1 score, or for plain tags the weighted accuracy."""
        codes = self.decode_words(outputs, counts)
        if self.scheme == "plain":
            return float(np.average(codes == targets, weights=weights))
        true, predicted = (self.tag_lists(c, counts) for c in (targets, codes))
        return float(
            entity_f1_score(true, predicted, scheme=self.scheme, zero_division=0)
        )

    def params_of_head(self) -> dict[str, Any]:
        """Decode without constraints if the tags may follow BIO as well as IOB1."""
        # Each scheme forbids most sequences of the other. Entities are read alike.
        return {"decode": "greedy"} if self.scheme == "BIO" else {}

    @classmethod
    def from_config(cls, config: Any) -> tuple[Self, list[int]] | None:
        """Build the task of a token classification head."""
        classes, order = sort_names(names_of_outputs(config))
        # One sequence per tag: IOB1 and BIO have the same tags, and this selects BIO.
        scheme = scheme_of(encode_tags([[tag] for tag in classes.tolist()]))
        return cls(classes, scheme), order


def check_tags(y: Any) -> np.ndarray:
    """Validate tag lists and convert them to an object array.

    Parameters
    ----------
    y : array-like of shape (n_texts,)
        One list, tuple, array or Series of str per text.

    Returns
    -------
    ndarray of shape (n_texts,), dtype=object
        Lists of str.

    Raises
    ------
    ValueError
        If y is None or contains anything but lists of str; the message gives the row.
    """
    if y is None:
        raise ValueError(
            "This tagger requires y to be passed, but the target y is None."
        )
    if hasattr(y, "columns"):
        raise ValueError(
            "y must hold a list of tags for each text. Got a "
            f"{type(y).__name__} instead; pass the column of the tags."
        )
    if hasattr(y, "to_pylist"):  # Arrow
        y = y.to_pylist()
    y = list(y) if hasattr(y, "__iter__") and not isinstance(y, (str, bytes)) else y
    encode_tags(y)
    checked = np.empty(len(y), dtype=object)
    for position, tags in enumerate(y):
        checked[position] = [str.__str__(tag) for tag in tags]
    return checked


def make_tag_task(y: np.ndarray, scheme: str) -> TagTask:
    """Return the task for validated tag lists.

    Parameters
    ----------
    y : ndarray of shape (n_texts,)
        Tag lists.
    scheme : str
        One of ``SCHEMES``, or "auto" to infer the scheme from y.

    Returns
    -------
    TagTask
        Task with the tags in y.

    Raises
    ------
    ValueError
        If y has no tags, or a tag is invalid in the scheme.
    """
    encoded = encode_tags(y)
    if not encoded.classes:
        raise ValueError(
            "y has no tags: all texts are empty. At least one must have words."
        )
    if scheme == "auto":
        scheme = scheme_of(encoded)
    return TagTask(np.array(encoded.classes), scheme)


class RaggedList(list):
    """A list with one entry per text that NumPy converts to one dimension.

    This lets scikit-learn concatenate the predictions of cross-validation folds.
    """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self), dtype=object)
        for position, entry in enumerate(self):
            array[position] = entry
        return array
