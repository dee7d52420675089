"""scikit-learn's own battery of checks, run on the regressor.

As for the classifier, each number of a table becomes a few words where X enters; see
``adapters.py``. What the adapter itself answers for is listed in its ``ADAPTER``.
"""

import pytest
from adapters import (
    ADAPTER,
    DEFAULT_FAILURES,
    FURTHER_CHECKS,
    ReadsColumns,
    names_of,
    require_in_docs,
    save_word_model,
)
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

from sktransformers import TransformerRegressor
from sktransformers._models import heads as modules


class NumbersRegressor(ReadsColumns, TransformerRegressor):
    """Predicts numbers from rows of numbers."""


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """Return the directory of a tiny BERT that knows the adapter's words."""
    return save_word_model(tmp_path_factory.mktemp("words"))


def battery(**params):
    """Return a regressor for the battery; its model is filled in by the tests."""
    return NumbersRegressor(
        "word_model", max_epochs=1, learning_rate=1e-3, device="cpu", **params
    )


def run(check, estimator, model):
    """Run a check; the one that asks for an R^2 above 0.5 gets steps to learn it in."""
    estimator.set_params(model=model)
    if "check_regressors_train" in str(check):
        estimator.set_params(max_epochs=5, batch_size=32, learning_rate=3e-3)
    check(estimator)


@pytest.mark.slow  # differs from the classifier's in nothing that float64 does not show
@parametrize_with_checks(
    [battery()],
    expected_failed_checks=lambda estimator: DEFAULT_FAILURES,
    xfail_strict=False,
)
def test_scikit_learns_checks(estimator, check, word_model):
    run(check, estimator, word_model)


@parametrize_with_checks([battery(precision="float64", batch_size=1000)])
def test_scikit_learns_checks_in_exact_arithmetic(
    estimator, check, word_model, monkeypatch
):
    # With full batches and no dropout nothing is left that rounds or draws.
    monkeypatch.setattr(modules, "_NEW_HEAD_DROPOUT", 0.0)
    run(check, estimator, word_model)


@pytest.mark.slow  # of the mixins, as for the classifier
@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_checks_of_its_own_estimators(check, word_model):
    check("NumbersRegressor", battery().set_params(model=word_model))


def test_the_battery_is_whole():
    names = names_of(estimator_checks_generator(battery()))
    assert len(names) >= 65
    require_in_docs(
        "TransformerRegressor", names, adapter=ADAPTER, may_fail=DEFAULT_FAILURES
    )
    assert ADAPTER | set(DEFAULT_FAILURES) <= set(names)
    assert {"check_regressors_train", "check_regressor_multioutput"} <= set(names)
