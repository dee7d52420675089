"""Checks of y, of sample weights, and of predictions in terms of y."""

import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from ._cases import (
    TextCase,
    as_objects,
    as_series,
    only_for,
    only_if,
    predictions,
    require,
    require_equal,
    require_error,
)

_only_with_y = only_for("labels", "numbers", "tags", "texts")


def _labels_and(method: str) -> Any:
    return only_if(
        lambda case: case.kind == "labels" and hasattr(case.estimator, method)
    )


@_only_with_y
def check_malformed_y(case: TextCase) -> None:
    """Missing y, missing values in y and inconsistent lengths raise an error."""
    y = case.y
    wrong: dict[str, Any] = {
        "a y that is too short": y[:-1],
        "a y that is too long": [*y, y[0]],
        "an empty y": [],
        "a bare string as y": "good",
        "None in y": [*y[:-1], None],
        "NaN in y": [*y[:-1], float("nan")],
    }
    for shown, value in wrong.items():
        require_error(f"fit with {shown}", case.fit, y=value)
    if get_tags(case.estimator).target_tags.required and case.kind != "texts":
        require_error("fit without y", case.new().fit, case.texts, None)


def _label_kinds(case: TextCase) -> dict[str, Any]:
    """Return y in other dtypes; the labels sort like those of the case."""
    import pandas as pd

    classes = sorted(set(case.y))
    codes = np.array([classes.index(label) for label in case.y])
    is_first = codes == 0
    return {
        "str arrays": np.array(case.y),
        "arrays of str objects": np.array(case.y, dtype=object),
        "Series of strings": pd.Series(case.y, dtype="string"),
        "categorical Series": pd.Series(case.y, dtype="category"),
        "int64 arrays": codes,
        "int8 arrays": codes.astype(np.int8) - 1,
        "uint8 arrays": codes.astype(np.uint8) + 5,
        "lists of int": (codes * 10).tolist(),
        "nullable integers": pd.Series(codes, dtype="Int64"),
        "float64 arrays": codes.astype(float),
        "float32 arrays": codes.astype(np.float32),
        "bool arrays": ~is_first,
        "lists of bool": (~is_first).tolist(),
    }


@only_for("labels")
def check_label_dtypes(case: TextCase) -> None:
    """Predicted labels have the type and, for arrays, the dtype of y."""
    for shown, y in _label_kinds(case).items():
        fitted = case.fit(y=y)
        found = fitted.predict(case.texts)
        if isinstance(y, np.ndarray) and y.dtype != object:
            for what, array in {"predict": found, "classes_": fitted.classes_}.items():
                require(
                    array.dtype == y.dtype,
                    f"{what} gives {array.dtype} for labels in {shown}.",
                )
        labels = y.tolist() if hasattr(y, "tolist") else y
        strange = {
            repr(label)
            for label in found.tolist()
            if not any(label == other for other in labels)
            or type(label) is not type(labels[0])
        }
        require(not strange, f"predict gives {strange} for labels in {shown}.")
        if len(set(labels)) == len(set(case.y)):
            expected = {label: other for label, other in zip(case.y, labels)}  # noqa: B905, C416
            wanted = [expected[label] for label in case.expected["predict"]]
            require(
                found.tolist() == wanted,
                f"predict gives {found.tolist()} for labels in {shown}. Expected "
                f"{wanted}, as for str.",
            )


@_only_with_y
def check_target_containers(case: TextCase) -> None:
    """Lists, tuples, arrays and Series of the same targets give the same fit."""
    for shown, y in {
        "a tuple": tuple(case.y),
        "an array of objects": as_objects(case.y),
        "a Series": as_series(case.y).infer_objects(),
    }.items():
        if shown == "an array of objects" and case.kind == "numbers":
            y = np.array(case.y)
        found = predictions(case.fit(y=y), case.texts)
        require_equal(found, case.expected, f"after fit on {shown} as y, not a list")


@only_for("labels")
def check_classes(case: TextCase) -> None:
    """``classes_`` is the sorted distinct labels of y."""
    found, expected = case.fitted.classes_.tolist(), np.unique(case.y).tolist()
    require(found == expected, f"classes_ is {found}. Expected {expected}.")
    backwards = case.fit(case.texts[::-1], case.y[::-1])
    require(
        backwards.classes_.tolist() == expected,
        "classes_ depends on the order of y.",
    )


@_labels_and("predict_proba")
def check_probabilities(case: TextCase) -> None:
    """``predict_proba`` has the right shape, sums to 1 and agrees with ``predict``."""
    found = np.asarray(case.fitted.predict_proba(case.texts))
    classes = case.fitted.classes_
    require(
        found.shape == (len(case.texts), len(classes)),
        f"predict_proba gives shape {found.shape} for {len(case.texts)} texts and "
        f"{len(classes)} classes.",
    )
    require((found >= 0).all() and (found <= 1).all(), "probabilities leave [0, 1].")
    worst = np.abs(found.sum(axis=1) - 1).max()
    require(worst < 1e-5, f"rows of predict_proba miss a sum of 1 by {worst:.1e}.")
    chosen = classes[found.argmax(axis=1)].tolist()
    require(
        chosen == list(case.expected["predict"]),
        "predict does not give the class of the largest column of predict_proba.",
    )


@_labels_and("decision_function")
def check_decision_function(case: TextCase) -> None:
    """``decision_function`` has the right shape and agrees with ``predict``."""
    found = np.asarray(case.fitted.decision_function(case.texts))
    classes = case.fitted.classes_
    n = len(case.texts)
    shape = (n,) if len(classes) == 2 else (n, len(classes))
    require(found.shape == shape, f"decision_function gives shape {found.shape}.")
    codes = (found > 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)
    require(
        classes[codes].tolist() == list(case.expected["predict"]),
        "predict does not give the class that decision_function prefers.",
    )
    pair = [i for i, label in enumerate(case.y) if label in classes[:2]]
    two = case.fit([case.texts[i] for i in pair], [case.y[i] for i in pair])
    found = np.asarray(two.decision_function(case.texts))
    require(found.shape == (n,), f"decision_function gives {found.shape} for 2 classes")
    chosen = two.classes_[(found > 0).astype(int)].tolist()
    require(
        chosen == two.predict(case.texts).tolist(),
        "decision_function is not positive where the second of 2 classes is predicted.",
    )


@only_if(lambda case: case.kind == "tags" and hasattr(case.estimator, "predict_proba"))
def check_probabilities_of_tags(case: TextCase) -> None:
    """``predict_proba`` gives one row per word and one column per tag."""
    n_tags = len(case.fitted.classes_)
    for row, found in enumerate(case.expected["predict_proba"]):
        text = case.texts[row]
        n_words = len(text) if case.is_tokenized else len(case.expected["predict"][row])
        require(
            found.shape == (n_words, n_tags),
            f"predict_proba gives shape {found.shape} for {n_words} words, {n_tags} "
            "tags.",
        )
        sums = found.sum(axis=1)
        require(np.allclose(sums, 1, atol=1e-5), f"probabilities sum to {sums}.")


@only_if(lambda case: hasattr(case.estimator, "score") and case.kind != "nothing")
def check_score(case: TextCase) -> None:
    """``score`` is the accuracy or R^2, or is highest for the own predictions."""
    texts, y, predicted = case.texts, case.y, case.expected["predict"]
    found = case.fitted.score(texts, y)
    require(np.ndim(found) == 0, f"score gives {found!r}. Expected a number.")
    if case.kind in ("labels", "numbers"):
        metric = accuracy_score if case.kind == "labels" else r2_score
        expected = metric(y, predicted)
        require(
            abs(found - expected) < 1e-6,
            f"score gives {found}. Expected {metric.__name__}, {expected}.",
        )
        return
    best = case.fitted.score(texts, predicted)
    require(
        found <= best <= 1,
        f"score gives {found} for y, and {best} for what was predicted itself.",
    )


def _takes_weights(case: TextCase) -> bool:
    return case.kind != "nothing" and has_fit_parameter(case.estimator, "sample_weight")


@only_if(_takes_weights)
def check_zero_weights(case: TextCase) -> None:
    """A weight of 0 is equivalent to removing the text, equal weights to none."""
    n = len(case.texts)
    ones = case.new().fit(case.texts, case.y, sample_weight=np.full(n, 1.0))
    require_equal(
        predictions(ones, case.texts), case.expected, "with all sample weights 1"
    )
    # The texts that are left out bring the wrong targets.
    texts, y = [*case.texts, *case.texts[:9]], [*case.y, *_wrong(case)[:9]]
    weights = np.repeat([1.0, 0.0], [n, 9])
    fitted = case.new().fit(texts, y, sample_weight=weights)
    found = predictions(fitted, case.texts)
    require_equal(found, case.expected, "if 9 more texts have a weight of 0")


def _wrong(case: TextCase) -> list[Any]:
    """Return targets that fit the texts in form, but are other ones."""
    if case.kind == "tags":
        return [["O"] * len(tags) for tags in case.y]
    others = [value for value in case.y if value != case.y[0]]
    return [others[0] if value == case.y[0] else case.y[0] for value in case.y]


@only_if(_takes_weights)
def check_malformed_weights(case: TextCase) -> None:
    """Negative, NaN or infinite weights, or of a wrong shape, raise an error."""
    ones = np.ones(len(case.texts))
    wrong: dict[str, Any] = {
        "a negative weight": np.where(np.arange(len(ones)) == 3, -1.0, ones),
        "a weight of NaN": np.where(np.arange(len(ones)) == 3, np.nan, ones),
        "an infinite weight": np.where(np.arange(len(ones)) == 3, np.inf, ones),
        "a weight too few": ones[1:],
        "weights in two columns": np.stack([ones, ones], axis=1),
        "all weights zero": 0 * ones,
    }
    for shown, weights in wrong.items():
        require_error(f"fit with {shown}", case.fit, sample_weight=weights)


@only_if(lambda case: _takes_weights(case) and hasattr(case.estimator, "score"))
def check_weights_in_a_search(case: TextCase) -> None:
    """Sample weights are routed through a hyper-parameter search."""
    weights = np.linspace(0.2, 2, len(case.texts))
    weights[::4] = 0
    expected = case.new().fit(case.texts, case.y, sample_weight=weights)
    with sklearn.config_context(enable_metadata_routing=True), _quiet():
        estimator = case.new().set_fit_request(sample_weight=True)
        if hasattr(estimator, "set_score_request"):
            estimator.set_score_request(sample_weight=False)
        search = GridSearchCV(estimator, {}, cv=KFold(2), error_score="raise")
        try:
            search.fit(case.texts, case.y, sample_weight=weights)
        except Exception as error:
            raise AssertionError(
                f"a search that is given sample weights raises {error!r}."
            ) from error
        found = predictions(search.best_estimator_, case.texts)
    when = "after a search that was given sample weights"
    require_equal(found, predictions(expected, case.texts), when)


def _quiet() -> Any:
    return warnings.catch_warnings(action="ignore")
