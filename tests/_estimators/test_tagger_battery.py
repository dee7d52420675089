"""scikit-learn's own battery of checks, run on the tagger.

The battery speaks numbers, so an adapter stands before the public methods. Each row of
a table becomes a list of words, some for each number, and its number in y becomes their
tags; predictions become numbers. To check, count and name columns is the adapter's
doing, as a tagger knows none; all behind it is the real thing. ``ADAPTER_OF_ROWS``
lists the checks that say nothing, or little, of the tagger itself.
"""

import numpy as np
import pytest
from adapters import (
    ADAPTER_OF_ROWS,
    DEFAULT_FAILURES,
    SCALES,
    ReadsRows,
    names_of,
    require_in_docs,
    save_word_model,
    to_words,
)
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import column_or_1d, estimator_checks
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

from sktransformers import TransformerTagger
from sktransformers._models import heads as modules
from sktransformers._text.words import Words

# Those that scikit-learn keeps for its own estimators; its others ask how columns are
# named, and a tagger's X has none.
FURTHER_CHECKS = [
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
]


class NumbersTagger(ReadsRows, TransformerTagger):
    """Reads tables of numbers as lists of words, each row by itself."""

    _checked = Words

    def _texts_of(self, table):
        return Words([[to_row(values) for values in table]])

    def fit(self, X, y, sample_weight=None):
        words = self._read(X, reset=True)
        return super().fit(words, to_tags(words, y), sample_weight)

    def predict(self, X):
        if isinstance(X, Words):  # from another method
            return super().predict(X)
        return np.searchsorted(self.classes_, np.array(list(super().predict(X))))

    def predict_proba(self, X):
        return np.stack(super().predict_proba(X))

    def score(self, X, y, sample_weight=None):
        words = self._check_texts(X)
        return super().score(words, to_tags(words, y), sample_weight)


def to_row(values):
    return [w for i, value in enumerate(values) for w in to_words(i, value).split()]


def to_tags(words, y):
    """Return an entity of three words for each column, of a type that y gives."""
    if y is None:
        return None
    y = column_or_1d(y)
    tags = []
    for number, row in zip(y, words.rows, strict=False):
        kind = f"T{int(number // 1) % 3}"
        parts = [f"{'I' if i % len(SCALES) else 'B'}-{kind}" for i in range(len(row))]
        tags.append(parts)
    tags += [["O"]] * (len(y) - len(tags))
    return tags


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """Return the directory of a tiny BERT that knows the adapter's words."""
    return save_word_model(tmp_path_factory.mktemp("words"), positions=64)


def battery(**params):
    """Return a tagger for the battery; its model is filled in by the tests."""
    return NumbersTagger(
        "word_model", max_epochs=1, learning_rate=1e-3, device="cpu", **params
    )


@pytest.mark.slow
@parametrize_with_checks(
    [battery()],
    expected_failed_checks=lambda estimator: DEFAULT_FAILURES,
    xfail_strict=False,
)
def test_scikit_learns_checks(estimator, check, word_model):
    check(estimator.set_params(model=word_model))


@parametrize_with_checks([battery(precision="float64", batch_size=1000)])
def test_scikit_learns_checks_in_exact_arithmetic(
    estimator, check, word_model, monkeypatch
):
    # With full batches and no dropout nothing is left that rounds or draws.
    monkeypatch.setattr(modules, "_NEW_HEAD_DROPOUT", 0.0)
    check(estimator.set_params(model=word_model))


@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_checks_of_its_own_estimators(check, word_model):
    check("NumbersTagger", battery().set_params(model=word_model))


def test_the_battery_is_whole():
    names = names_of(estimator_checks_generator(battery()))
    assert len(names) >= 54
    require_in_docs(
        "TransformerTagger", names, adapter=ADAPTER_OF_ROWS, may_fail=DEFAULT_FAILURES
    )
    assert ADAPTER_OF_ROWS | set(DEFAULT_FAILURES) <= set(names)
    with pytest.warns(SkipTestWarning):  # without the adapter it is all but silent
        plain = list(estimator_checks_generator(TransformerTagger()))
    assert len(plain) == 1
