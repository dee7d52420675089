"""Adapt text estimators to tables of numbers, so that scikit-learn's checks can run."""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from sklearn.utils import check_array, estimator_checks
from sklearn.utils.validation import validate_data
from tiny_models import make_config, make_word_tokenizer

from sktransformers import TransformerClassifier

DOCS = Path(__file__).parents[2] / "docs" / "estimator_checks.md"
N_WORDS = 600
SCALES = (0.25, 1.0, 4.0)

# scikit-learn's checks pass tables of numbers. The adapter converts each number to a
# few words and leaves the rest to the estimator. The checks below test the adapter: it
# rejects or converts complex or infinite numbers, dtypes, sparse tables, and tables
# without rows, columns or a second dimension, before the estimator sees them.
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
}
# The same, for estimators whose adapter also counts and names the columns.
ADAPTER_OF_ROWS = ADAPTER | {"check_n_features_in", "check_n_features_in_after_fitting"}

DEFAULT_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "repeated rows fall into other minibatches than one weighted row"
    ),
    "check_methods_subset_invariance": "float32 rounds differently in other batches",
}


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


def require_in_docs(estimator, names, *, adapter, may_fail):
    """Check that docs/estimator_checks.md has the right number of checks."""
    if not sklearn.__version__.startswith("1.9"):  # others have other checks
        return
    of_adapter = sum(name in adapter for name in names)
    row = f"| {estimator} | {len(names)} | {of_adapter} | {len(may_fail)} | 0 |"
    assert row in DOCS.read_text(encoding="utf-8"), row


def names_of(checks):
    """Return the names of the given checks of scikit-learn."""
    partials = [check for _, check in checks]
    return [getattr(check.func, "func", check.func).__name__ for check in partials]


# Checks that scikit-learn runs only on its own estimators.
FURTHER_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]
