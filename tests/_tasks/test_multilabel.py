"""Tests of the multilabel task: indicators, class weights and probabilities."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sktransformers._tasks.labels import check_classification_y
from sktransformers._tasks.multilabel import MultilabelTask

OUTPUTS = np.array([[2.0, -1.0, 0.5], [-800.0, 900.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize(
    "y",
    [
        [[0, 1, 1], [1, 0, 0]],
        np.array([[0, 1, 1], [1, 0, 0]], dtype=np.int8),
        np.array([[0, 1, 1], [1, 0, 0]], dtype=bool),
        np.array([[0, 1, 1], [1, 0, 0]], dtype=float),
        sparse.csr_matrix([[0, 1, 1], [1, 0, 0]]),
        sparse.coo_array([[0, 1, 1], [1, 0, 0]]),
        pd.DataFrame({"a": [0, 1], "b": [1, 0], "c": [1, 0]}),
        pl.DataFrame({"a": [0, 1], "b": [1, 0], "c": [1, 0]}),
    ],
    ids=["list", "int8", "bool", "float", "csr", "coo", "pandas", "polars"],
)
def test_indicators_are_multilabel(y):
    y = check_classification_y(y)
    target = MultilabelTask(y.shape[1])
    encoded = target.encode(y)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert target.decode(encoded - 0.5).tolist() == [[0, 1, 1], [1, 0, 0]]
    weights = np.ones(len(encoded))
    assert target.score(encoded - 0.5, encoded, weights, weights) == 1
    assert target.score(0.5 - encoded, encoded, weights, weights) == 0


def test_a_frame_of_nullable_integers_is_an_indicator():
    frame = pd.DataFrame({"a": [0, 1, 1], "b": [1, 1, 0]}).convert_dtypes()
    assert check_classification_y(frame).tolist() == [[0, 1], [1, 1], [1, 0]]
    frame.iloc[1, 1] = pd.NA
    with pytest.raises(ValueError, match=r"y\[1\]"):
        check_classification_y(frame)


def test_class_weights_of_indicators():
    target, y = MultilabelTask(2), np.array([[0, 1], [0, 1], [1, 1]])
    assert target.weigh_classes(y, None).tolist() == [1, 1, 1]
    weights = target.weigh_classes(y, "balanced")
    assert (
        weights[2] == 2 * weights[0]
    )  # the label of the last text is half as frequent
    with pytest.raises(ValueError, match="'balanced' or None"):
        target.weigh_classes(y, {0: 1})


def test_probabilities_of_indicators():
    target = MultilabelTask(3)
    probabilities = target.probabilities(OUTPUTS)
    expected = 1 / (1 + np.exp(-OUTPUTS[0].astype(float)))
    assert probabilities[0] == pytest.approx(expected)
    np.testing.assert_allclose(
        target._from_mean(probabilities)[0], OUTPUTS[0], rtol=1e-12
    )
    assert np.array_equal(target.decision(OUTPUTS), OUTPUTS)
