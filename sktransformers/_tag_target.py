"""Tag lists in, ids of words out; outputs in, tags that follow their scheme out."""

from typing import Any

import numpy as np

from ._tags import (
    Spans,
    TagTable,
    allowed_transitions,
    encode_tags,
    find_entities,
    scheme_of,
)
from ._targets import LabelTarget
from .metrics import entity_f1_score

# Of a transition that the scheme forbids: more than all scores of a text together, so
# that one is only made where there is no other way.
_FORBIDDEN = -1e9
_MOST_TEXTS = 1024  # decoded at a time, so that intermediate results stay small


class TagTarget(LabelTarget):
    """One tag for each word.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The tags, sorted.
    scheme : str
        One of ``SCHEMES``.

    Attributes
    ----------
    table : TagTable
        What each tag says of its word.
    """

    def __init__(self, classes: np.ndarray, scheme: str) -> None:
        super().__init__(classes)
        self.scheme = scheme
        self.table = TagTable(classes.tolist(), scheme)
        transitions = allowed_transitions(classes.tolist(), scheme)
        self._start, self._between, self._end = transitions

    def counts(self, y: np.ndarray) -> np.ndarray:
        """Return the number of tags of each text."""
        return np.fromiter(map(len, y), dtype=np.int64, count=len(y))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the position of each tag among the classes, all texts in a row.

        Parameters
        ----------
        y : ndarray of shape (n_texts,)
            Tag lists, as :func:`check_tags` returns them.

        Returns
        -------
        ndarray of shape (n_words,)
            int64.

        Raises
        ------
        ValueError
            A tag is not among the classes; the message names the text.
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
                f"which is not among the classes {self.classes.tolist()}. Start anew "
                "with a fit that sees every tag."
            )
        return codes

    def decode_words(
        self, outputs: np.ndarray, counts: np.ndarray, *, constrained: bool = True
    ) -> np.ndarray:
        """Return the best tag of each word, as its position among the classes.

        Parameters
        ----------
        outputs : ndarray of shape (n_words, n_classes)
            Of all texts in a row.
        counts : ndarray of shape (n_texts,)
            Number of words in each text.
        constrained : bool, default=True
            Whether a text's tags together must be some that the scheme allows.

        Returns
        -------
        ndarray of shape (n_words,)
            Of all ways to tag a text that the scheme allows, the one with the greatest
            sum of outputs.
        """
        codes = outputs.argmax(axis=1)
        if not constrained or self._between.all():
            return codes
        ends = np.cumsum(counts)
        # Where the best tags are allowed, no others can be better.
        broken = np.flatnonzero(self._is_broken(codes, counts, ends))
        broken = broken[np.argsort(-counts[broken], kind="stable")]
        for first in range(0, len(broken), _MOST_TEXTS):
            texts = broken[first : first + _MOST_TEXTS]
            starts, lengths = (ends - counts)[texts], counts[texts]
            self._decode_together(outputs, starts, lengths, codes)
        return codes

    def _is_broken(
        self, codes: np.ndarray, counts: np.ndarray, ends: np.ndarray
    ) -> np.ndarray:
        """Return whether each text has tags that the scheme does not allow."""
        texts = np.repeat(np.arange(len(counts)), counts)
        wrong = ~self._between[codes[:-1], codes[1:]] & (texts[:-1] == texts[1:])
        is_broken = np.bincount(texts[1:][wrong], minlength=len(counts)) > 0
        some = counts > 0
        is_broken[some] |= ~self._start[codes[(ends - counts)[some]]]
        is_broken[some] |= ~self._end[codes[ends[some] - 1]]
        return is_broken

    def _decode_together(
        self,
        outputs: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Run Viterbi's algorithm on some texts, longest first; write to ``codes``."""
        start, between, end = (
            np.where(allowed, 0.0, _FORBIDDEN)
            for allowed in (self._start, self._between, self._end)
        )
        # How many texts have a word number 0, 1, ...
        n_active = np.searchsorted(-lengths, -np.arange(1, lengths[0] + 1), "right")
        slots = offsets_of(n_active)
        pointers = np.empty((slots[-1], len(start)), dtype=np.int16)
        best = outputs[starts] + start  # of all ways to reach a tag, the greatest sum
        for number in range(1, lengths[0]):
            n = n_active[number]
            sums = best[:n, :, None] + between
            pointers[slots[number] : slots[number + 1]] = sums.argmax(axis=1)
            best[:n] = sums.max(axis=1) + outputs[starts[:n] + number]
            # Only differences matter, and of great sums little is left of them.
            best[:n] -= best[:n].max(axis=1, keepdims=True)
        tags = (best + end).argmax(axis=1)
        for number in range(lengths[0] - 1, -1, -1):
            n = n_active[number]
            codes[starts[:n] + number] = tags[:n]
            if number:
                tags[:n] = pointers[slots[number] + np.arange(n), tags[:n]]

    def find_entities(self, codes: np.ndarray, counts: np.ndarray) -> Spans:
        """Return the entities that tags spell out."""
        return find_entities(codes, offsets_of(counts), self.table)

    def tag_lists(self, codes: np.ndarray, counts: np.ndarray) -> list[list[str]]:
        """Return the tags of each text, in a list."""
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
        """Return the F1 of the entities; for plain tags the weighted accuracy."""
        codes = self.decode_words(outputs, counts)
        if self.scheme == "plain":
            return float(np.average(codes == targets, weights=weights))
        true, predicted = (self.tag_lists(c, counts) for c in (targets, codes))
        return float(
            entity_f1_score(true, predicted, scheme=self.scheme, zero_division=0)
        )


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """Return where each text begins among all words, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)])


def check_tags(y: Any) -> np.ndarray:
    """Check tag lists and return them in an array of objects.

    Parameters
    ----------
    y : array-like of shape (n_texts,)
        Lists, tuples, arrays or Series of str.

    Returns
    -------
    ndarray of shape (n_texts,)
        Of lists of str.

    Raises
    ------
    ValueError
        y is missing or holds something other than lists of str; the message says
        where.
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


def tag_target(y: np.ndarray, scheme: str) -> TagTarget:
    """Return the target that fits checked tag lists.

    Parameters
    ----------
    y : ndarray of shape (n_texts,)
        Tag lists.
    scheme : str
        One of ``SCHEMES``, or "auto": the one that y follows.

    Returns
    -------
    TagTarget
        Of the tags that occur.

    Raises
    ------
    ValueError
        There is no tag at all, or one that the scheme does not know.
    """
    encoded = encode_tags(y)
    if not encoded.classes:
        raise ValueError(
            "y has no tags: all texts are empty. At least one must have words."
        )
    if scheme == "auto":
        scheme = scheme_of(encoded)
    return TagTarget(np.array(encoded.classes), scheme)


class RaggedList(list):
    """A list of an entry for each text, which NumPy takes for one dimension.

    So that scikit-learn can join the predictions of several folds.
    """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self), dtype=object)
        for position, entry in enumerate(self):
            array[position] = entry
        return array
