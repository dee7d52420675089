"""scikit-learn's own battery of checks, run on the generator.

The battery speaks numbers, so an adapter stands before the public methods. Each row of
a table becomes a text, some words for each number, and its number in y another one;
what is written becomes a number again, the same for the same text. To check, count and
name columns is the adapter's doing, as a generator reads one column of texts; all
behind it is the real thing. ``ADAPTER_OF_ROWS`` lists the checks that say nothing, or
little, of the generator itself.
"""

import zlib

import numpy as np
import pytest
from adapters import (
    ADAPTER_OF_ROWS,
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

from sktransformers import TransformerGenerator
from sktransformers._text.inputs import Texts

# Those that scikit-learn keeps for its own estimators; its others ask how columns are
# named and in which container they come.
FURTHER_CHECKS = [
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
]


class NumbersGenerator(ReadsRows, TransformerGenerator):
    """Reads tables of numbers as texts, each row by itself."""

    _checked = Texts

    def _texts_of(self, table):
        return Texts([[to_text(row) for row in table]])

    def fit(self, X, y=None, sample_weight=None):
        texts = self._read(X, reset=True)
        return super().fit(texts, to_texts(y), sample_weight)

    def predict(self, X):
        written = super().predict(X)
        return written if isinstance(X, Texts) else to_numbers(written)

    def transform(self, X):
        return to_numbers(super().transform(X))

    def perplexity(self, X, y=None):
        return super().perplexity(X, to_texts(y))

    def score(self, X, y):
        return super().score(self._check_texts(X), to_texts(y))

    def _check_X(self, X):
        return X if isinstance(X, Texts) else super()._check_X(X)


def to_text(values):
    return " ".join(to_words(i, value) for i, value in enumerate(values))


def to_texts(y):
    return None if y is None else [to_words("y", value) for value in column_or_1d(y)]


def to_numbers(texts):
    return np.array([zlib.crc32(text.encode()) % 997 for text in texts], dtype=float)


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """Return the directory of a tiny GPT-2 that knows the adapter's words."""
    # Weights so large that it writes this and that.
    directory = tmp_path_factory.mktemp("words")
    return save_word_model(directory, "gpt2", layers=2, initializer_range=0.2)


def battery(**params):
    """Return a generator for the battery; its model is filled in by the tests."""
    return NumbersGenerator(
        "word_model", max_epochs=1, learning_rate=1e-2, device="cpu", **params
    )


@parametrize_with_checks([battery(precision=p) for p in ("auto", "float64")])
def test_scikit_learns_checks(estimator, check, word_model):
    check(estimator.set_params(model=word_model))


@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_checks_of_its_own_estimators(check, word_model):
    check("NumbersGenerator", battery().set_params(model=word_model))


def test_the_battery_is_whole():
    names = names_of(estimator_checks_generator(battery()))
    assert len(names) >= 54
    require_in_docs("TransformerGenerator", names, adapter=ADAPTER_OF_ROWS, may_fail={})
    assert set(names) >= ADAPTER_OF_ROWS
    with pytest.warns(SkipTestWarning):  # without the adapter it is all but silent
        plain = list(estimator_checks_generator(TransformerGenerator()))
    assert len(plain) == 1


def test_the_numbers_tell_texts_apart(word_model):
    # Else the battery would compare nothing.
    X = np.random.default_rng(0).normal(size=(20, 3))
    generator = battery().set_params(model=word_model, random_state=0)
    learned = generator.fit(X, X[:, 0]).predict(X)
    untrained = generator.set_params(max_epochs=0).fit(X, X[:, 0]).predict(X)
    assert len(set(learned)) > 10
    assert np.mean(learned != untrained) > 0.5
