"""Tests of the classification task: labels, class weights and probabilities."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sktransformers._tasks.labels import LabelTask, check_classification_y
from sktransformers._tasks.multilabel import MultilabelTask

NA, NAT, NAN = pd.NA, pd.NaT, float("nan")
# Before pandas 3, str was another word for object.
PANDAS_STR = object if pd.Series(["a"], dtype="str").dtype == object else "<U1"

# The first two labels of each kind, and the dtype that they come back in.
LABELS = {
    "list of str": (["b", "a"], "<U1"),
    "tuple of str": (("b", "a"), "<U1"),
    "list of numpy str": ([np.str_("b"), np.str_("a")], "<U1"),
    "str array": (np.array(["b", "a"]), "<U1"),
    "StringDType": (np.array(["b", "a"], np.dtypes.StringDType()), "<U1"),
    "object array of str": (np.array(["b", "a"], dtype=object), object),
    "int": ([40, -7], np.int64),
    "int8 array": (np.array([3, -7], dtype=np.int8), np.int8),
    "object array of int": (np.array([40, -7], dtype=object), np.int64),
    "bool": ([True, False], np.bool_),
    "whole floats": ([2.0, 1.0], np.float64),
    "pandas str": (pd.Series(["b", "a"], dtype="str"), PANDAS_STR),
    "pandas string": (pd.Series(["b", "a"], dtype="string"), "<U1"),
    "pandas object": (pd.Series(["b", "a"], dtype=object), object),
    "pandas Int64": (pd.Series([40, -7], dtype="Int64"), np.int64),
    "pandas boolean": (pd.Series([True, False], dtype="boolean"), np.bool_),
    "pandas categorical": (pd.Series(pd.Categorical(["b", "a"], ["b", "a"])), "<U1"),
    "bare categorical": (pd.Categorical([40, -7]), np.int64),
    "pandas index": (pd.Index(["b", "a"]), PANDAS_STR),
    "polars str": (pl.Series(["b", "a"]), "<U1"),
    "polars int": (pl.Series([40, -7]), np.int64),
    "polars categorical": (pl.Series(["b", "a"], dtype=pl.Categorical), "<U1"),
    "dates": (np.array(["2020", "2019"], dtype="datetime64[D]"), "<M8[D]"),
}


@pytest.mark.parametrize(("y", "dtype"), LABELS.values(), ids=LABELS)
def test_labels_round_trip_with_their_dtype(y, dtype):
    y = check_classification_y(y)
    assert y.dtype == dtype
    assert y[0] > y[1]
    target = LabelTask(np.unique(y))
    assert target.classes.dtype == y.dtype
    codes = target.encode(y)
    assert codes.tolist() == [1, 0]
    decoded = target.decode(np.eye(2)[codes])
    assert decoded.dtype == y.dtype
    assert decoded.tolist() == y.tolist()


def test_a_series_is_read_by_position():
    y = pd.Series(["b", "a", "c"], index=[2, 0, 1])
    assert check_classification_y(y).tolist() == ["b", "a", "c"]


def test_a_column_vector_is_flattened_with_a_warning():
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        y = check_classification_y(np.array([["b"], ["a"]]))
    assert y.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        ("ab", "single str"),
        (3, "1d array"),
        (["a", None], r"NaN.*y\[1\] is None"),
        ([None, "a"], r"y\[0\] is None"),
        (["a", NAN], r"y\[1\] is nan"),
        ([NAN, "a"], r"y\[0\] is nan"),  # numpy makes the label "nan" of it
        ([1.0, NAN], r"y\[1\] is nan"),
        ([1.0, float("inf")], r"infinity.*y\[1\]"),
        (["a", NA], r"y\[1\] is <NA>"),
        (pd.Series([1, NA], dtype="Int64"), r"y\[1\]"),
        (pd.Series(["a", NA], dtype="string"), r"y\[1\]"),
        (pd.Series(["a", None], dtype="str"), r"y\[1\]"),
        (pd.Series(["a", None], dtype="category"), r"y\[1\]"),
        (pd.Series([NAT, pd.Timestamp(2020, 1, 1)], dtype=object), r"y\[0\] is NaT"),
        (pl.Series(["a", None]), r"y\[1\] is None"),
        (np.array(["a", NAN], np.dtypes.StringDType(na_object=NAN)), r"y\[1\] is nan"),
        (pl.Series([1, None]), r"y\[1\] is None"),
        ([1.5, 2.25], "Unknown label type: continuous"),
        (["a", 1], r"mixes str labels.*y\[1\] is 1"),
        ([1, "a"], r"mixes str labels.*y\[1\] is 'a'"),  # numpy makes "1" of it
        ([True, "a"], "mixes str labels"),
        (np.array(["a", 1], dtype=object), "mixes str labels"),
        ([[0, 1], [1, 0, 1]], "MultiLabelBinarizer"),
        ([[1, 2], [2, 1]], "nothing but 0 and 1"),
        ([[-1, 1], [1, -1]], "nothing but 0 and 1"),
        ([[0.5, 0.1], [0.2, 0.3]], "continuous-multioutput"),
        ([[0, 1], [NAN, 0]], r"y\[1\] is nan"),
        (np.array([[0, 1], [0, NA]], dtype=object), r"y\[1\] is <NA>"),
        ([[0, 1, 2], [2, 1, 0]], "multiclass-multioutput"),
        ([["a", "b"], ["b", "a"]], "multioutput|indicator"),
        (np.zeros((2, 2, 2)), "dim 3"),
        (np.array(["NaT", "2020"], dtype="M8[D]"), r"y\[0\] is None"),
    ],
)
def test_what_y_may_not_be(y, message):
    with pytest.raises(ValueError, match=message):
        check_classification_y(y)


def test_an_unknown_label_is_named_with_its_row():
    target = LabelTask(np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"y\[2\] is 'z', which is not among.*'a'"):
        target.encode(np.array(["a", "b", "z", "z"]))


@pytest.mark.parametrize(
    ("target", "y"),
    [
        (LabelTask(np.array([0, 1])), np.eye(2)),
        (MultilabelTask(3), np.eye(2)),
        (MultilabelTask(3), np.array(["a", "b"])),
    ],
)
def test_labels_and_indicators_do_not_mix(target, y):
    with pytest.raises(ValueError, match="shape"):
        target.encode(y)


@pytest.mark.parametrize(
    ("class_weight", "y", "expected"),
    [
        (None, ["a", "b"], [1, 1]),
        ({"b": 3}, ["a", "b", "b"], [1, 3, 3]),
        ({"b": 3}, ["a", "a"], [1, 1]),  # as a part of the texts may be
        ({"a": 0, "b": 3}, ["a", "b"], [0, 3]),
        ("balanced", ["a", "a", "a", "b"], [2 / 3, 2 / 3, 2 / 3, 2]),
        ("balanced", ["a", "a"], [1, 1]),
    ],
)
def test_class_weights(class_weight, y, expected):
    target = LabelTask(np.array(["a", "b"]))
    targets = target.encode(np.array(y))
    np.testing.assert_allclose(target.weigh_classes(targets, class_weight), expected)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"a": -1}, r"class_weight\['a'\] must be a finite number of at least 0"),
        ({"a": NAN}, "finite number"),
        ({"a": float("inf")}, "finite number"),
        ({"a": "1"}, "finite number"),
        ({"a": 1, "z": 1}, "not in class_weight"),
    ],
)
def test_bad_class_weights(class_weight, message):
    with pytest.raises(ValueError, match=message):
        LabelTask(np.array(["a", "b"])).weigh_classes(np.array([0, 1]), class_weight)


OUTPUTS = np.array([[2.0, -1.0, 0.5], [-800.0, 900.0, 0.0]], dtype=np.float32)


def test_probabilities_of_labels():
    target = LabelTask(np.arange(3))
    probabilities = target.probabilities(OUTPUTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(
        target._from_mean(probabilities)[0], np.log(probabilities[0])
    )
    decision = target.decision(OUTPUTS)
    np.testing.assert_allclose(np.exp(decision), probabilities)
    assert np.isfinite(decision).all()


def test_the_decision_between_two_labels_is_the_log_odds_of_the_second():
    target = LabelTask(np.arange(2))
    probabilities = target.probabilities(OUTPUTS[:, :2])
    np.testing.assert_allclose(target.decision(OUTPUTS[:, :2]), [-3, 1700])
    np.testing.assert_allclose(probabilities[0, 1] / probabilities[0, 0], np.exp(-3))


def test_the_loss_is_minus_the_log_likelihood():
    outputs, label = torch.tensor(OUTPUTS[:1]), torch.tensor([2])
    target = LabelTask(np.arange(3))
    expected = -np.log(target.probabilities(OUTPUTS[:1])[0, 2])
    assert float(target.loss(outputs, label)) == pytest.approx(expected, rel=1e-5)

    indicators = MultilabelTask(3)
    p = indicators.probabilities(OUTPUTS[:1])[0]
    expected = -np.log([p[0], 1 - p[1], p[2]]).sum()
    loss = indicators.loss(outputs, torch.tensor([[1.0, 0.0, 1.0]]))
    assert loss.shape == (1,)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
