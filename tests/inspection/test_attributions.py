"""Attributions are drawn where the words are, in both signs, for any text."""

import matplotlib
import pytest
from matplotlib import pyplot as plt

from sktransformers.inspection import AttributionDisplay, Explanation

matplotlib.use("Agg")


def make(text, values, **params):
    """Return an explanation of a text of words between spaces."""
    words, start = [], 0
    for word, value in zip(text.split(" "), values, strict=True):
        span = {"text": word, "column": 0, "start": start, "end": start + len(word)}
        words.append({**span, "attribution": value, "is_read": value is not None})
        start += len(word) + 1
    for word in words:
        word["attribution"] = word["attribution"] or 0.0
    params = {"target": "pos", "score": 1.5, "baseline_score": 0.0, **params}
    return Explanation(texts=(text,), words=words, **params)


def test_html_marks_both_signs_and_keeps_the_text():
    text = "good <b> bad&co the cut"
    explanation = make(text, [2.0, 0.01, -1.0, 0.0, None])
    html = AttributionDisplay.from_explanations([explanation])._repr_html_()
    assert "<b>" not in html.replace('<b style="', "")
    assert "&lt;b&gt;" in html
    assert '<mark title="+2.000"' in html
    assert 'title="-1.000"' in html
    blue, orange = html.split("<mark")[1:]
    assert "underline" not in blue
    assert "underline" in orange.split("</mark>")[0]
    assert "rgb(86,180,233)" in blue
    assert '<s title="truncated"' in html
    assert html.count("<mark") == 2
    assert "pos (score 1.50)" in html
    assert 'dir="auto"' in html


def test_pairs_entities_and_scripts_of_all_directions():
    pair = Explanation(
        texts=("a", "سيء"),
        target={"label": "LOC", "text": "<i>"},
        score=0.0,
        baseline_score=0.0,
        words=[
            {
                "text": "سيء",
                "column": 1,
                "start": 0,
                "end": 3,
                "attribution": 1.0,
                "is_read": True,
            }
        ],
    )
    html = AttributionDisplay([pair]).to_html()
    assert html.count('<div dir="auto"') == 2
    assert "LOC: &lt;i&gt;" in html
    assert ">سيء</mark>" in html


def test_bars_show_the_most_important_words_in_order():
    explanation = make("$x$ b c d", [0.5, -2.0, 0.1, 1.0])
    display = AttributionDisplay([explanation]).plot(max_words=3)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["d", "b", "$x$"]
    assert [bar.get_width() for bar in display.ax_.patches] == [1.0, -2.0, 0.5]
    colors = {bar.get_facecolor() for bar in display.ax_.patches}
    assert len(colors) == 2
    display.figure_.canvas.draw()
    _, axes = plt.subplots(2)
    two = AttributionDisplay([explanation] * 2).plot(axes)
    assert two.ax_.tolist() == axes.tolist()
    with pytest.raises(ValueError, match="must hold 2 axes"):
        two.plot(axes[0])
    with pytest.raises(ValueError, match="max_words must be an int of at least 1"):
        two.plot(max_words=0)
    plt.close("all")


def test_from_estimator_explains(fitted_classifier, sentences):
    X, _ = sentences
    display = AttributionDisplay.from_estimator(fitted_classifier, X[:2], "neg")
    assert [e.target for e in display.explanations] == ["neg", "neg"]
    assert repr(display) == "AttributionDisplay(n_explanations=2)"
    with pytest.raises(TypeError, match="Item 0 is a str"):
        AttributionDisplay.from_explanations(["a"])
