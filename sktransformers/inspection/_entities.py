"""`EntityDisplay`: entities highlighted in their texts, as HTML or a figure."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import groupby, pairwise
from numbers import Integral
from reprlib import repr as shorten
from typing import Any, Self

from ..exceptions import TextTypeError, TextValueError

_INK, _CHIP = "#1a1a1a", "#ffffff"
# Background and edge colours: tints of the colour-blind safe palette of Okabe and Ito,
# light enough for text in _INK, and the palette itself.
_PALETTE = (
    ("#f1ca73", "#e69f00"),
    ("#bfe3f7", "#56b4e9"),
    ("#80ceb9", "#009e73"),
    ("#e8c3d7", "#cc79a7"),
    ("#f6ef8e", "#c9bb00"),
    ("#66aad1", "#0072b2"),
    ("#e69e66", "#d55e00"),
)
_TEXT_STYLE = "white-space:pre-wrap;overflow-wrap:anywhere"
_MARK_STYLE = (
    f"color:{_INK};background:{{}};border:1px solid {{}};border-radius:.3em;"
    "padding:.1em .2em;-webkit-box-decoration-break:clone;box-decoration-break:clone"
)
_LABEL_STYLE = (
    f"color:{_INK};background:{_CHIP};border-radius:.25em;font-size:.72em;"
    "margin:0 .25em;white-space:nowrap;unicode-bidi:plaintext;user-select:none"
)
# Han, kana, their punctuation and full-width forms, written without spaces.
_CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uff01-\uff9f\U00020000-\U0003ffff]")
# The figure is a character grid: character width in font sizes, and heights and margin
# in character widths.
_LETTER = 0.602  # of DejaVu Sans Mono
_LINE, _MARK, _MARGIN = 3.1, 2.3, 1.5


class EntityDisplay:
    """Visualization of entities highlighted in their texts.

    Notebooks show the display as HTML; `plot` draws it with matplotlib. The label is
    shown next to each entity, so that colour is not the only cue. The seven colours are
    assigned to the sorted labels in turn. `from_estimator` and `from_predictions`
    validate their input, whereas the constructor only stores it.

    Parameters
    ----------
    texts : list of str
        Texts to show.
    entities : list of list of dict
        Entities of each text, sorted and non-overlapping, with the keys "text",
        "label", "start", "end" (character offsets) and "score" (None: unknown).

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the last `plot`.
    figure_ : matplotlib.figure.Figure
        Figure of `ax_`.

    Examples
    --------
    >>> from sktransformers.inspection import EntityDisplay
    >>> ada = {"text": "Ada Lovelace", "label": "PER", "start": 0, "end": 12}
    >>> city = {"text": "London", "label": "LOC", "start": 22, "end": 28}
    >>> texts = ["Ada Lovelace lived in London."]
    >>> display = EntityDisplay.from_predictions(texts, [[ada, city]])
    >>> display
    EntityDisplay(n_texts=1, n_entities=2, labels=['LOC', 'PER'])
    >>> display.plot()  # doctest: +SKIP
    """

    def __init__(self, *, texts: list[str], entities: list[list[dict]]) -> None:
        self.texts = texts
        self.entities = entities

    @classmethod
    def from_estimator(cls, tagger: Any, X: Any) -> Self:
        """Create a display of the entities predicted by a fitted tagger.

        Parameters
        ----------
        tagger : estimator
            Fitted tagger with a method ``predict_entities``.
        X : sequence of str or of token lists
            Texts.

        Returns
        -------
        EntityDisplay
            Display, not drawn yet.
        """
        return cls.from_predictions(X, tagger.predict_entities(X))

    @classmethod
    def from_predictions(cls, X: Any, entities: Any) -> Self:
        """Create a display of given entities, predicted or annotated.

        Parameters
        ----------
        X : sequence of str or of token lists
            Texts. Tokens are joined by spaces, except Chinese and Japanese tokens.
        entities : sequence of sequences of dict
            Entities of each text in any order, with the keys "text", "label", "start",
            "end" and, if known, "score". Offsets are in characters for a str and in
            tokens for a list; the end is exclusive.

        Returns
        -------
        EntityDisplay
            Display, not drawn yet.

        Raises
        ------
        TextTypeError
            If X is not a sequence of texts.
        TextValueError
            If X is a single string, or one of its rows is not a text.
        TypeError
            If `entities` does not consist of lists of dicts.
        ValueError
            If entities do not match their texts or overlap; the message names them.
        """
        rows = _check_texts(X)
        lists = _check_list(entities, "entities", "a list of lists of dicts")
        if len(lists) != len(rows):
            raise ValueError(
                f"X holds {len(rows)} texts but entities {len(lists)} lists. Pass one "
                "list for each text, empty where there is no entity."
            )
        pairs = [_check_entities(lists[i], i, row) for i, row in enumerate(rows)]
        return cls(texts=[text for text, _ in pairs], entities=[e for _, e in pairs])

    def __repr__(self) -> str:
        counts = f"n_texts={len(self.texts)}, n_entities={sum(map(len, self.entities))}"
        return f"{type(self).__name__}({counts}, labels={shorten([*self._colors()])})"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return the display as an HTML fragment.

        The fragment has inline styles, no scripts, is readable on light and dark pages
        and escapes all text. The texts are numbered by their index.

        Returns
        -------
        str
            An ``<ol>`` element. Its ``<mark>`` elements are the entities, each followed
            by its label, with the score as a tooltip.
        """
        colors, rows = self._colors(), zip(self.texts, self.entities, strict=True)
        items = "".join(_html(text, spans, colors) for text, spans in rows)
        # The classes prevent notebooks from rendering dollar signs as formulas.
        return (
            '<ol class="sktransformers-entities tex2jax_ignore mathjax_ignore" '
            f'start="0" style="line-height:2">\n{items}</ol>'
        )

    def plot(
        self, ax: Any = None, *, max_texts: int | None = 10, width: int = 80
    ) -> Self:
        """Draw the display with matplotlib.

        Characters without a glyph are drawn as boxes; add a font that has them to
        ``matplotlib.rcParams["font.family"]``. Words are drawn from left to right; use
        HTML for right-to-left scripts.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; the font size is reduced to fit. None: a new figure.
        max_texts : int or None, default=10
            Maximum number of texts to draw. None: all.
        width : int, default=80
            Characters per line. Chinese and Japanese characters count twice.

        Returns
        -------
        EntityDisplay
            The display, with ``ax_`` and ``figure_``.
        """
        from .._compat import check_matplotlib_support

        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if width < 1 or (max_texts is not None and max_texts < 1):
            raise ValueError(f"Expected at least 1. Got {max_texts=} and {width=}.")
        lines = list(self._lines(max_texts, width))
        indent = max(len(number) for number, _ in lines)
        extent = indent + width + 2 * _MARGIN, len(lines) * _LINE + 2 * _MARGIN
        size = plt.rcParams["font.size"]
        if ax is None:
            inches = [side * size * _LETTER / 72 for side in extent]
            ax = plt.figure(figsize=inches).add_axes((0, 0, 1, 1))
        size = min(size, *(ax.bbox.size / ax.figure.dpi * 72 / _LETTER / extent))
        y, colors = _MARGIN, self._colors()
        for number, cells in lines:
            _draw(ax, size, _cells(number), _MARGIN, y, colors)
            _draw(ax, size, cells, _MARGIN + indent, y, colors)
            y += _LINE
        ax.set_axis_off()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _colors(self) -> dict[str, tuple[str, str]]:
        labels = sorted({span["label"] for spans in self.entities for span in spans})
        return {label: _PALETTE[i % len(_PALETTE)] for i, label in enumerate(labels)}

    def _lines(self, max_texts: int | None, width: int) -> Iterator[tuple[str, list]]:
        """Yield each line's text number, empty on continuation lines, and its cells."""
        legend: list[tuple] = []
        for label in self._colors():
            legend += _cells(label, {"label": label}) + _cells("  ")
        blocks = [("", legend)]
        for i, text in enumerate(self.texts[:max_texts]):
            blocks.append((f"{i}  ", cells := []))
            for chunk, span in _segments(text, self.entities[i]):
                cells += _cells(chunk, span)
                cells += _cells(f"\u00a0{span['label']}", span, True) if span else []
        if rest := len(self.texts) - len(blocks) + 1:
            blocks.append(("", _cells(f"... and {rest} more")))
        for number, cells in blocks:
            for line in _wrap(cells, width):
                yield number, line
                number = ""


def _html(text: str, spans: list[dict], colors: dict[str, tuple[str, str]]) -> str:
    html = f'<li><div dir="auto" style="{_TEXT_STYLE}">'
    for chunk, span in _segments(text, spans):
        if span is None:
            html += escape(chunk)
            continue
        label, score = escape(span["label"]), span["score"]
        tooltip = label if score is None else f"{label}, score {score:.3f}"
        style = _MARK_STYLE.format(*colors[span["label"]])
        html += (
            f'<mark title="{tooltip}" style="{style}">{escape(chunk)}'
            f'<b style="{_LABEL_STYLE}">&nbsp;{label}&nbsp;</b></mark>'
        )
    return f"{html}</div></li>\n"


def _segments(text: str, spans: list[dict]) -> Iterator[tuple[str, Any]]:
    """Split a text at its entities; yield each part with its entity or None."""
    end = 0
    for span in spans:
        yield text[end : span["start"]], None
        yield text[span["start"] : span["end"]], span
        end = span["end"]
    yield text[end:], None


def _cells(text: str, span: Any = None, is_label: bool = False) -> list[tuple]:
    return [(char, span, is_label) for char in text]


def _width(cells: list[tuple]) -> int:
    """Count columns: two for a wide character, none for a combining mark."""
    wide = sum(unicodedata.east_asian_width(cell[0]) in "WF" for cell in cells)
    marks = sum(unicodedata.category(cell[0]) in ("Mn", "Me", "Cf") for cell in cells)
    return len(cells) + wide - marks


def _wrap(cells: list[tuple], width: int) -> Iterator[list[tuple]]:
    """Split cells into lines, if possible after a space or a wide character."""
    line: list[tuple] = []
    for cell in cells:
        if cell[0] not in " \n" and _width([*line, cell]) > width:
            ends = [i for i, c in enumerate(line, 1) if c[0] == " " or _width([c]) > 1]
            cut = ends[-1] if ends else len(line)
            yield line[:cut]
            line = line[cut:]
        line.append(cell)
        if cell[0] == "\n":
            yield line
            line = []
    yield line


def _draw(ax: Any, size: float, cells: list, x: float, y: float, colors: dict) -> None:
    """Draw a line at x, y, in character widths from the upper left corner."""
    from matplotlib import patches, rcParams, transforms

    unit = size * _LETTER / 72
    corner = transforms.ScaledTranslation(0, 1, ax.transAxes)
    grid = transforms.Affine2D().scale(unit, -unit) + ax.figure.dpi_scale_trans + corner
    family = ["DejaVu Sans Mono", *rcParams["font.family"], "DejaVu Sans"]
    look: dict[str, Any] = {"family": family, "size": size, "transform": grid}
    look |= {"ha": "center", "parse_math": False, "usetex": False}
    for span, group in groupby(cells, key=lambda cell: cell[1]):
        entity = list(group)
        if span:
            face, edge = colors[span["label"]]
            place = (x - 0.2, y + (_LINE - _MARK) / 2), _width(entity) + 0.4, _MARK
            box = patches.FancyBboxPatch(*place, "round,pad=0,rounding_size=0.4")
            box.set(facecolor=face, edgecolor=edge, transform=grid)
            ax.add_patch(box)
        # Draw whole words, so that the font can join their letters.
        for _, run in groupby(
            entity, lambda c: (c[0].isspace() or _width([c]) > 1) and id(c)
        ):
            word = list(run)
            look["weight"] = "bold" if word[0][2] else "normal"
            look["color"] = _INK if span else rcParams["text.color"]
            text = _drawable("".join(cell[0] for cell in word), family, look["weight"])
            if text:
                ax.text(x + _width(word) / 2, y + 0.62 * _LINE, text, **look)
            x += _width(word)


def _drawable(text: str, family: list[str], weight: str) -> str:
    """Drop invisible characters, and replace those without a glyph by a box."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    each = [FontProperties(family=[name], weight=weight) for name in family]
    fonts = [get_font(findfont(font)) for font in each]
    return "".join(
        char if any(font.get_char_index(ord(char)) for font in fonts) else "\u25a1"
        for char in text
        if unicodedata.category(char) not in ("Cc", "Cf", "Zs", "Zl", "Zp")
    )


def _check_list(value: Any, name: str, wanted: str, error: Any = TypeError) -> list:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise error(f"{name} must be {wanted}. Got {shorten(value)} instead.")
    return list(value)


def _check_texts(X: Any) -> list[Any]:
    if isinstance(X, str):
        raise TextValueError("X is a single str. Wrap it in a list: [text].")
    if hasattr(X, "columns"):
        raise TextTypeError("X is a data frame. Pass its column of texts: X[name].")
    rows = _check_list(X, "X", "a list of texts", TextTypeError)
    for i, row in enumerate(rows):
        if not isinstance(row, str):
            wanted = "a str or a list of str"
            rows[i] = _check_list(row, f"X[{i}]", wanted, TextValueError)
            if not all(isinstance(token, str) for token in rows[i]):
                raise TextValueError(f"X[{i}] must be {wanted}. Got {shorten(row)}.")
    return rows


def _join(row: Any) -> tuple[str, list[tuple[int, int]]]:
    """Return a text, and the start and end of each character or token in it."""
    if isinstance(row, str):
        return row, [(i, i + 1) for i in range(len(row))]
    text, bounds = "", list[tuple[int, int]]()
    for token in row:
        if bounds and not (_CJK.match(text[-1:]) and _CJK.match(token)):
            text += " "
        bounds.append((len(text), len(text) + len(token)))
        text += token
    return text, bounds


def _check_entities(spans: Any, i: int, row: Any) -> tuple[str, list[dict[str, Any]]]:
    """Return a text and its sorted entities, with character offsets."""
    text, bounds = _join(row)
    checked = []
    for j, span in enumerate(_check_list(spans, f"entities[{i}]", "a list of dicts")):
        where = f"entities[{i}][{j}]"
        if not isinstance(span, Mapping):
            raise TypeError(f"{where} must be a dict. Got {shorten(span)} instead.")
        if missing := {"text", "label", "start", "end"} - set(span):
            raise ValueError(f"{where} lacks {sorted(missing)}. Got {dict(span)}.")
        start, end, found = span["start"], span["end"], span["text"]
        whole = isinstance(start, Integral) and isinstance(end, Integral)
        if not (whole and 0 <= start < end <= len(row)):
            raise ValueError(
                f"{where}, {found!r}, must have 0 <= start < end <= {len(row)}, the "
                f"length of X[{i}]. Got start={start!r} and end={end!r}."
            )
        there = row[start:end], " ".join(row[start:end]), "".join(row[start:end])
        if found not in there:
            raise ValueError(
                f"{where} is {found!r}, but X[{i}][{start}:{end}] is {there[0]!r}. "
                "Pass the X from which the entities were predicted."
            )
        a, b = bounds[start][0], bounds[end - 1][1]
        rest = {"label": str(span["label"]), "score": span.get("score")}
        checked.append({"text": text[a:b], "start": a, "end": b, **rest})
    checked.sort(key=lambda span: span["start"])
    for one, other in pairwise(checked):
        if other["start"] < one["end"]:
            raise ValueError(
                f"entities[{i}]: {one['text']!r} and {other['text']!r} overlap. Keep "
                "one of them."
            )
    return text, checked
