"""The HTML representation of a fitted estimator is short and tells something."""

import re
from html import unescape

from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr


def fitted_attributes(html):
    """Return the values of the table of fitted attributes, by name."""
    table = html[html.index("Fitted attributes") :]
    rows = re.findall(r"<tr class=\"default\">(.*?)</tr>", table, re.DOTALL)
    values = {}
    for row in rows:
        name = re.search(r"\b(\w+_)\b", row)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        values[name[1]] = unescape(cells[-1]).strip()
    return values


def test_fitted_attributes_are_described(fitted_classifier):
    values = fitted_attributes(estimator_html_repr(fitted_classifier))
    n = sum(p.numel() for p in fitted_classifier.model_.parameters())
    assert values["model_"] == f"{n:,} parameters, cpu"
    assert values["tokenizer_"] == f"{len(fitted_classifier.tokenizer_):,} tokens"
    assert re.fullmatch(r"8 epochs, loss [\d.e-]+", values["history_"])
    assert values["n_epochs_"] == "8"
    assert values["classes_"] == "['neg','pos']"


def test_no_module_is_dumped(fitted_classifier, tiny_classifier):
    html = estimator_html_repr(make_pipeline(fitted_classifier))
    assert "Linear(" not in html
    assert "PooledModel(" not in html
    assert "Fitted attributes" not in estimator_html_repr(tiny_classifier)
