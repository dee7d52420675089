"""Checks of what X may be, and of errors where it is something else."""

import importlib.util
import re
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import KFold, cross_val_predict

from ._cases import (
    TextCase,
    as_objects,
    as_series,
    only_for,
    only_if,
    only_with,
    predictions,
    require,
    require_equal,
    require_error,
    rows_of,
)

_BAD_ROW = 7


def _missing() -> dict[str, Any]:
    import pandas as pd

    return {"None": None, "NaN": float("nan"), "pd.NA": pd.NA, "pd.NaT": pd.NaT}


def _not_texts() -> dict[str, Any]:
    return {
        "bytes": b"a good film",
        "an int": 3,
        "a dict": {"text": "a good film"},
        "an array of numbers": np.arange(3.0),
        "a list in a list": [["a good film"]],
    }


def _with_bad_row(case: TextCase, value: Any) -> list[Any]:
    return [*case.texts[:_BAD_ROW], value, *case.texts[_BAD_ROW + 1 : 12]]


def check_bare_string(case: TextCase) -> None:
    """A single str or bytes as X raises an error."""
    for X in ("a good film", b"a good film"):
        for name, call in case.calls():
            require_error(f"{name} of {X!r}", call, X)


def check_missing_texts(case: TextCase) -> None:
    """None, NaN, pd.NA and pd.NaT in a list or Series raise an error."""
    for shown, value in _missing().items():
        X = _with_bad_row(case, value)
        for name, call in case.calls():
            what = f"{name} of texts with {shown}"
            require_error(what, call, X)
            require_error(what, call, as_series(X))


def check_other_objects(case: TextCase) -> None:
    """Bytes, numbers, dicts and nested lists among the texts raise an error."""
    for shown, value in _not_texts().items():
        X = _with_bad_row(case, value)
        for name, call in case.calls():
            what = f"{name} of texts with {shown} among them"
            require_error(what, call, X)


def check_errors_name_the_row(case: TextCase) -> None:
    """The error message gives the index of the invalid row."""
    for shown, value in {**_missing(), **_not_texts()}.items():
        X = _with_bad_row(case, value)
        for name, call in case.calls():
            what = f"{name} of texts with {shown} in row {_BAD_ROW}"
            error = require_error(what, call, X)
            require(
                re.search(rf"\b{_BAD_ROW}\b", str(error)),
                f"{what} raises an error that does not name the row: {error}",
            )


def check_other_containers(case: TextCase) -> None:
    """Unordered, sparse, numeric or multidimensional X raises an error."""
    texts = case.texts[:12]
    others = {
        "None": lambda: None,
        "a number": lambda: 3,
        "a dict": lambda: dict(enumerate(texts)),
        "a set": lambda: {"good", "bad"},
        "an iterator": lambda: iter(texts),
        "a sparse matrix": lambda: sparse.eye_array(12, format="csr"),
        "an array of numbers": lambda: np.ones(12),
        "a table of numbers": lambda: np.ones((12, 3)),
        "an array without dimensions": lambda: np.array("good"),
        "an array of three dimensions": lambda: np.full((12, 2, 2), "good"),
    }
    for shown, make in others.items():
        for name, call in case.calls():
            require_error(f"{name} of {shown}", call, make())


def check_no_texts(case: TextCase) -> None:
    """X without rows or without columns raises an error."""
    import pandas as pd

    empty = {
        "an empty list": [],
        "an empty array": np.array([], dtype=object),
        "an empty Series": pd.Series([], dtype=object),
        "a frame without columns": pd.DataFrame(index=range(12)),
    }
    for shown, X in empty.items():
        for name, call in case.calls():
            require_error(f"{name} of {shown}", call, X)


def _containers(case: TextCase) -> dict[str, Any]:
    texts = case.texts
    made = {
        "a tuple": tuple(texts),
        "an array of objects": as_objects(texts),
        "a Series of objects": as_series(texts, dtype=object),
    }
    if not case.is_tokenized:
        made |= {
            "an array of str": np.array(texts),
            "a list of numpy.str_": list(np.array(texts)),
            "a Series of strings": as_series(texts, dtype="string"),
            "a Series of str": as_series(texts, dtype="str"),
            "a categorical Series": as_series(texts, dtype="category"),
        }
        if importlib.util.find_spec("polars"):
            import polars as pl

            made["a polars Series"] = pl.Series(texts)
    return made


def check_containers(case: TextCase) -> None:
    """Lists, tuples, arrays and Series of the same texts give the same predictions."""
    for shown, X in _containers(case).items():
        found = predictions(case.fitted, X)
        require_equal(found, case.expected, f"for {shown} rather than a list")
        if shown in _FITTED_TOO:
            found = predictions(case.fit(X), case.texts)
            require_equal(found, case.expected, f"after fit on {shown}, not a list")


_FITTED_TOO = ("an array of objects", "a Series of str", "a polars Series")


def _frames(case: TextCase, name: str = "text") -> dict[str, Any]:
    import pandas as pd

    frames: dict[str, Any] = {
        "a frame of one column": pd.DataFrame({name: as_objects(case.texts)})
    }
    if importlib.util.find_spec("polars"):
        import polars as pl

        frames["a polars frame of one column"] = pl.DataFrame({name: case.texts})
    return frames


def check_one_column_frames(case: TextCase) -> None:
    """A data frame with one column is equivalent to a list of texts."""
    for shown, X in _frames(case).items():
        found = predictions(_fit(case, X, shown), X)
        require_equal(found, case.expected, f"for {shown} rather than a list")


def _fit(case: TextCase, X: Any, shown: str) -> Any:
    """Fit on texts that must be accepted."""
    try:
        return case.fit(X)
    except Exception as error:
        raise AssertionError(
            f"fit of {shown} raises {type(error).__name__}: {error}"
        ) from error


def check_number_of_columns(case: TextCase) -> None:
    """Another number of columns than in ``fit`` raises an error."""
    import pandas as pd

    column = as_objects(case.texts)
    two = pd.DataFrame({"text": column, "other": column})
    for name in case.methods:
        call = getattr(case.fitted, name)
        what = f"{name} of two columns after fit on one"
        require_error(what, call, two)


@only_if(lambda case: hasattr(case.estimator, "get_feature_names_out"))
def check_column_names(case: TextCase) -> None:
    """Other column names than in ``fit`` raise an error."""
    for shown, X in _frames(case).items():
        fitted = _fit(case, X, shown)
        if not hasattr(fitted, "feature_names_in_"):
            continue  # what does not look at names need not compare them
        found = list(fitted.feature_names_in_)
        require(found == ["text"], f"feature_names_in_ is {found} after fit on {shown}")
        other = _frames(case, "other")[shown]
        for name in case.methods:
            call = getattr(fitted, name)
            what = f"{name} of a column of another name"
            require_error(what, call, other)


def check_series_by_position(case: TextCase) -> None:
    """The index of a Series is ignored: rows are read by position."""
    index = _shuffled(len(case.texts))
    X = as_series(case.texts, index=index)
    y = as_series(case.y, index=index[::-1]).infer_objects()
    found = predictions(case.fitted, X)
    require_equal(found, case.expected, "for a Series with a shuffled index")
    found = predictions(case.fit(X, y), X)
    require_equal(found, case.expected, "after fit on Series with shuffled indices")


@only_with("predict")
def check_cross_validation_of_series(case: TextCase) -> None:
    """Cross-validation gives the same predictions for Series and lists."""
    index = _shuffled(len(case.texts))
    X = as_series(case.texts, index=index)
    y = as_series(case.y, index=index).infer_objects()
    if case.kind == "nothing":
        y = None
    found, expected = (
        {"predict": rows_of(cross_val_predict(case.new(), *data, cv=KFold(2)))}
        for data in ((X, y), (case.texts, None if y is None else case.y))
    )
    require_equal(found, expected, "in cross-validation of Series, not lists")


def check_empty_strings(case: TextCase) -> None:
    """Empty strings are valid texts in ``fit`` and prediction."""
    empty = case.form("")
    positions = (0, 3, 5)
    X = list(case.texts)
    y = list(case.y)
    for position in positions:
        X[position] = empty
        y[position] = [] if case.kind == "tags" else y[position]
    fitted = case.fit(X, y)
    some = predictions(fitted, X)
    alone = predictions(fitted, [empty])
    expected = {name: rows * len(positions) for name, rows in alone.items()}
    for name, rows in some.items():
        require(
            len(rows) == len(X),
            f"{name} gives {len(rows)} rows for {len(X)} texts, 3 of them empty.",
        )
    found = {name: [rows[p] for p in positions] for name, rows in some.items()}
    require_equal(found, expected, "for empty strings among others")


_ODD = {
    "a long word": "x" * 2**20,
    "a long text": "film " * 3000,
    "emoji": "👩‍👩‍👧 🇫🇷 👍🏽",
    "a lone surrogate": "a \ud83d film",
    "NUL": "a \x00 film\x00",
    "right to left": "سلام דוגמה",
    "combining marks": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "control characters": "\x1b[31m\x7f\u200b\u202e\ufeff",
    "spaces": " \t\n\u3000 ",
    "an empty string": "",
}


def check_odd_texts(case: TextCase) -> None:
    """Very long texts, emoji, surrogates and control characters are valid texts."""
    X = [case.form(text) for text in _ODD.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts that are cut
        found = predictions(case.fitted, X)
        for name, rows in found.items():
            require(
                len(rows) == len(X),
                f"{name} gives {len(rows)} rows for {len(X)} odd texts: {list(_ODD)}.",
            )
            for shown, row in zip(_ODD, rows, strict=True):
                require(
                    _is_finite(row), f"{name} gives {row!r} for {shown}: not finite."
                )


def _is_finite(row: Any) -> bool:
    values = row.data if sparse.issparse(row) else np.asarray(row)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


@only_for("tags")
def check_token_lists(case: TextCase) -> None:
    """Lists, tuples, arrays and Series of tokens give the same predictions."""
    rows = [list(x) if case.is_tokenized else x.split() for x in case.texts]
    expected = predictions(case.fitted, rows)
    kinds: dict[str, Any] = {
        "tuples": tuple,
        "arrays": np.array,
        "Series": as_series,
    }
    for shown, kind in kinds.items():
        found = predictions(case.fitted, [kind(row) for row in rows])
        require_equal(found, expected, f"for {shown} of words rather than lists")
    for name in case.methods:
        call = getattr(case.fitted, name)
        for shown, value in {"None": None, "bytes": b"good", "an int": 3}.items():
            X = [*rows[:_BAD_ROW], ["good", value]]
            what = f"{name} of {shown} among the words of row {_BAD_ROW}"
            error = require_error(what, call, X)
            require(
                re.search(rf"\b{_BAD_ROW}\b", str(error)),
                f"{what} raises an error that does not name the row: {error}",
            )


@only_for("tags")
def check_a_tag_for_each_word(case: TextCase) -> None:
    """There is one tag per word, even for long and empty texts."""
    lengths = (0, 1, 7, 300)
    X = [["film"] * length for length in lengths]
    found = [len(tags) for tags in case.fitted.predict(X)]
    require(
        found == list(lengths),
        f"predict gives {found} tags for texts of {list(lengths)} words.",
    )
    y = [*case.y[:-1], [*case.y[-1], "O"]]
    require_error("fit of a text with a tag too many", case.fit, y=y)


def _shuffled(n: int) -> list[int]:
    return np.random.default_rng(0).permutation(n).tolist()
