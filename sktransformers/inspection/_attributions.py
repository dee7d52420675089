"""`AttributionDisplay`: words coloured by their attributions, as HTML or bars."""

from collections.abc import Sequence
from html import escape
from typing import Any, Self

import numpy as np

from ._explain import check_count, explain
from ._explanation import Explanation

# A blue and an orange that are told apart with any colour vision.
_POSITIVE, _NEGATIVE = (86, 180, 233), (230, 159, 0)
_INK = "#1a1a1a"
_TEXT_STYLE = "white-space:pre-wrap;overflow-wrap:anywhere"
_SCORE_STYLE = "font-size:.85em;opacity:.8"


class AttributionDisplay:
    """Visualization of which words speak for a prediction and which against it.

    Notebooks show the display as HTML; `plot` draws the most important words as bars.
    Words that increase the score have a blue background, those that decrease it an
    orange one and an underline; the intensity is the size of the attribution relative
    to the largest of the text. The attribution is the tooltip of a word.

    Parameters
    ----------
    explanations : list of Explanation
        Explanations to show.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the last `plot`; an array of axes for several explanations.
    figure_ : matplotlib.figure.Figure
        Figure of `ax_`.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransformers.inspection import AttributionDisplay
    >>> model = make_pipeline(CountVectorizer(), LogisticRegression())
    >>> _ = model.fit(["good film", "bad film", "good", "bad"], [1, 0, 1, 0])
    >>> display = AttributionDisplay.from_estimator(model, ["a good film"])
    >>> display
    AttributionDisplay(n_explanations=1)
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(self, explanations: list[Explanation]) -> None:
        self.explanations = explanations

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        target: Any = None,
        *,
        method: str = "auto",
        n_steps: int = 16,
    ) -> Self:
        """Explain texts and create the display.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator, as for :func:`explain`.
        X : array-like of str of shape (n_texts,), pairs or DataFrame
            Texts.
        target : class label, int or str, default=None
            What to explain. If None, the predictions.
        method : {"auto", "integrated_gradients", "occlusion"}, default="auto"
            Method, see :func:`explain`.
        n_steps : int, default=16
            Initial number of steps of integrated gradients.

        Returns
        -------
        AttributionDisplay
            Display, not drawn yet.
        """
        return cls(explain(estimator, X, target, method=method, n_steps=n_steps))

    @classmethod
    def from_explanations(cls, explanations: Sequence[Explanation]) -> Self:
        """Create a display of given explanations.

        Parameters
        ----------
        explanations : sequence of Explanation
            Explanations to show.

        Returns
        -------
        AttributionDisplay
            Display, not drawn yet.

        Raises
        ------
        TypeError
            If the sequence holds anything else.
        """
        for i, explanation in enumerate(explanations):
            if not isinstance(explanation, Explanation):
                raise TypeError(
                    "explanations must be a sequence of Explanation, as returned by "
                    f"explain. Item {i} is a {type(explanation).__name__}."
                )
        return cls(list(explanations))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_explanations={len(self.explanations)})"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return the display as an HTML fragment.

        The fragment has inline styles, no scripts, is readable on light and dark pages
        and escapes all text.

        Returns
        -------
        str
            An ``<ol>`` element with one item for each explanation: the target and its
            score, and the text with its words marked.
        """
        items = "".join(_item(explanation) for explanation in self.explanations)
        return (
            '<ol class="sktransformers-attributions tex2jax_ignore mathjax_ignore" '
            f'start="0" style="line-height:1.8">\n{items}</ol>'
        )

    def plot(self, ax: Any = None, *, max_words: int = 10) -> Self:
        """Draw the most important words of each explanation as bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or sequence of Axes, default=None
            One for each explanation. None: a new figure.
        max_words : int, default=10
            Maximum number of words of a text, those of the largest attributions.

        Returns
        -------
        AttributionDisplay
            The display, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If the number of axes is not that of the explanations, or `max_words` is
            below 1.
        """
        from .._compat import check_matplotlib_support

        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        check_count("max_words", max_words)
        n = len(self.explanations)
        if ax is None:
            rows = [min(max_words, len(e.words)) for e in self.explanations]
            size = (6.0, sum(0.28 * count + 0.9 for count in rows))
            _, ax = plt.subplots(n, figsize=size, layout="constrained", squeeze=False)
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n:
            raise ValueError(f"ax must hold {n} axes, one for each explanation.")
        for one, explanation in zip(axes, self.explanations, strict=True):
            _draw(one, explanation, max_words)
        self.ax_ = axes[0] if n == 1 else axes
        self.figure_ = axes[0].figure
        return self


def _title(explanation: Explanation) -> str:
    target = explanation.target
    if isinstance(target, dict):  # an entity
        target = f"{target['label']}: {target['text']}"
    return f"{target} (score {explanation.score:.2f})"


def _item(explanation: Explanation) -> str:
    largest = np.abs(explanation.attributions).max(initial=0.0) or 1.0
    parts = []
    for column, text in enumerate(explanation.texts):
        html, end = "", 0
        for word in explanation.words:
            if word["column"] == column:
                html += escape(text[end : word["start"]]) + _mark(word, largest)
                end = word["end"]
        html += escape(text[end:])
        parts.append(f'<div dir="auto" style="{_TEXT_STYLE}">{html}</div>')
    title = escape(_title(explanation))
    return f'<li><b style="{_SCORE_STYLE}">{title}</b>{"".join(parts)}</li>\n'


def _mark(word: dict[str, Any], largest: float) -> str:
    text, value = escape(word["text"]), word["attribution"]
    if not word["is_read"]:
        return f'<s title="truncated" style="opacity:.5">{text}</s>'
    share = abs(value) / largest
    if share < 0.05:
        return f'<span title="{value:+.3f}">{text}</span>'
    color = _POSITIVE if value > 0 else _NEGATIVE
    # Mixed with white instead of transparent, so that dark pages keep the contrast.
    mixed = [round(255 - share * (255 - channel)) for channel in color]
    style = f"color:{_INK};background:rgb({','.join(map(str, mixed))})"
    style += ";border-radius:.2em;padding:.05em .1em"
    if value < 0:
        style += ";text-decoration:underline dotted"
    return f'<mark title="{value:+.3f}" style="{style}">{text}</mark>'


def _draw(ax: Any, explanation: Explanation, max_words: int) -> None:
    values = explanation.attributions
    order = np.argsort(-np.abs(values), kind="stable")[:max_words]
    order = np.sort(order)[::-1]  # in the order of the text, from above
    colors = ["#0072b2" if values[i] > 0 else "#d55e00" for i in order]
    places = np.arange(len(order))
    ax.barh(places, values[order], color=colors)
    words = [explanation.words[i]["text"] for i in order]
    ax.set_yticks(places, words, parse_math=False)
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set(xlabel="attribution")
    ax.set_title(_title(explanation), parse_math=False)
