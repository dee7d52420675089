"""Every estimator passes scikit-learn's estimator checks and the text checks.

scikit-learn's checks pass tables of numbers, which the adapters of ``adapters.py``
convert to texts. ``DECLARED`` states for each estimator which checks test no more than
its adapter, and which may fail.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from adapters import (
    NumbersClassifier,
    NumbersGenerator,
    NumbersRegressor,
    NumbersTagger,
    save_word_model,
)
from checked_estimators import OURS
from scipy import sparse
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)
from text_checks import applicable_checks, text_checks

from sktransformers._models import heads
from sktransformers.exceptions import TextTypeError, TextValueError

DOCS = Path(__file__).parents[2] / "docs" / "estimator_checks.md"

# Complex or infinite numbers, dtypes, sparse tables, and tables without rows, columns
# or a second dimension, which the adapter rejects or converts.
OF_ADAPTER = {
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
# Without columns of texts, the adapter counts and names the columns, too.
OF_ADAPTER_OF_ROWS = OF_ADAPTER | {
    "check_n_features_in",
    "check_n_features_in_after_fitting",
}

MAY_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": (
        "repeated rows fall into other minibatches than one weighted row"
    ),
    "check_methods_subset_invariance": "float32 rounds differently in other batches",
}

# Checks that scikit-learn runs only on its own estimators.
FURTHER = [
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
]
FURTHER_OF_TRANSFORMERS = [*FURTHER, estimator_checks.check_set_output_transform]
FURTHER_OF_COLUMNS = [
    *FURTHER_OF_TRANSFORMERS,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]


@dataclass(frozen=True)
class Declared:
    """What an estimator declares about scikit-learn's checks.

    Attributes
    ----------
    adapted : type
        The estimator with its adapter.
    n_checks : int
        Least number of checks.
    of_adapter : set of str
        Checks that test the adapter only.
    further : list of callable
        Further checks, which scikit-learn runs only on its own estimators.
    may_fail : dict of str to str
        Checks that may fail with the default precision, with the reasons. None may
        fail in float64.
    learning_rate : float
        Parameter of the estimator.
    is_slow : bool
        Whether the checks with the default precision are marked slow: they cover hardly
        more than those of the other estimators and those in float64.
    """

    adapted: type
    n_checks: int
    of_adapter: set[str]
    further: list
    may_fail: dict[str, str] = field(default_factory=lambda: MAY_FAIL)
    learning_rate: float = 1e-3
    is_slow: bool = False

    def make(self, **params):
        """Return an unfitted estimator, whose model is to be set."""
        return self.adapted(
            self.adapted.__name__,
            max_epochs=1,
            learning_rate=self.learning_rate,
            device="cpu",
            **params,
        )


DECLARED = {
    "classifier": Declared(
        NumbersClassifier, 72, OF_ADAPTER, further=FURTHER_OF_COLUMNS
    ),
    "regressor": Declared(
        NumbersRegressor, 65, OF_ADAPTER, further=FURTHER_OF_COLUMNS, is_slow=True
    ),
    "tagger": Declared(
        NumbersTagger,
        54,
        OF_ADAPTER_OF_ROWS,
        further=FURTHER_OF_TRANSFORMERS,
        is_slow=True,
    ),
    "generator": Declared(
        NumbersGenerator,
        54,
        OF_ADAPTER_OF_ROWS,
        further=FURTHER,
        may_fail={},
        learning_rate=1e-2,
        is_slow=True,
    ),
}


@pytest.fixture(scope="module")
def word_models(tmp_path_factory):
    """Return the model of each adapted estimator, whose vocabulary has its words."""
    encoder = save_word_model(tmp_path_factory.mktemp("encoder"))
    short = save_word_model(tmp_path_factory.mktemp("short"), positions=64)
    # With large weights, so that the generated texts differ.
    decoder = save_word_model(
        tmp_path_factory.mktemp("decoder"), "gpt2", layers=2, initializer_range=0.2
    )
    return {
        "NumbersClassifier": encoder,
        "NumbersRegressor": encoder,
        "NumbersTagger": short,
        "NumbersGenerator": decoder,
    }


def run(check, estimator, models):
    estimator.set_params(model=models[type(estimator).__name__])
    if "check_regressors_train" in str(check):  # requires an R^2 above 0.5
        estimator.set_params(max_epochs=5, batch_size=32, learning_rate=3e-3)
    check(estimator)


def may_fail(estimator):
    (declared,) = (d for d in DECLARED.values() if d.adapted is type(estimator))
    return declared.may_fail


@parametrize_with_checks(
    [declared.make() for declared in DECLARED.values() if not declared.is_slow],
    expected_failed_checks=may_fail,
    xfail_strict=False,
)
def test_scikit_learns_checks(estimator, check, word_models):
    run(check, estimator, word_models)


@pytest.mark.slow
@parametrize_with_checks(
    [declared.make() for declared in DECLARED.values() if declared.is_slow],
    expected_failed_checks=may_fail,
    xfail_strict=False,
)
def test_scikit_learns_checks_of_the_others(estimator, check, word_models):
    run(check, estimator, word_models)


@parametrize_with_checks(
    [d.make(precision="float64", batch_size=1000) for d in DECLARED.values()]
)
def test_scikit_learns_checks_in_float64(estimator, check, word_models, monkeypatch):
    # Full batches and no dropout: no rounding and no random numbers.
    monkeypatch.setattr(heads, "_NEW_HEAD_DROPOUT", 0.0)
    run(check, estimator, word_models)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        pytest.param(
            kind,
            check,
            id=f"{kind}-{check.__name__}",
            marks=[] if kind == "classifier" else [pytest.mark.slow],
        )
        for kind, declared in DECLARED.items()
        for check in declared.further
    ],
)
def test_scikit_learns_checks_of_its_own_estimators(kind, check, word_models):
    estimator = DECLARED[kind].make()
    name = type(estimator).__name__
    check(name, estimator.set_params(model=word_models[name]))


@pytest.mark.parametrize("kind", DECLARED)
def test_all_checks_of_scikit_learn_are_run(kind):
    declared, estimator = DECLARED[kind], OURS[kind]
    checks = [check for _, check in estimator_checks_generator(declared.make())]
    names = [getattr(check.func, "func", check.func).__name__ for check in checks]
    assert len(names) >= declared.n_checks
    assert declared.of_adapter | set(declared.may_fail) <= set(names)
    if kind == "regressor":
        assert {"check_regressors_train", "check_regressor_multioutput"} <= set(names)
    with pytest.warns(SkipTestWarning):  # without the adapter
        plain = list(estimator_checks_generator(estimator()))
    assert len(plain) == 1
    if sklearn.__version__.startswith("1.9"):  # the documentation's version
        n_of_adapter = sum(name in declared.of_adapter for name in names)
        counts = f"{len(names)} | {n_of_adapter} | {len(declared.may_fail)} | 0"
        row = f"| {estimator.__name__} | {counts} |"
        assert row in DOCS.read_text(encoding="utf-8"), row


def test_the_adapted_generator_gives_different_numbers(word_models):
    # Otherwise the checks would compare nothing.
    X = np.random.default_rng(0).normal(size=(20, 3))
    generator = DECLARED["generator"].make(random_state=0)
    generator.set_params(model=word_models["NumbersGenerator"])
    learned = generator.fit(X, X[:, 0]).predict(X)
    untrained = generator.set_params(max_epochs=0).fit(X, X[:, 0]).predict(X)
    assert len(set(learned)) > 10
    assert np.mean(learned != untrained) > 0.5


# Text checks that apply to some estimators only.
APPLIES_TO = {
    "check_numbers": {"regressor"},
    "check_a_tag_for_each_word": {"tagger"},
    "check_token_lists": {"tagger"},
    "check_probabilities_of_tags": {"tagger"},
    "check_probabilities": {"classifier"},
    "check_decision_function": {"classifier"},
    "check_classes": {"classifier"},
    "check_label_dtypes": {"classifier"},
    "check_feature_names": {"classifier", "regressor", "tagger"},
    "check_set_output": {"classifier", "regressor", "tagger"},
    "check_column_names": {"classifier", "regressor", "tagger"},
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(
            name,
            kind,
            marks=[pytest.mark.slow] if kind == "regressor" else [],  # as classifier
        )
        for name in text_checks()
        for kind in OURS
        if kind in APPLIES_TO.get(name, OURS)
    ],
)
def test_text_checks(name, kind, text_cases):
    applicable_checks(text_cases[kind])[name](text_cases[kind])


@pytest.mark.parametrize(
    "name",
    [
        "check_missing_texts",
        "check_containers",
        "check_empty_strings",
        "check_order_invariance",
        "check_series_by_position",
        "check_token_lists",
        "check_probabilities_of_tags",
    ],
)
def test_text_checks_with_token_lists(name, text_cases):
    text_checks()[name](text_cases["tagger of token lists"])


MALFORMED = {  # X, the error, whether the message names row 2
    "str": ("good", TextValueError, False),
    "bytes": (b"good", TextValueError, False),
    "None": (None, TextTypeError, False),
    "number": (3, TextTypeError, False),
    "dict": ({"a": "good"}, TextTypeError, False),
    "set": ({"good", "bad"}, TextTypeError, False),
    "iterator": (iter(["good"]), TextTypeError, False),
    "sparse": (sparse.eye_array(3), TextTypeError, False),
    "no rows": ([], TextValueError, False),
    "None in a row": (["good", "bad", None], TextValueError, True),
    "NaN in a row": (pd.Series(["good", "bad", np.nan]), TextValueError, True),
    "pd.NA in a row": (
        pd.Series(["good", "bad", pd.NA], dtype="string"),
        TextValueError,
        True,
    ),
    "bytes in a row": (["good", "bad", b"good"], TextValueError, True),
    "a number in a row": (["good", "bad", 3.5], TextValueError, True),
}


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_texts_raise_the_right_error(kind, name, text_cases):
    X, error_type, names_row = MALFORMED[name]
    case = text_cases[kind]
    methods = [getattr(case.fitted, method) for method in case.methods]
    for call in (lambda X: case.new().fit(X, case.y[:3]), *methods):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(X)
        assert type(caught.value) is error_type
        assert not names_row or "X[2]" in str(caught.value)
