"""Planted bugs of the contract: each is noticed by the check that should notice it."""

import pytest
from checked_estimators import make_estimator, save_models
from mutations import MUTATIONS, PAGE, SCIKIT_LEARN, render
from sklearn.utils import estimator_checks
from text_checks import TextCase, text_checks


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the directories of the models that the mutants are made of."""
    return save_models(tmp_path_factory.mktemp)


def run_check(name, estimator):
    if name.startswith(SCIKIT_LEARN):
        check = getattr(estimator_checks, name.removeprefix(SCIKIT_LEARN))
        return check(type(estimator).__name__, estimator)
    return text_checks()[name](TextCase(estimator))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.cls.__name__)
def test_a_planted_bug_is_caught(mutation, models):
    with pytest.raises(AssertionError) as caught:
        run_check(mutation.check, make_estimator(mutation.cls, models))
    # Ours say what is wrong.
    assert mutation.check.startswith(SCIKIT_LEARN) or str(caught.value)


@pytest.mark.parametrize(
    ("cls", "check"),
    sorted(
        {(m.cls.__mro__[1], m.check) for m in MUTATIONS if SCIKIT_LEARN in m.check},
        key=str,
    ),
)
def test_without_the_bug_scikit_learns_check_passes(cls, check, models):
    # The others are run on the sound estimators in test_estimator_checks.py.
    run_check(check, make_estimator(cls, models))


def test_the_documentation_lists_the_bugs_and_the_checks():
    assert len(MUTATIONS) >= 22
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(page), "run `python tests/helpers/mutations.py`"


def test_every_check_catches_a_bug():
    # A check that notices none of the planted bugs may notice nothing at all.
    assert set(text_checks()) <= {mutation.check for mutation in MUTATIONS}
