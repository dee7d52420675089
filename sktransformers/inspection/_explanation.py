"""`Explanation`: attributions of the words of a text."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Explanation:
    """Attributions of the words of one text.

    Parameters
    ----------
    texts : tuple of str
        The text, or the texts of each column.
    target : object
        What the score is for: class label, column of y, entity, or output text.
    score : float
        Score of the text: log-odds of a class, predicted number, or log-probability of
        an output text.
    baseline_score : float
        Score without any word.
    words : list of dict
        The words in order, with the keys "text", "column" (index of the text column),
        "start", "end" (character offsets), "attribution" (in units of the score;
        positive: the word increases it) and "is_read" (False if truncation leaves the
        word out).
    tokens : list of dict, optional
        The tokens with the same keys; empty for the method "occlusion".
    method : {"integrated_gradients", "occlusion"}, default="occlusion"
        Method that computed the attributions.
    sample_index : int, default=0
        Index of the text in X.
    output_tokens : list of str, optional
        Tokens of the output text of a generator.
    output_attributions : ndarray of shape (n_words, n_output_tokens), optional
        Attribution of each output token to each word, for a generator.

    Examples
    --------
    >>> from sktransformers.inspection import Explanation
    >>> word = {"text": "Good", "column": 0, "start": 0, "end": 4}
    >>> word |= {"attribution": 1.5, "is_read": True}
    >>> Explanation(("Good",), "pos", score=2.0, baseline_score=0.5, words=[word])
    Explanation(target='pos', score=2.00, n_words=1, top={'Good': +1.50})
    """

    texts: tuple[str, ...]
    target: Any
    score: float
    baseline_score: float
    words: list[dict[str, Any]]
    tokens: list[dict[str, Any]] = field(default_factory=list, repr=False)
    method: str = "occlusion"
    sample_index: int = 0
    output_tokens: list[str] = field(default_factory=list, repr=False)
    output_attributions: np.ndarray | None = field(default=None, repr=False)

    @property
    def attributions(self) -> np.ndarray:
        """Attribution of each word, of shape (n_words,)."""
        return np.array([word["attribution"] for word in self.words], dtype=np.float64)

    def __repr__(self) -> str:
        order = np.argsort(-np.abs(self.attributions), kind="stable")[:3]
        top = ", ".join(
            f"{self.words[i]['text']!r}: {self.words[i]['attribution']:+.2f}"
            for i in order
        )
        return (
            f"Explanation(target={self.target!r}, score={self.score:.2f}, "
            f"n_words={len(self.words)}, top={{{top}}})"
        )
