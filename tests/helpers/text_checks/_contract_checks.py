"""Checks of scikit-learn's contract: parameters, state, copies, side effects."""

import contextlib
import copy
import inspect
import io
import os
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from ._cases import (
    METHODS,
    TextCase,
    as_objects,
    as_series,
    only_if,
    predictions,
    require,
    require_equal,
    require_error,
)


def check_constructor(case: TextCase) -> None:
    """The constructor only stores its arguments."""
    cls = type(case.estimator)
    parameters = inspect.signature(cls.__init__).parameters
    named = [
        name
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, 2)
    ]
    given = case.estimator.get_params(deep=False)
    marks = {name: object() for name in named}
    for name in named:
        arguments = {**given, name: marks[name]}
        try:
            made = cls(**arguments)
        except Exception as error:
            raise AssertionError(
                f"the constructor reads {name}, and fails where it is of no known "
                f"kind: {error!r}. Check parameters in fit."
            ) from error
        require(
            getattr(made, name, None) is marks[name],
            f"the constructor does not store {name} as it is.",
        )
        extra = {k for k in vars(made) if not k.startswith("_")} - set(named)
        require(not extra, f"the constructor sets {sorted(extra)}.")


def check_clone(case: TextCase) -> None:
    """A clone has the same parameters and is not fitted."""
    copied = clone(case.fitted)
    _require_parameters(copied, case.fitted.get_params(), "a clone")
    _require_unfitted(case, copied, "a clone of a fitted estimator")


def check_nested_parameters(case: TextCase) -> None:
    """``get_params`` and ``set_params`` support all parameters, also in a Pipeline."""
    params = case.estimator.get_params(deep=False)
    signature = inspect.signature(type(case.estimator).__init__).parameters
    named = {n for n, p in signature.items() if n != "self" and p.kind.value in (1, 3)}
    require(named <= set(params), f"get_params leaves out {named - set(params)}.")
    pipeline = Pipeline([("text", case.new())])
    for name in params:
        mark = object()
        estimator = pipeline.named_steps["text"]
        before = getattr(estimator, name, None)
        pipeline.set_params(**{f"text__{name}": mark})
        require(
            estimator.get_params(deep=False)[name] is mark,
            f"text__{name} of a Pipeline does not set {name}.",
        )
        pipeline.set_params(**{f"text__{name}": before})
    what = "set_params of an unknown parameter"
    require_error(what, pipeline.set_params, text__no_such_parameter=1)
    y = None if case.kind == "nothing" else case.y
    found = predictions(pipeline.fit(case.texts, y), case.texts)
    require_equal(found, case.expected, "in a Pipeline")


@only_if(lambda case: get_tags(case.estimator).requires_fit)
def check_unfitted(case: TextCase) -> None:
    """Prediction before ``fit`` raises NotFittedError."""
    _require_unfitted(case, case.new(), "an estimator before fit")


def _require_unfitted(case: TextCase, estimator: Any, what: str) -> None:
    if not get_tags(estimator).requires_fit:
        return
    for name in METHODS:
        if not hasattr(estimator, name):
            continue
        try:
            getattr(estimator, name)(case.texts)
        except NotFittedError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{name} of {what} raises {error!r}. Raise NotFittedError."
            ) from error
        raise AssertionError(f"{name} of {what} works. Raise NotFittedError.")


def check_fit_returns_self(case: TextCase) -> None:
    """``fit`` returns the estimator."""
    estimator = case.new()
    found = estimator.fit(case.texts, None if case.kind == "nothing" else case.y)
    require(found is estimator, f"fit returns {type(found).__name__}, not self.")


def check_fit_changes_nothing(case: TextCase) -> None:
    """``fit`` does not modify X, y or the parameters."""
    for make in (list, as_objects, as_series):
        X, y = make(copy.deepcopy(case.texts)), make(copy.deepcopy(case.y))
        if case.kind == "numbers" and make is as_objects:
            y = np.array(case.y)
        estimator = case.new()
        before = estimator.get_params()
        hashes = {name: _hash(value) for name, value in before.items()}
        estimator.fit(X, None if case.kind == "nothing" else y)
        require(list(X) == list(case.texts), "fit changes X.")
        require(list(y) == list(case.y), "fit changes y.")
        _require_parameters(estimator, before, "an estimator after fit", same=True)
        for name, value in estimator.get_params().items():
            # Pipeline fits its steps themselves.
            unchanged = _holds_estimators(value) or _hash(value) == hashes[name]
            require(unchanged, f"fit changes the parameter {name}.")


def _require_parameters(
    estimator: Any, expected: dict[str, Any], what: str, *, same: bool = False
) -> None:
    found = estimator.get_params()
    require(set(found) == set(expected), f"{what} has other parameters.")
    for name, value in expected.items():
        other = found[name]
        is_equal = other is value or (not same and _hash(other) == _hash(value))
        require(
            is_equal or _holds_estimators(value),
            f"{what} has {name}={other!r}. Expected {value!r}.",
        )


def _holds_estimators(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_estimators(item) for item in value)
    return hasattr(value, "get_params")


def _hash(value: Any) -> Any:
    try:
        return joblib.hash(value)
    except Exception:  # what cannot be pickled
        return id(value)


def check_refit(case: TextCase) -> None:
    """A second ``fit`` is equivalent to that of a new estimator."""
    if case.estimator.get_params().get("warm_start"):
        return
    n = len(case.texts)
    fewer_labels = [i for i in range(n) if i % 3]  # of the built-in ones
    for rows in (fewer_labels, range(n // 2)):
        texts, y = ([values[i] for i in rows] for values in (case.texts, case.y))
        estimator = case.fit(texts, y)
        first = set(vars(estimator))
        estimator.fit(case.texts, None if case.kind == "nothing" else case.y)
        found = predictions(estimator, case.texts)
        require_equal(found, case.expected, "after another fit before")
        left = (first & set(vars(estimator))) - set(vars(case.fitted))
        require(not left, f"a second fit leaves {sorted(left)} of the first.")


@only_if(lambda case: case.kind != "nothing")
def check_failed_fit(case: TextCase) -> None:
    """A failed ``fit`` leaves the fitted estimator unchanged."""
    fitted = case.fit()
    texts = case.texts[::-1]
    failing = {
        "None in X": ([*texts[:-1], None], case.y),
        "a y that is too short": (texts, case.y[:-1]),
        "None in y": (texts, [*case.y[:-1], None]),
    }
    for shown, (X, y) in failing.items():
        require_error(f"fit with {shown}", fitted.fit, X, y)
        try:
            found = predictions(fitted, case.texts)
        except Exception as error:
            raise AssertionError(
                f"after a fit that failed, for {shown}, the earlier one is lost: "
                f"{error!r}"
            ) from error
        require_equal(found, case.expected, f"after a fit that failed for {shown}")


@only_if(lambda case: not get_tags(case.estimator).non_deterministic)
def check_repeatable(case: TextCase) -> None:
    """The same data and ``random_state`` give the same predictions."""
    found = predictions(case.fit(), case.texts)
    require_equal(found, case.expected, "in a second fit with the same random_state")


def check_independent_fits(case: TextCase) -> None:
    """Fitting one estimator does not affect another."""
    first = case.fit()
    other = case.new()
    _require_unfitted(case, other, "an estimator after another one's fit")
    half = len(case.texts) // 2
    other.fit(case.texts[:half], None if case.kind == "nothing" else case.y[:half])
    found = predictions(first, case.texts)
    require_equal(found, case.expected, "after another estimator's fit")


def _global_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "numpy's global random state": np.random.get_state(),  # noqa: NPY002
        "the random module's state": random.getstate(),
        "the environment": dict(os.environ),
        "scikit-learn's configuration": sklearn.get_config(),
        "the working directory": os.getcwd(),
        "the recursion limit": sys.getrecursionlimit(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "torch's random state": torch.random.get_rng_state().numpy(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's default dtype": str(torch.get_default_dtype()),
            "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        }
    return state


def check_global_state(case: TextCase) -> None:
    """Global random states, settings and the environment are not changed."""
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        # A state that no seeding leads to again.
        np.random.bytes(7)  # noqa: NPY002
        random.getrandbits(7)
        before = _global_state()
        predictions(case.fit(), case.texts)
        after = _global_state()
    finally:
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
    for name, value in before.items():
        require(_hash(after[name]) == _hash(value), f"fit or predict changes {name}.")


def check_predict_changes_nothing(case: TextCase) -> None:
    """Prediction does not modify the estimator or X."""
    estimator = case.fit()
    predictions(estimator, case.texts)  # what is made ready once is not meant
    for name in case.methods:
        before = {key: _hash(value) for key, value in vars(estimator).items()}
        X = as_objects(copy.deepcopy(case.texts[:12]))
        getattr(estimator, name)(X)
        after = {key: _hash(value) for key, value in vars(estimator).items()}
        changed = {
            key for key in {*before, *after} if before.get(key) != after.get(key)
        }
        require(not changed, f"{name} changes {sorted(changed)}.")
        require(list(X) == case.texts[:12], f"{name} changes X.")


def check_silence(case: TextCase) -> None:
    """Nothing is printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        predictions(case.fit(), case.texts)
    printed = out.getvalue() + err.getvalue()
    require(not printed, f"fit or predict prints {printed[:200]!r}.")


def check_pickle(case: TextCase) -> None:
    """Pickles and deep copies give the same predictions."""
    copies: dict[str, Callable[[], Any]] = {
        "a pickle": lambda: pickle.loads(pickle.dumps(case.fitted)),
        "a deep copy": lambda: copy.deepcopy(case.fitted),
    }
    for shown, make in copies.items():
        try:
            copied = make()
            found = predictions(copied, case.texts)
        except Exception as error:
            raise AssertionError(f"{shown} cannot predict: {error!r}") from error
        require_equal(found, case.expected, f"in {shown}")
        _require_parameters(copied, case.fitted.get_params(), shown)
        lost = set(vars(case.fitted)) ^ set(vars(copied))
        lost = {name for name in lost if name.endswith("_") and name[0] != "_"}
        require(not lost, f"{shown} loses {sorted(lost)}.")
    unfitted = pickle.loads(pickle.dumps(case.new()))
    _require_unfitted(case, unfitted, "a pickle of an unfitted estimator")
