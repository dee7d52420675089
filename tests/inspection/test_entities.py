"""Entities are shown where they are, whatever the text holds."""

import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sktransformers.exceptions import TextTypeError, TextValueError
from sktransformers.inspection import EntityDisplay
from sktransformers.inspection._entities import _CHIP, _INK, _PALETTE

matplotlib.use("Agg")

SCRIPT = "<script>alert('x')</script>"


def span(X, text, label="PER", start=None, **more):
    """Return the entity of a str that has this text."""
    start = X.index(text) if start is None else start
    return {
        "text": text,
        "label": label,
        "start": start,
        "end": start + len(text),
    } | more


def show(text, *entities):
    return EntityDisplay.from_predictions([text], [list(entities)])


class Page(HTMLParser):
    """What a reader sees of the HTML: the texts without the labels, and the marks."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.marks, self.styles, self.tags = (
            [],
            [],
            [],
            [],
            set(),
        )
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        attrs = dict(attrs)
        if tag == "div":
            self.texts.append("")
            assert attrs["dir"] == "auto"
            assert "white-space:pre-wrap" in attrs["style"]
        if tag == "mark":
            self.marks.append({"text": "", "label": "", "title": attrs["title"]})
            self.styles.append(attrs["style"])
        assert not {name for name in attrs if name.startswith("on")}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "b" in self.open:
            self.marks[-1]["label"] += data.strip("\xa0")
        elif "div" in self.open:
            self.texts[-1] += data
            if "mark" in self.open:
                self.marks[-1]["text"] += data
        else:
            assert not data.strip()


TEXTS = {
    "plain": ("Ada lived in London.", ["Ada", "London"]),
    "adjacent": ("ParisLondon", ["Paris", "London"]),
    "whole": ("Paris", ["Paris"]),
    "none": ("nothing here", []),
    "empty": ("", []),
    "spaces": (" a  b\n\n\tc \r\n", ["b\n\n\tc"]),
    "html": (f"say {SCRIPT} & \"quote\" 'it' &lt;", [SCRIPT, "&lt;"]),
    "dollars": (r"$5 and $10_{2} \frac $", ["$5", "$10_{2}"]),
    "emoji": ("hi 👩‍👩‍👧 🎉 👍🏽 bye", ["👩‍👩‍👧", "👍🏽"]),
    "combining": ("cafe\u0301 o\u0308l", ["cafe\u0301"]),
    "Arabic": ("ولد محمد علي في القاهرة", ["محمد علي", "القاهرة"]),
    "Hebrew": ("He said שלום to Dana", ["שלום", "Dana"]),
    "Chinese": ("东京是日本的首都。", ["东京", "日本"]),
    "long word": ("x" * 500, ["x" * 100]),
}


@pytest.fixture(params=TEXTS.values(), ids=TEXTS.keys())
def shown(request):
    text, found = request.param
    return show(text, *(span(text, entity, "L$&") for entity in found))


def test_html_holds_the_text_and_each_entity_once(shown):
    page = Page(shown.to_html())
    assert page.texts == shown.texts
    assert [(m["text"], m["label"], m["title"]) for m in page.marks] == [
        (entity["text"], "L$&", "L$&") for entity in shown.entities[0]
    ]
    assert page.tags <= {"ol", "li", "div", "mark", "b"}
    assert shown._repr_html_() == shown.to_html()


def test_pictures_of_any_text_draw_without_a_warning(shown):
    shown.plot().figure_.canvas.draw()
    matplotlib.pyplot.close(shown.figure_)


def test_labels_cannot_bring_html_along():
    label = f"\"><img src=x onerror='y'>{SCRIPT}"
    html = show("Ada", span("Ada", "Ada", label, score=0.5)).to_html()
    page = Page(html)
    assert page.marks == [
        {"text": "Ada", "label": label, "title": f"{label}, score 0.500"}
    ]
    assert page.tags == {"ol", "li", "div", "mark", "b"}
    assert "<script" not in html


def luminance(color):
    """Return the relative luminance as WCAG 2 defines it."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("background", [_CHIP, *(face for face, _ in _PALETTE)])
def test_text_stands_out_from_its_background(background):
    lighter, darker = luminance(background) + 0.05, luminance(_INK) + 0.05
    assert lighter / darker >= 4.5


def test_each_label_keeps_one_colour_and_many_labels_start_again():
    labels = [f"L{i}" for i in range(len(_PALETTE) + 1)]
    text = " ".join(labels)
    entities = [span(text, label, label) for label in reversed(labels)]
    styles = Page(show(text, *entities).to_html()).styles
    assert styles[-1] == styles[0]
    assert len(set(styles)) == len(_PALETTE)
    assert len({face for face, _ in _PALETTE}) == len(_PALETTE)


def test_tokens_are_joined_with_spaces_but_not_between_chinese_ones():
    X = [["Ada", "Lovelace", "lived"], ["我", "在", "New", "York", "。", "好"], []]
    entities = [
        [{"text": "Ada Lovelace", "label": "PER", "start": 0, "end": 2}],
        [
            {"text": "New York", "label": "LOC", "start": 2, "end": 4},
            {"text": "我 在", "label": "X", "start": 0, "end": 2},
        ],
        [],
    ]
    display = EntityDisplay.from_predictions(X, entities)
    assert display.texts == ["Ada Lovelace lived", "我在 New York 。好", ""]
    assert [e["text"] for e in display.entities[1]] == ["我在", "New York"]
    assert Page(display.to_html()).texts == display.texts


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, iter])
def test_kinds_of_x(kind):
    X = ["Ada", "Bob"]
    entities = [[span("Ada", "Ada", score=np.float32(0.25))], ()]
    display = EntityDisplay.from_predictions(kind(X), entities)
    assert display.texts == X
    assert repr(display) == "EntityDisplay(n_texts=2, n_entities=1, labels=['PER'])"
    assert Page(display.to_html()).marks[0]["title"] == "PER, score 0.250"


def test_from_estimator_asks_the_tagger():
    tagger = SimpleNamespace(predict_entities=lambda X: [[span(x, "Ada")] for x in X])
    display = EntityDisplay.from_estimator(tagger, ["Ada", "not Ada"])
    assert [entities[0]["start"] for entities in display.entities] == [0, 4]
    assert not hasattr(display, "ax_")


def test_no_texts():
    display = EntityDisplay.from_predictions([], [])
    assert repr(display) == "EntityDisplay(n_texts=0, n_entities=0, labels=[])"
    assert Page(display.to_html()).texts == []
    matplotlib.pyplot.close(display.plot().figure_)


ADA = {"text": "Ada", "label": "PER", "start": 0, "end": 3}


@pytest.mark.parametrize(
    ("X", "entities", "error", "message"),
    [
        ("Ada", [[]], TextValueError, r"X is a single str. Wrap it in a list"),
        (7, [[]], TextTypeError, r"X must be a list of texts. Got 7"),
        (pd.DataFrame({"a": ["Ada"]}), [[]], TextTypeError, r"Pass its column"),
        (["Ada", None], [[], []], TextValueError, r"X\[1\] must be a str or a list"),
        ([["Ada", 1]], [[]], TextValueError, r"X\[0\] must be a str or a list of str"),
        (["Ada"], [], ValueError, r"X holds 1 texts but entities 0 lists"),
        (["Ada"], None, TypeError, r"entities must be a list of lists"),
        (["Ada"], [ADA], TypeError, r"entities\[0\] must be a list of dicts"),
        (
            ["Ada"],
            [["Ada"]],
            TypeError,
            r"entities\[0\]\[0\] must be a dict. Got 'Ada'",
        ),
        (
            ["Ada"],
            [[{"text": "Ada"}]],
            ValueError,
            r"lacks \['end', 'label', 'start'\]",
        ),
        (["", "Ad"], [[], [ADA]], ValueError, r"\[1\]\[0\], 'Ada', must .* <= 2, the"),
        (["Ada"], [[ADA | {"start": 3}]], ValueError, r"Got start=3 and end=3"),
        (["Ada"], [[ADA | {"start": -3}]], ValueError, r"Got start=-3"),
        (["Ada"], [[ADA | {"end": 3.0}]], ValueError, r"Got start=0 and end=3.0"),
        (["Bob"], [[ADA]], ValueError, r"is 'Ada', but X\[0\]\[0:3\] is 'Bob'. Pass"),
        (
            [["A", "d", "x"]],
            [[ADA]],
            ValueError,
            r"is 'Ada', but X\[0\]\[0:3\] is \['A",
        ),
        (
            ["Ada"],
            [[ADA, {"text": "da", "label": "X", "start": 1, "end": 3}]],
            ValueError,
            r"entities\[0\]: 'Ada' and 'da' overlap",
        ),
        (["Ada"], [[ADA, ADA]], ValueError, r"'Ada' and 'Ada' overlap"),
    ],
)
def test_errors_name_what_is_wrong(X, entities, error, message):
    with pytest.raises(error, match=message):
        EntityDisplay.from_predictions(X, entities)


@pytest.fixture
def drawn():
    """Return a function that plots, and gives the texts as drawn, line by line."""
    figures = []

    def draw(display, **options):
        figures.append(display.plot(**options).figure_)
        lines = {}
        for artist in display.ax_.texts:
            lines.setdefault(artist.get_position()[1], []).append(artist.get_text())
        return [lines[y] for y in sorted(lines)]

    yield draw
    for figure in figures:
        matplotlib.pyplot.close(figure)


def test_picture_shows_a_legend_numbers_texts_and_labels(drawn):
    X = ["Ada lived in London", "Bob", "no more"]
    entities = [[span(X[0], "London", "LOC"), span(X[0], "Ada")], [], []]
    display = EntityDisplay.from_predictions(X, entities)
    assert drawn(display, max_texts=2) == [
        ["LOC", "PER"],
        ["0", "Ada", "PER", "lived", "in", "London", "LOC"],
        ["1", "Bob"],
        ["...", "and", "1", "more"],
    ]
    assert len(drawn(display)) == 4
    assert len(drawn(display, max_texts=None)[-1]) == len(["2", "no", "more"])
    bold = [a.get_text() for a in display.ax_.texts if a.get_weight() == "bold"]
    assert bold == ["PER", "LOC"]
    assert len(display.ax_.patches) == 4  # two in the legend


def test_picture_does_not_read_dollars_as_formulas(drawn):
    text = r"$5 \frac $ ^"
    display = show(text, span(text, "$5", "$_$"))
    assert drawn(display) == [["$_$"], ["0", "$5", "$_$", r"\frac", "$", "^"]]
    assert not any(artist.get_parse_math() for artist in display.ax_.texts)
    display.figure_.canvas.draw()


def test_picture_wraps_lines_within_the_figure(drawn):
    text = "a long text with a word " * 20 + "日本" * 60 + " " + "x" * 130 + "\n\nend"
    display = show(text, span(text, "日本" * 30), span(text, "x" * 130, "LONG"))
    lines = drawn(display, width=40)
    letters = "".join("".join(line) for line in lines[1:])
    assert letters.startswith("0alongtext")
    assert len(lines) > 10
    display.figure_.canvas.draw()
    width, height = display.figure_.bbox.size
    for artist in (*display.ax_.texts, *display.ax_.patches):
        extent = artist.get_window_extent()
        assert 0 <= extent.x0 <= extent.x1 <= width
        assert 0 <= extent.y0 <= extent.y1 <= height


def test_labels_of_adjacent_entities_do_not_cover_each_other(drawn):
    display = show("ab", span("ab", "a", "ORGANIZATION"), span("ab", "b", "PERSON"))
    drawn(display)
    row = [artist.get_window_extent() for artist in display.ax_.texts[3:]]
    assert all(one.x1 < other.x0 + 2 for one, other in pairwise(row))


def test_picture_fits_into_given_axes():
    figure = matplotlib.figure.Figure(figsize=(6, 2))
    _, ax = figure.subplots(1, 2)
    display = show("word " * 100).plot(ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    figure.canvas.draw()
    box = ax.bbox
    for artist in ax.texts:
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


@pytest.mark.parametrize("options", [{"width": 0}, {"max_texts": 0}])
def test_picture_needs_room_for_something(options):
    with pytest.raises(ValueError, match="at least 1"):
        show("Ada").plot(**options)


def test_characters_without_a_glyph_become_boxes(drawn):
    assert drawn(show("日 \u0378 \ud800")) == [["0", *"□□□"]]


@pytest.mark.slow
def test_importing_the_module_loads_no_matplotlib():
    program = (
        "import sys, sktransformers.inspection as i; i.EntityDisplay.from_predictions("
        "['a'], [[]]).to_html(); assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
