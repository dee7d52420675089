"""scikit-learn's own battery of checks, run on the generator.

The battery speaks numbers, so an adapter stands before the public methods. Each row of
a table becomes a text, some words for each number, and its number in y another one;
what is written becomes a number again, the same for the same text. To check, count and
name columns is the adapter's doing, as a generator reads one column of texts; all
behind it is the real thing. ``ADAPTER`` lists the checks that say nothing, or little,
of the generator itself.
"""

import zlib

import numpy as np
import pytest
from conftest import make_config, make_word_tokenizer
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import column_or_1d, estimator_checks
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)
from sklearn.utils.validation import validate_data
from test_conformance import N_WORDS, to_words

from sktransformers import TransformerGenerator
from sktransformers.text.inputs import Texts

ADAPTER = {
    "check_complex_data",
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimators_dtypes",
    "check_estimators_empty_data_messages",
    "check_estimators_nan_inf",
    "check_f_contiguous_array_estimator",
    "check_fit1d",
    "check_fit2d_predict1d",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
}
# Those that scikit-learn keeps for its own estimators; its others ask how columns are
# named and in which container they come.
FURTHER_CHECKS = [
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
]


class NumbersGenerator(TransformerGenerator):
    """Reads tables of numbers as texts, each row by itself."""

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

    def _check_texts(self, X):
        return super()._check_texts(self._read(X, reset=False))

    def _read(self, X, *, reset):
        if isinstance(X, Texts):
            return X
        table = validate_data(self, X, reset=reset)
        return Texts([[to_text(row) for row in table]])

    def _attributes_of(self, texts):
        seen = {
            name: value
            for name, value in vars(self).items()
            if name in ("n_features_in_", "feature_names_in_")
        }
        return super()._attributes_of(texts) | seen

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        return tags


def to_text(values):
    return " ".join(to_words(i, value) for i, value in enumerate(values))


def to_texts(y):
    return None if y is None else [to_words("y", value) for value in column_or_1d(y)]


def to_numbers(texts):
    return np.array([zlib.crc32(text.encode()) % 997 for text in texts], dtype=float)


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """Return the directory of a tiny GPT-2 that knows the adapter's words."""
    import torch
    import transformers

    directory = tmp_path_factory.mktemp("words")
    tokenizer = make_word_tokenizer("gpt2")
    tokenizer.add_tokens([f"w{i}" for i in range(N_WORDS)])
    tokenizer.model_max_length = 256
    config = make_config(
        "gpt2", len(tokenizer), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    config.n_positions = 256
    config.initializer_range = 0.2  # so that it writes this and that
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def battery(**params):
    """Return a generator for the battery; its model is filled in by the tests."""
    return NumbersGenerator(
        "word_model", max_epochs=1, learning_rate=1e-2, device="cpu", **params
    )


@parametrize_with_checks([battery(precision=p) for p in ("float32", "float64")])
def test_scikit_learns_checks(estimator, check, word_model):
    check(estimator.set_params(model=word_model))


@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_checks_of_its_own_estimators(check, word_model):
    check("NumbersGenerator", battery().set_params(model=word_model))


def test_the_battery_is_whole():
    checks = [check for _, check in estimator_checks_generator(battery())]
    names = [getattr(check.func, "func", check.func).__name__ for check in checks]
    assert len(names) >= 54
    assert set(names) >= ADAPTER
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
