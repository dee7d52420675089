"""Adapt text estimators to tables of numbers, so that scikit-learn's checks can run.

Classifiers and regressors convert each column of numbers to a column of texts where
they validate X; everything else is the estimator's own code. Taggers and generators
have no columns, so their adapters convert each row to a text, and y and the predictions
to and from numbers.
"""

import zlib

import numpy as np
import pandas as pd
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import validate_data
from tiny_models import make_config, make_word_tokenizer

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._text.inputs import Texts
from sktransformers._text.words import Words

N_WORDS = 600
SCALES = (0.25, 1.0, 4.0)

_POSITIONS = {"bert": "max_position_embeddings", "gpt2": "n_positions"}


def to_words(column, value):
    """Return one word for each scale; close numbers share the words of large scales."""
    buckets = (f"{column}/{scale}/{np.floor(value / scale):.0f}" for scale in SCALES)
    return " ".join(f"w{zlib.crc32(b.encode()) % N_WORDS}" for b in buckets)


class ReadsNumbers:
    """Mixin that declares tables of numbers as valid input."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        return tags


class ReadsColumns(ReadsNumbers):
    """Mixin that converts each column of numbers to a column of texts."""

    def _check_X(self, X):
        names = getattr(X, "columns", None)
        table = check_array(X)
        words = {
            i if names is None else names[i]: [to_words(i, value) for value in column]
            for i, column in enumerate(table.T)
        }
        return super()._check_X(pd.DataFrame(words))


class ReadsRows(ReadsNumbers):
    """Mixin that converts each row to a text, for estimators without columns."""

    # A subclass defines ``_checked``, the class of checked texts, and ``_texts_of``,
    # which makes an instance of it from a table.

    def _read(self, X, *, reset):
        if isinstance(X, self._checked):
            return X
        return self._texts_of(validate_data(self, X, reset=reset))

    def _check_texts(self, X):
        return super()._check_texts(self._read(X, reset=False))

    def _attributes_of(self, texts):
        seen = {
            name: value
            for name, value in vars(self).items()
            if name in ("n_features_in_", "feature_names_in_")
        }
        return super()._attributes_of(texts) | seen


class NumbersClassifier(ReadsColumns, TransformerClassifier):
    """Classifier of rows of numbers."""


class NumbersRegressor(ReadsColumns, TransformerRegressor):
    """Regressor of rows of numbers."""


class NumbersTagger(ReadsRows, TransformerTagger):
    """Tagger that reads each row as words and each number in y as their tags."""

    _checked = Words

    def _texts_of(self, table):
        return Words([to_text(row).split() for row in table])

    def fit(self, X, y, sample_weight=None):
        words = self._read(X, reset=True)
        return super().fit(words, to_tags(words, y), sample_weight)

    def predict(self, X):
        if isinstance(X, Words):  # called by another method
            return super().predict(X)
        return np.searchsorted(self.classes_, np.array(list(super().predict(X))))

    def predict_proba(self, X):
        return np.stack(super().predict_proba(X))

    def score(self, X, y, sample_weight=None):
        words = self._check_texts(X)
        return super().score(words, to_tags(words, y), sample_weight)


class NumbersGenerator(ReadsRows, TransformerGenerator):
    """Generator that reads a row, and a number in y, as texts; and predicts numbers."""

    _checked = Texts

    def _texts_of(self, table):
        return Texts([[to_text(row) for row in table]])

    def fit(self, X, y=None, sample_weight=None):
        texts = self._read(X, reset=True)
        return super().fit(texts, to_targets(y), sample_weight)

    def predict(self, X):
        texts = super().predict(X)
        return texts if isinstance(X, Texts) else to_numbers(texts)

    def transform(self, X):
        return to_numbers(super().transform(X))

    def perplexity(self, X, y=None):
        return super().perplexity(X, to_targets(y))

    def score(self, X, y):
        return super().score(self._check_texts(X), to_targets(y))

    def _check_X(self, X):
        return X if isinstance(X, Texts) else super()._check_X(X)


def to_text(row):
    """Return the words of all numbers of a row."""
    return " ".join(to_words(column, value) for column, value in enumerate(row))


def to_tags(words, y):
    """Return one entity for each column of a row, of a type given by the row's y."""
    if y is None:
        return None
    y = column_or_1d(y)
    tags = []
    for number, row in zip(y, words.rows, strict=False):
        kind = f"T{int(number // 1) % 3}"
        tags.append(
            [f"{'I' if i % len(SCALES) else 'B'}-{kind}" for i in range(len(row))]
        )
    return tags + [["O"]] * (len(y) - len(tags))


def to_targets(y):
    """Return one target text for each number of y."""
    return None if y is None else [to_words("y", value) for value in column_or_1d(y)]


def to_numbers(texts):
    """Return a number for each text, the same for the same text."""
    return np.array([zlib.crc32(text.encode()) % 997 for text in texts], dtype=float)


def save_word_model(directory, architecture="bert", *, positions=256, **config):
    """Save a tiny model without dropout whose vocabulary has the adapter's words."""
    import torch
    import transformers

    tokenizer = make_word_tokenizer(architecture)
    tokenizer.add_tokens([f"w{i}" for i in range(N_WORDS)])
    tokenizer.model_max_length = positions
    auto = transformers.AutoModel
    if architecture == "gpt2":
        auto = transformers.AutoModelForCausalLM
        config |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    made = make_config(architecture, len(tokenizer), **config)
    setattr(made, _POSITIONS[architecture], positions)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto.from_config(made).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)
