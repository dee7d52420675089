"""scikit-learn's own battery of checks, run on the classifier.

In ``adapters.py`` each number of a table becomes a few words, column by column, at the
one place where X enters an estimator; everything behind that place is the real thing,
down to counting and naming the columns. What the adapter itself answers for is listed
in ``ADAPTER``.
"""

import pandas as pd
import pytest
from adapters import (
    ADAPTER,
    DEFAULT_FAILURES,
    FURTHER_CHECKS,
    NumbersClassifier,
    names_of,
    require_in_docs,
    save_word_model,
)
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

from sktransformers import TransformerClassifier
from sktransformers._models import heads as modules


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """Return the directory of a tiny BERT that knows the adapter's words."""
    return save_word_model(tmp_path_factory.mktemp("words"))


def battery(**params):
    """Return a classifier for the battery; its model is filled in by the tests."""
    return NumbersClassifier(
        "word_model", max_epochs=1, learning_rate=1e-3, device="cpu", **params
    )


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
    check("NumbersClassifier", battery().set_params(model=word_model))


def test_the_battery_is_whole():
    names = names_of(estimator_checks_generator(battery()))
    assert len(names) >= 72
    require_in_docs(
        "TransformerClassifier", names, adapter=ADAPTER, may_fail=DEFAULT_FAILURES
    )
    assert ADAPTER | set(DEFAULT_FAILURES) <= set(names)
    with pytest.warns(SkipTestWarning):  # without the adapter it is all but silent
        plain = list(estimator_checks_generator(TransformerClassifier()))
    assert len(plain) == 1


def test_equal_column_names_are_no_names(word_model):
    # scikit-learn refuses them where it compares names.
    frame = pd.DataFrame([["w1", "w2"], ["w3", "w4"]] * 4, columns=["t", "t"])
    classifier = TransformerClassifier(word_model, max_epochs=1, device="cpu")
    classifier.fit(frame, [0, 1] * 4)
    assert classifier.n_features_in_ == 2
    assert not hasattr(classifier, "feature_names_in_")
    assert len(classifier.predict(frame)) == 8
