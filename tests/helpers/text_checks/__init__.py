"""Checks of text estimators, in addition to scikit-learn's, which pass numbers.

They cover the containers and content of X, the order of rows, predictions that do not
depend on the other texts, label types, and scikit-learn's contract of parameters and
state.
"""

import inspect
from typing import Any

from . import _contract_checks, _input_checks, _prediction_checks, _target_checks
from ._cases import Check, TextCase

__all__ = ["TextCase", "applicable_checks", "failed_checks", "text_checks"]


def text_checks() -> dict[str, Check]:
    """Return all checks, functions of a :class:`TextCase`, by name."""
    modules = (_input_checks, _target_checks, _prediction_checks, _contract_checks)
    return {
        name: check
        for module in modules
        for name, check in vars(module).items()
        if name.startswith("check_") and inspect.isfunction(check)
    }


def applicable_checks(case: TextCase) -> dict[str, Check]:
    """Return the checks that apply to the estimator of a case, by name."""
    return {
        name: check
        for name, check in text_checks().items()
        if not hasattr(check, "applies") or check.applies(case)
    }


def failed_checks(estimator: Any) -> dict[str, Exception]:
    """Run all applicable checks on an estimator; return the errors by check."""
    case, failed = TextCase(estimator), {}
    for name, check in applicable_checks(case).items():
        try:
            check(case)
        except Exception as error:
            failed[name] = error
    return failed
