"""Checks of what is predicted: rows in order, no text changed by its company."""

from typing import Any

import numpy as np

from ._cases import (
    N_MANY,
    TextCase,
    as_objects,
    as_series,
    is_close,
    only_if,
    only_with,
    predictions,
    require,
    require_equal,
    rows_of,
)


def _pick(found: dict[str, list[Any]], rows: Any) -> dict[str, list[Any]]:
    return {name: [values[row] for row in rows] for name, values in found.items()}


def check_row_count(case: TextCase) -> None:
    """There is one prediction per text."""
    for n in (1, 2, 3, 7, len(case.texts)):
        found = predictions(case.fitted, case.texts[:n])
        for name, rows in found.items():
            require(len(rows) == n, f"{name} gives {len(rows)} rows for {n} texts.")


def check_texts_matter(case: TextCase) -> None:
    """Predictions differ between texts."""
    for name, rows in case.expected.items():
        require(
            not all(is_close(row, rows[0]) for row in rows),
            f"{name} gives {rows[0]!r} for each of {len(rows)} texts.",
        )


def check_order_invariance(case: TextCase) -> None:
    """Predictions do not depend on the order of the texts."""
    X, found = case.many
    for shown, rows in {
        "shuffled": np.random.default_rng(0).permutation(N_MANY),
        "reversed": np.arange(N_MANY)[::-1],
        "sorted by length": np.argsort([len(x) for x in X], kind="stable"),
    }.items():
        again = predictions(case.fitted, [X[row] for row in rows])
        require_equal(again, _pick(found, rows), f"for texts {shown}")


def check_subset_invariance(case: TextCase) -> None:
    """Predictions for a subset equal those within the whole."""
    X, found = case.many
    rng = np.random.default_rng(0)
    for size in [1, 1, 1, 2, 5, 20, 100]:
        rows = rng.choice(N_MANY, size, replace=False)
        again = predictions(case.fitted, [X[row] for row in rows])
        require_equal(again, _pick(found, rows), f"for {size} of {N_MANY} texts")


def check_batch_size_invariance(case: TextCase) -> None:
    """Predictions do not depend on the number of texts per call."""
    X, found = case.many
    for size, n in ((1, 20), (7, 70), (64, N_MANY)):
        parts = [
            predictions(case.fitted, X[start : min(start + size, n)])
            for start in range(0, n, size)
        ]
        joined = {name: [row for part in parts for row in part[name]] for name in found}
        require_equal(joined, _pick(found, range(n)), f"in pieces of {size} texts")


def check_repeated_texts(case: TextCase) -> None:
    """Equal texts have equal predictions, within a call and across calls."""
    X = [text for text in case.texts[:6] for _ in range(3)]
    expected = _pick(case.expected, np.repeat(np.arange(6), 3))
    require_equal(predictions(case.fitted, X), expected, "for repeated texts")
    for rows in (range(6), range(6, 12)):
        found = predictions(case.fitted, [case.texts[row] for row in rows])
        require_equal(found, _pick(case.expected, rows), "in another call")


@only_with("get_feature_names_out", "transform")
def check_feature_names(case: TextCase) -> None:
    """``get_feature_names_out`` gives one distinct str per column of ``transform``."""
    names = list(case.fitted.get_feature_names_out())
    width = case.fitted.transform(case.texts).shape[1]
    require(
        len(names) == width,
        f"get_feature_names_out gives {len(names)} names for {width} columns.",
    )
    require(all(isinstance(name, str) for name in names), "a name is no str.")
    require(len(set(names)) == len(names), "two columns have the same name.")


@only_with("get_feature_names_out", "transform", "set_output")
def check_set_output(case: TextCase) -> None:
    """``set_output(transform="pandas")`` gives named columns and keeps the index."""
    index = np.arange(len(case.texts))[::-1] + 5
    estimator = case.new().set_output(transform="pandas")
    X = as_series(case.texts, index=index)
    found = estimator.fit(X, None if case.kind == "nothing" else case.y).transform(X)
    names = list(estimator.get_feature_names_out())
    require(list(found.columns) == names, f"columns are {list(found.columns)}.")
    require(list(found.index) == list(index), "the index of X is lost.")
    values = {"transform": rows_of(found)}
    expected = {"transform": case.expected["transform"]}
    require_equal(values, expected, "as a pandas frame")


@only_with("fit_transform", "transform")
def check_fit_transform(case: TextCase) -> None:
    """``fit_transform`` is equivalent to ``fit`` and ``transform``."""
    y = None if case.kind == "nothing" else case.y
    found = {"transform": rows_of(case.new().fit_transform(case.texts, y))}
    expected = {"transform": case.expected["transform"]}
    require_equal(found, expected, "in fit_transform")


@only_if(lambda case: case.kind == "numbers")
def check_numbers(case: TextCase) -> None:
    """``predict`` gives a finite float per text."""
    found = np.asarray(case.fitted.predict(as_objects(case.texts)))
    require(found.shape == (len(case.texts),), f"predict gives shape {found.shape}.")
    require(found.dtype.kind == "f", f"predict gives {found.dtype}. Expected floats.")
    require(np.isfinite(found).all(), "predict gives numbers that are not finite.")
