"""Lists of labels or numbers for each text, which an array cannot always hold."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from sktransformers import TransformerClassifier, TransformerRegressor
from sktransformers._tasks.labels import check_classification_y
from sktransformers._tasks.numbers import check_regression_y

RAGGED = [["news"], ["news", "sport"], []]


def as_objects(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


@pytest.mark.parametrize(
    ("y", "row"),
    [
        (RAGGED, 0),
        ([tuple(labels) for labels in RAGGED], 0),
        (list(map(set, RAGGED)), 0),
        (list(map(np.array, RAGGED)), 0),
        (pd.Series(RAGGED, index=[7, 8, 9]), 0),
        (pd.Series([{"a"}, {"a", "b"}]), 0),
        (pd.Series([["a", "b"], ["b", "c"]]), 0),
        (pd.Series([[0, 1], [1, 1]]), 0),
        (pl.Series(RAGGED), 0),
        (as_objects(RAGGED), 0),
        (["news", ["news", "sport"]], 1),
        ([0, [0, 1]], 1),
        ([[1, 2], [2]], 0),
    ],
)
def test_several_labels_of_a_text_are_to_be_binarized(y, row):
    message = rf"y\[{row}\] is a \w+, .*MultiLabelBinarizer\(\)\.fit_transform\(y\)"
    with pytest.raises(ValueError, match=message):
        check_classification_y(y)


@pytest.mark.parametrize("y", [[["a", "b"], ["b", "c"]], [[1, 2], [3, 4]]])
def test_as_many_labels_of_each_text_are_to_be_binarized(y):
    with pytest.raises(ValueError, match=r"MultiLabelBinarizer\(\)\.fit_transform"):
        check_classification_y(y)
    assert check_classification_y(MultiLabelBinarizer().fit_transform(y)).ndim == 2


@pytest.mark.parametrize(
    "y",
    [
        [[1.0], [1.0, 2.0]],
        [1.0, [2.0]],
        [{1.0}, {2.0}],
        pd.Series([[1.0, 2.0], [3.0, 4.0]]),
        pd.Series([[1.0], [3.0, 4.0]]),
        as_objects([(1, 2), (3,)]),
    ],
)
def test_numbers_of_each_text_are_to_be_stacked(y):
    with pytest.raises(ValueError, match=r"y\[\d\] is a .* numpy\.stack\(y\)"):
        check_regression_y(y)


def test_stacked_numbers_are_targets():
    y = pd.Series([[1.0, 2.0], [3.0, 4.0]])
    assert check_regression_y(np.stack(y)).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_estimators_refuse_them_and_keep_their_model(tiny_classifier):
    X = ["a good film", "so bad", "the plot"]
    tiny_classifier.fit(X, ["pos", "neg", "pos"])
    expected = tiny_classifier.predict_proba(X)
    for fit in (tiny_classifier.fit, tiny_classifier.partial_fit):
        with pytest.raises(ValueError, match="MultiLabelBinarizer"):
            fit(X, pd.Series(RAGGED))
    assert np.array_equal(tiny_classifier.predict_proba(X), expected)
    with pytest.raises(ValueError, match="MultiLabelBinarizer"):
        TransformerClassifier(tiny_classifier.model).partial_fit(X, RAGGED, ["a"])
    with pytest.raises(ValueError, match=r"numpy\.stack"):
        TransformerRegressor(tiny_classifier.model).fit(X, [[1], [2, 3], []])
