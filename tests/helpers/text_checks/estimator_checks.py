"""Checks of text estimators, beside those that scikit-learn has for numbers.

:func:`sklearn.utils.estimator_checks.check_estimator` feeds tables of numbers, and is
all but silent on an estimator that reads texts. These checks speak text: what X may be,
rows that keep their order, texts that do not change one another's predictions, labels
that come back as they were, and scikit-learn's contract of parameters and state.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import SkipTest

from sklearn.exceptions import EstimatorCheckFailedWarning, SkipTestWarning

from . import _contract_checks, _input_checks, _prediction_checks, _target_checks
from ._cases import Check, TextCase

__all__ = [
    "TextCase",
    "check_text_estimator",
    "parametrize_with_text_checks",
    "text_checks",
]


def text_checks() -> dict[str, Check]:
    """Return all checks, by name.

    Returns
    -------
    dict of str to callable
        Functions of a :class:`TextCase`. Some have an attribute ``applies``, a function
        of the case too, which says whether the estimator has to pass.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from text_checks.estimator_checks import TextCase, text_checks
    >>> text_checks()["check_order_invariance"](TextCase(TfidfVectorizer()))
    """
    modules = (_input_checks, _target_checks, _prediction_checks, _contract_checks)
    return {
        name: check
        for module in modules
        for name, check in vars(module).items()
        if name.startswith("check_") and inspect.isfunction(check)
    }


def check_text_estimator(
    estimator: Any,
    *,
    texts: Any = None,
    y: Any = None,
    expected_failed_checks: dict[str, str] | None = None,
    on_skip: str | None = "warn",
    on_fail: str | None = "raise",
    callback: Callable[..., None] | None = None,
) -> list[dict[str, Any]]:
    """Check whether a text estimator keeps scikit-learn's and its own promises.

    As :func:`sklearn.utils.estimator_checks.check_estimator` does for estimators that
    read numbers. Run both: an estimator's parameters and tags are checked there too.

    Parameters
    ----------
    estimator : estimator
        A classifier, regressor, tagger, generator or transformer of texts, or a
        pipeline or search of them. Never changed: the checks work on clones.
    texts : list of str or of list of str, default=None
        At least 12 texts, or token lists. None: 24 short ones in English.
    y : list, default=None
        What is to be learned from them. None: labels, numbers, tags or texts, as the
        estimator's tags and methods suggest.
    expected_failed_checks : dict of str to str, default=None
        Names of the checks that may fail, with the reason.
    on_skip : {"warn"} or None, default="warn"
        Whether to warn of a check that raises ``unittest.SkipTest``.
    on_fail : {"raise", "warn"} or None, default="raise"
        Whether the first check that fails raises, a failure warns, or is only listed.
    callback : callable, default=None
        Called with the entries of each record, as keyword arguments.

    Returns
    -------
    list of dict
        A record for each check: "estimator", "check_name", "exception", "status"
        ("passed", "failed", "xfail" or "skipped"), "expected_to_fail" and
        "expected_to_fail_reason".

    Raises
    ------
    AssertionError
        A check failed, and ``on_fail`` is "raise". Its notes name the check. An
        estimator that cannot be fitted raises an error of its own.
    TypeError
        A class was passed, not an instance, or what is no estimator.
    ValueError
        An expected failure is of no known check, ``callback`` is used with
        ``on_fail="raise"``, or there are too few texts.

    See Also
    --------
    parametrize_with_text_checks : The same as separate tests of pytest.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import HashingVectorizer
    >>> from text_checks.estimator_checks import check_text_estimator
    >>> records = check_text_estimator(HashingVectorizer(), on_fail=None)
    >>> [r["check_name"] for r in records if r["status"] == "failed"][:2]
    ['check_bare_string', 'check_missing_texts']
    """
    if on_fail == "raise" and callback is not None:
        raise ValueError("callback is of no use with on_fail='raise'. Pass None.")
    expected = _known(expected_failed_checks)
    case = _make_case(estimator, texts, y)
    records = []
    for name, check in _applying(case):
        record = _run(case, name, check, expected)
        records.append(record)
        _report(record, on_skip, on_fail)
        if callback is not None:
            callback(**record)
    return records


def parametrize_with_text_checks(
    estimators: list[Any],
    *,
    expected_failed_checks: Callable[[Any], dict[str, str]] | None = None,
    xfail_strict: bool | None = None,
) -> Any:
    """Return a decorator of pytest that makes each check a test.

    As :func:`sklearn.utils.estimator_checks.parametrize_with_checks` does.

    Parameters
    ----------
    estimators : list of estimator
        What to check.
    expected_failed_checks : callable, default=None
        From an estimator to a dict of the checks that may fail, and the reasons.
    xfail_strict : bool, default=None
        Whether such a check fails if it passes. None: as pytest is configured.

    Returns
    -------
    pytest.MarkDecorator
        Of a test with the arguments ``estimator`` and ``check``, which calls
        ``check(estimator)``. The checks that do not apply are left out.

    Raises
    ------
    TypeError
        A class was passed, not an instance, or what is no estimator.

    See Also
    --------
    check_text_estimator : The same in one call.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from text_checks.estimator_checks import parametrize_with_text_checks
    >>> @parametrize_with_text_checks([CountVectorizer()])
    ... def test_text_estimator(estimator, check):
    ...     check(estimator)
    """
    import pytest

    tests = []
    for position, estimator in enumerate(estimators):
        case = _make_case(estimator)
        reasons = expected_failed_checks(estimator) if expected_failed_checks else {}
        expected = _known(reasons)
        for name, check in _applying(case):
            marks: Any = ()
            if name in expected:
                options: dict[str, Any] = {"reason": expected[name]}
                if xfail_strict is not None:
                    options["strict"] = xfail_strict
                marks = pytest.mark.xfail(**options)
            label = f"{type(estimator).__name__}{position or ''}-{name}"
            one = _OneCheck(name, check)
            tests.append(pytest.param(estimator, one, marks=marks, id=label))
    return pytest.mark.parametrize(("estimator", "check"), tests)


class _OneCheck:
    """A check as a function of an estimator."""

    def __init__(self, name: str, check: Check) -> None:
        self.__name__ = name
        self.check = check

    def __call__(self, estimator: Any) -> None:
        try:
            self.check(TextCase(estimator))
        except Exception as error:
            _explain(error, self.__name__, self.check)
            raise


def _make_case(estimator: Any, texts: Any = None, y: Any = None) -> TextCase:
    if isinstance(estimator, type):
        raise TypeError(
            f"Pass an instance, {estimator.__name__}(...), not the class itself."
        )
    if not hasattr(estimator, "fit") or not hasattr(estimator, "__sklearn_tags__"):
        raise TypeError(
            "estimator must have `fit` and scikit-learn's interface: derive its class "
            f"from sklearn.base.BaseEstimator. Got {estimator!r} instead."
        )
    return TextCase(estimator, texts, y)


def _known(expected: dict[str, str] | None) -> dict[str, str]:
    expected = expected or {}
    unknown = set(expected) - set(text_checks())
    if unknown:
        raise ValueError(
            f"expected_failed_checks names unknown checks: {sorted(unknown)}. "
            f"There are {sorted(text_checks())}."
        )
    return expected


def _applying(case: TextCase) -> Iterator[tuple[str, Check]]:
    for name, check in text_checks().items():
        applies = getattr(check, "applies", None)
        if applies is None or applies(case):
            yield name, check


def _run(
    case: TextCase, name: str, check: Check, expected: dict[str, str]
) -> dict[str, Any]:
    exception: BaseException | None = None
    status = "passed"
    try:
        check(case)
    except SkipTest as skipped:
        exception, status = skipped, "skipped"
    except Exception as error:
        _explain(error, name, check)
        exception, status = error, "xfail" if name in expected else "failed"
    return {
        "estimator": case.estimator,
        "check_name": name,
        "exception": exception,
        "status": status,
        "expected_to_fail": name in expected,
        "expected_to_fail_reason": expected.get(name, "Check is not expected to fail"),
    }


def _explain(error: Exception, name: str, check: Check) -> None:
    """Note in what is shown of an error which check failed, and what it asks."""
    asked = (check.__doc__ or "").partition("\n")[0]
    error.add_note(f"{name}: {asked}" if asked else name)


def _report(record: dict[str, Any], on_skip: str | None, on_fail: str | None) -> None:
    if record["status"] == "skipped" and on_skip == "warn":
        name, reason = record["check_name"], record["exception"]
        warnings.warn(f"{name} was skipped: {reason}", SkipTestWarning, stacklevel=3)
    if record["status"] == "failed" and on_fail == "raise":
        raise record["exception"]
    if record["status"] in ("failed", "xfail") and on_fail == "warn":
        warnings.warn(EstimatorCheckFailedWarning(**record), stacklevel=3)
