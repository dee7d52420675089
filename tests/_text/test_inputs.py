"""What X may be: each accepted kind gives the same texts, each other its own error."""

import array
import collections
import datetime
import enum
import re
import types

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from sktransformers._text.inputs import Texts, check_texts
from sktransformers.exceptions import SktransformersError, TextTypeError, TextValueError

TEXTS = ["first text", "", "naïve café ☕", "second\ntext"]
OTHERS = ["a", "b", "c", "d"]
SHUFFLED = [3, 0, 2, 1]


class Word(enum.Enum):
    """str(Word.FIRST) is not the text."""

    FIRST = "first text"


class StrWord(str, enum.Enum):  # noqa: UP042 - its str() is "StrWord.FIRST"
    FIRST = "first text"


def object_array(values):
    """Return a one-dimensional array, whatever the values are."""
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


ONE_COLUMN = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "deque": collections.deque(TEXTS),
    "dict values": dict(enumerate(TEXTS)).values(),
    "object array": np.array(TEXTS, dtype=object),
    "str array": np.array(TEXTS),
    "StringDType": np.array(TEXTS, dtype=np.dtypes.StringDType()),
    "list of numpy.str_": list(np.array(TEXTS)),
    "Fortran order": np.asfortranarray(np.array(TEXTS)),
    "reversed view": np.array(TEXTS[::-1])[::-1],
    "read-only": np.frombuffer(np.array(TEXTS), dtype="U12"),
    "Series": pd.Series(TEXTS),
    "Series, object": pd.Series(TEXTS, dtype=object),
    "Series, string": pd.Series(TEXTS, dtype="string"),
    "Series, string[pyarrow]": pd.Series(TEXTS, dtype="string[pyarrow]"),
    "Series, string[python]": pd.Series(TEXTS, dtype="string[python]"),
    "Series, str": pd.Series(TEXTS, dtype="str"),
    "Series, category": pd.Series(TEXTS, dtype="category"),
    "Series, arrow": pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "Index": pd.Index(TEXTS),
    "pandas array": pd.array(TEXTS),
    "Categorical": pd.Categorical(TEXTS),
    "polars": pl.Series(TEXTS),
    "polars, categorical": pl.Series(TEXTS, dtype=pl.Categorical),
    "polars, enum": pl.Series(TEXTS, dtype=pl.Enum(TEXTS)),
    "pyarrow": pa.array(TEXTS),
    "pyarrow, chunked": pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    "pyarrow, dictionary": pa.array(TEXTS).dictionary_encode(),
    "pyarrow, large": pa.array(TEXTS, pa.large_string()),
    "array with one column": np.array(TEXTS)[:, None],
    "frame": pd.DataFrame({"t": TEXTS}),
    "frame, category": pd.DataFrame({"t": pd.Categorical(TEXTS)}),
    "frame named columns": pd.DataFrame({"column_names": TEXTS}),
    "polars frame": pl.DataFrame({"t": TEXTS}),
    "pyarrow table": pa.table({"t": TEXTS}),
}


@pytest.mark.parametrize("X", ONE_COLUMN.values(), ids=ONE_COLUMN)
def test_every_kind_gives_the_same_texts(X):
    texts = check_texts(X)
    assert texts.columns == [TEXTS]
    assert {type(text) for text in texts.columns[0]} == {str}
    assert len(texts) == 4


@pytest.mark.parametrize("dtype", [object, "string", "str", "category"])
def test_a_series_is_read_by_position_not_by_index(dtype):
    series = pd.Series(TEXTS, index=SHUFFLED, dtype=dtype)
    assert check_texts(series).columns == [TEXTS]
    assert check_texts(series.to_frame("t")).columns == [TEXTS]
    assert check_texts(series.iloc[1:3]).columns == [TEXTS[1:3]]
    duplicated = pd.Series(TEXTS, index=[7, 7, 7, 7], dtype=dtype)
    assert check_texts(duplicated).columns == [TEXTS]


TWO_COLUMNS = {
    "tuples": list(zip(TEXTS, OTHERS, strict=True)),
    "lists": [list(pair) for pair in zip(TEXTS, OTHERS, strict=True)],
    "tuple of tuples": tuple(zip(TEXTS, OTHERS, strict=True)),
    "array of two columns": np.array([TEXTS, OTHERS]).T,
    "object array of two columns": np.array([TEXTS, OTHERS], dtype=object).T,
    "array of tuples": object_array(list(zip(TEXTS, OTHERS, strict=True))),
    "Series of tuples": pd.Series(
        list(zip(TEXTS, OTHERS, strict=True)), index=SHUFFLED
    ),
    "frame": pd.DataFrame({"t": TEXTS, "o": OTHERS}, index=SHUFFLED),
    "frame, numbered": pd.DataFrame(dict(enumerate([TEXTS, OTHERS]))),
    "frame, one name": pd.DataFrame(
        list(zip(TEXTS, OTHERS, strict=True)), columns=["t", "t"]
    ),
    "polars frame": pl.DataFrame({"t": TEXTS, "o": OTHERS}),
    "pyarrow table": pa.table({"t": TEXTS, "o": OTHERS}),
}


@pytest.mark.parametrize("X", TWO_COLUMNS.values(), ids=TWO_COLUMNS)
def test_every_kind_of_pairs_gives_the_same_columns(X):
    texts = check_texts(X)
    assert texts.columns == [TEXTS, OTHERS]
    assert texts.is_frame
    assert len(texts) == 4


def test_frames_may_have_more_columns_and_equal_names():
    frame = pd.DataFrame([["a", "b", "c"], ["d", "e", "f"]], columns=["t", "u", "t"])
    texts = check_texts(frame)
    assert texts.columns == [["a", "d"], ["b", "e"], ["c", "f"]]
    assert texts.names == ["t", "u", "t"]


@pytest.mark.parametrize(
    ("X", "names", "is_frame"),
    [
        (TEXTS, None, False),
        (pd.Series(TEXTS, name="t"), None, False),
        (np.array(TEXTS)[:, None], None, True),
        (TWO_COLUMNS["tuples"], None, True),
        (pd.DataFrame({"t": TEXTS}), ["t"], True),
        (pl.DataFrame({"t": TEXTS}), ["t"], True),
        (pa.table({"t": TEXTS}), ["t"], True),
        (pd.DataFrame({0: TEXTS}), None, True),
        (pd.DataFrame({0: TEXTS, "t": TEXTS}), None, True),
    ],
    ids=range(9),
)
def test_names_are_kept_where_all_are_str(X, names, is_frame):
    texts = check_texts(X)
    assert texts.names == names
    assert texts.is_frame == is_frame


def test_subclasses_of_str_become_str_by_value():
    texts = check_texts([StrWord.FIRST, np.str_("b")])
    assert texts.columns == [["first text", "b"]]
    assert {type(text) for text in texts.columns[0]} == {str}


def test_odd_strings_are_texts():
    odd = ["", " ", "\x00", "\ud800", "\U0001f469‍\U0001f680", "שלום", "x" * 10**6]
    assert check_texts(odd).columns == [odd]


def test_x_is_not_changed():
    X = [StrWord.FIRST, "b"]
    check_texts(X)
    assert X[0] is StrWord.FIRST


def test_take_keeps_names():
    texts = Texts([["a", "b", "c"], ["d", "e", "f"]], ["t", "u"], True)
    taken = texts.take(np.array([2, 0]))
    assert taken == Texts([["c", "a"], ["f", "d"]], ["t", "u"], True)


CONTAINER = "X must hold texts"
ONCE = "read only once"
ROW_1 = "X[1] must be a str. Got"
EMPTY = "0 sample(s)"
NUMBER = "X[0] must be a str. Got"

MALFORMED = {
    # not a collection
    "str": ("a text", TextValueError, "X is a single str"),
    "numpy.str_": (np.str_("a text"), TextValueError, "X is a single str_"),
    "bytes": (b"a text", TextValueError, "X is a single bytes"),
    "bytearray": (bytearray(b"a"), TextValueError, "X is a single bytearray"),
    "memoryview": (memoryview(b"a"), TextValueError, "X is a single memoryview"),
    "int": (3, TextTypeError, "Got int instead"),
    "float": (3.5, TextTypeError, "Got float instead"),
    "None": (None, TextTypeError, "Got NoneType instead"),
    "object": (object(), TextTypeError, "Got object instead"),
    "function": (len, TextTypeError, CONTAINER),
    "class": (str, TextTypeError, "Got type instead"),
    "enum class": (Word, TextTypeError, CONTAINER),
    # no order, or gone once read
    "dict": ({"a": "b"}, TextTypeError, "Got dict instead"),
    "Counter": (collections.Counter("ab"), TextTypeError, "Got Counter instead"),
    "UserDict": (collections.UserDict(a="b"), TextTypeError, "Got UserDict instead"),
    "mapping proxy": (types.MappingProxyType({"a": "b"}), TextTypeError, CONTAINER),
    "set": ({"a"}, TextTypeError, "Got set instead"),
    "frozenset": (frozenset("a"), TextTypeError, "Got frozenset instead"),
    "generator": ((text for text in TEXTS), TextTypeError, ONCE),
    "iterator": (iter(TEXTS), TextTypeError, ONCE),
    "map": (map(str, TEXTS), TextTypeError, ONCE),
    "polars LazyFrame": (pl.LazyFrame({"t": TEXTS}), TextTypeError, "LazyFrame"),
    # sparse
    "sparse matrix": (sparse.csr_matrix(np.eye(2)), TextTypeError, "Sparse data"),
    "sparse array": (sparse.coo_array(np.eye(2)), TextTypeError, "Sparse data"),
    # shapes
    "0-d": (np.array("a"), TextTypeError, "0-dimensional"),
    "0-d object": (np.array(None), TextTypeError, "0-dimensional"),
    "3-d": (np.full((2, 2, 2), "a"), TextValueError, "Got shape (2, 2, 2)"),
    "three columns": (np.full((2, 3), "a"), TextValueError, "pass a DataFrame"),
    "no columns": (np.empty((2, 0), object), TextValueError, "Got shape (2, 0)"),
    "numbers, 2-d": (np.zeros((3, 5)), TextValueError, "Got shape (3, 5)"),
    # empty
    "empty list": ([], TextValueError, EMPTY),
    "empty tuple": ((), TextValueError, EMPTY),
    "empty array": (np.array([]), TextValueError, EMPTY),
    "empty str array": (np.array([], dtype=str), TextValueError, EMPTY),
    "empty array, a column": (np.empty((0, 1), object), TextValueError, EMPTY),
    "empty array, columns": (np.empty((0, 2), object), TextValueError, EMPTY),
    "empty Series": (pd.Series([], dtype=str), TextValueError, EMPTY),
    "empty frame": (pd.DataFrame({"t": []}), TextValueError, EMPTY),
    "frame of nothing": (pd.DataFrame(), TextValueError, "0 feature(s)"),
    "frame of rows": (pd.DataFrame(index=[1, 2]), TextValueError, "0 feature(s)"),
    "empty polars": (pl.Series([], dtype=pl.String), TextValueError, EMPTY),
    "empty polars frame": (pl.DataFrame(), TextValueError, "0 feature(s)"),
    "empty pyarrow": (pa.array([], pa.string()), TextValueError, EMPTY),
    # one row that is no text
    "None inside": (["a", None], TextValueError, f"{ROW_1} None instead. Drop"),
    "NaN inside": (["a", float("nan")], TextValueError, f"{ROW_1} nan (float)"),
    "pd.NA inside": (["a", pd.NA], TextValueError, f"{ROW_1} <NA> (NAType)"),
    "pd.NaT inside": (["a", pd.NaT], TextValueError, f"{ROW_1} NaT (NaTType)"),
    "bytes inside": (["a", b"b"], TextValueError, "value.decode('utf-8')"),
    "int inside": (["a", 3], TextValueError, f"{ROW_1} 3 (int)"),
    "float inside": (["a", 2.5], TextValueError, f"{ROW_1} 2.5 (float)"),
    "bool inside": (["a", True], TextValueError, f"{ROW_1} True (bool)"),
    "date inside": (["a", datetime.date(2020, 1, 1)], TextValueError, ROW_1),
    "enum inside": (["a", Word.FIRST], TextValueError, ROW_1),
    "dict inside": (["a", {"text": "b"}], TextValueError, ROW_1),
    "list inside": (["a", ["b"]], TextValueError, f"{ROW_1} a list of 1 items"),
    "pair after texts": (["a", ("b", "c")], TextValueError, f"{ROW_1} a tuple of 2"),
    "row 4321": (
        [*["a"] * 4321, None, *["a"] * 9],
        TextValueError,
        "X[4321] must be a str",
    ),
    "object array": (np.array(["a", None], object), TextValueError, ROW_1),
    "bytes array": (np.array([b"a"]), TextValueError, "X[0] must be a str. Got b'a'"),
    "StringDType": (
        np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None)),
        TextValueError,
        f"{ROW_1} None",
    ),
    "masked array": (np.ma.array(["a", "b"], mask=[0, 1]), TextValueError, ROW_1),
    "Series, by position": (
        pd.Series(["a", None], index=[5, 6], dtype=object),
        TextValueError,
        ROW_1,
    ),
    "Series, str": (pd.Series(["a", None], dtype="str"), TextValueError, ROW_1),
    "Series, string": (pd.Series(["a", pd.NA], dtype="string"), TextValueError, ROW_1),
    "Series, category": (
        pd.Series(["a", None], dtype="category"),
        TextValueError,
        ROW_1,
    ),
    "polars": (pl.Series(["a", None]), TextValueError, f"{ROW_1} None"),
    "pyarrow": (pa.array(["a", None]), TextValueError, f"{ROW_1} None"),
    "frame": (
        pd.DataFrame({"t": ["a", "b"], "u": ["c", None]}),
        TextValueError,
        "X[1] of column 'u' must be a str",
    ),
    "frame with numbers": (
        pd.DataFrame({"t": ["a", "b"], "n": [1, 2]}),
        TextValueError,
        "X[0] of column 'n' must be a str. Got 1 (int)",
    ),
    "frame without names": (
        pd.DataFrame([["a", 1]]),
        TextValueError,
        "X[0] of column 1 must be a str",
    ),
    # nothing but numbers
    "range": (range(3), TextValueError, f"{NUMBER} 0 (int)"),
    "array.array": (array.array("i", [1, 2]), TextValueError, f"{NUMBER} 1 (int)"),
    "ints": (np.arange(3), TextValueError, f"{NUMBER} 0 (int)"),
    "floats": (np.zeros(3), TextValueError, f"{NUMBER} 0.0 (float)"),
    "bools": (np.zeros(3, bool), TextValueError, f"{NUMBER} False (bool)"),
    "dates": (np.zeros(3, "M8[s]"), TextValueError, NUMBER),
    "complex": (np.zeros(3, complex), TextValueError, f"{NUMBER} 0j (complex)"),
    "a column of floats": (np.zeros((3, 1)), TextValueError, "X[0] of column 0"),
    "two columns of floats": (np.zeros((3, 2)), TextValueError, "X[0] of column 0"),
    "Series of ints": (pd.Series([1, 2]), TextValueError, f"{NUMBER} 1 (int)"),
    "polars ints": (pl.Series([1, 2]), TextValueError, f"{NUMBER} 1 (int)"),
    "tensor": (torch.zeros(3), TextValueError, NUMBER),
    "arrays in a list": ([np.array(["a", "b"])], TextValueError, NUMBER),
    # pairs
    "unequal pairs": (
        [("a", "b"), ("c",)],
        TextValueError,
        "X[1] must be a pair of texts like X[0]. Got a tuple of 1 items",
    ),
    "triples": (
        [("a", "b", "c")],
        TextValueError,
        "X[0] must be a str or a pair of texts. Got a tuple of 3 items",
    ),
    "1-tuples": ([("a",), ("b",)], TextValueError, "X[0] must be a str or a pair"),
    "empty tuples": ([()], TextValueError, "Got a tuple of 0 items"),
    "token lists": (
        [["the", "film"], ["was", "so", "good"]],
        TextValueError,
        "X[1] must be a pair of texts like X[0]. Got a list of 3 items",
    ),
    "text after pairs": (
        [("a", "b"), "ab"],
        TextValueError,
        "X[1] must be a pair of texts like X[0]. Got 'ab' (str)",
    ),
    "None after pairs": ([("a", "b"), None], TextValueError, "X[1] must be a pair"),
    "None in a pair": (
        [("a", "b"), ("a", None)],
        TextValueError,
        "X[1] of column 1 must be a str. Got None",
    ),
    "number in a pair": ([(1, "b")], TextValueError, "X[0] of column 0 must be a str"),
    "list in a pair": ([("a", ["b"])], TextValueError, "X[0] of column 1"),
}


@pytest.mark.parametrize(
    ("X", "error", "message"), MALFORMED.values(), ids=list(MALFORMED)
)
def test_malformed_x_has_its_own_error(X, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        check_texts(X)
    assert type(caught.value) is error
    assert isinstance(caught.value, SktransformersError)
    text = str(caught.value)
    assert len(text) < 250
    assert "\n" not in text


def test_an_error_stays_short_whatever_it_shows():
    with pytest.raises(TextValueError) as caught:
        check_texts(["a", np.zeros((100, 100))])
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)
