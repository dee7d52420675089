"""Unsupported combinations with scikit-learn raise the expected errors."""

import re

import numpy as np
import pytest
from cells import Forbidden
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
)
from sklearn.feature_selection import (
    RFE,
    RFECV,
    SelectFromModel,
    SequentialFeatureSelector,
)
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    PartialDependenceDisplay,
    permutation_importance,
)
from sklearn.linear_model import RANSACRegressor
from sklearn.multiclass import OneVsOneClassifier
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.semi_supervised import SelfTrainingClassifier

from sktransformers import TransformerRegressor


def as_column(X):
    return np.array(X, dtype=object)[:, None]


def two_columns(y):
    return np.column_stack([y == "pos", y == "neg"]).astype(int)


def numbers(X):
    return np.array([float(len(text)) for text in X])


def two_numbers(X):
    return np.column_stack([numbers(X), -numbers(X)])


def regressor(model):
    return TransformerRegressor(model.model, max_epochs=0, device="cpu")


ONE_DIMENSION = "Expected 2D array, got 1D array instead"
NUMBERS = "could not convert string to float"
USE_COLUMN = "Requires 2-D X. Pass a single column of texts."
USE_ROWS = "Converts X to floats. Pass row indices."
CHAIN = (
    "Appends the previous targets to X as numeric columns. Pass row indices, and look "
    "up the texts in a ColumnTransformer that passes the other columns through."
)
PASSTHROUGH = (
    "Passes X on to the final estimator. Add a pipeline of embeddings to `estimators` "
    "instead."
)
NO_COEFFICIENTS = (
    "Requires one coefficient or importance per column of X. Use it on embeddings, "
    "with an estimator such as LogisticRegression."
)

FORBIDDEN = [
    Forbidden(
        "BaggingClassifier, 1-D texts",
        lambda model, X, y: BaggingClassifier(model, n_estimators=2).fit(X, y),
        ONE_DIMENSION,
        USE_COLUMN,
    ),
    Forbidden(
        "AdaBoostClassifier, 1-D texts",
        lambda model, X, y: AdaBoostClassifier(model, n_estimators=2).fit(X, y),
        ONE_DIMENSION,
        USE_COLUMN,
    ),
    Forbidden(
        "BaggingRegressor, 1-D texts",
        lambda model, X, y: BaggingRegressor(regressor(model)).fit(X, numbers(X)),
        ONE_DIMENSION,
        USE_COLUMN,
    ),
    Forbidden(
        "AdaBoostRegressor, 1-D texts",
        lambda model, X, y: AdaBoostRegressor(regressor(model)).fit(X, numbers(X)),
        ONE_DIMENSION,
        USE_COLUMN,
    ),
    Forbidden(
        "permutation_importance, 1-D texts",
        lambda model, X, y: permutation_importance(model.fit(X, y), X, y),
        ONE_DIMENSION,
        "Permutes the columns of X. Pass a data frame.",
    ),
    Forbidden(
        "OneVsOneClassifier, 1-D texts",
        lambda model, X, y: OneVsOneClassifier(model).fit(X, y),
        ONE_DIMENSION,
        USE_ROWS,
    ),
    Forbidden(
        "OneVsOneClassifier, a column of texts",
        lambda model, X, y: OneVsOneClassifier(model).fit(as_column(X), y),
        NUMBERS,
        USE_ROWS,
    ),
    Forbidden(
        "ClassifierChain, 1-D texts",
        lambda model, X, y: ClassifierChain(model).fit(X, two_columns(y)),
        ONE_DIMENSION,
        CHAIN,
    ),
    Forbidden(
        "ClassifierChain, a column of texts",
        lambda model, X, y: ClassifierChain(model).fit(as_column(X), two_columns(y)),
        NUMBERS,
        CHAIN,
    ),
    Forbidden(
        "RegressorChain, 1-D texts",
        lambda model, X, y: RegressorChain(regressor(model)).fit(X, two_numbers(X)),
        ONE_DIMENSION,
        CHAIN,
    ),
    Forbidden(
        "RegressorChain, a column of texts",
        lambda model, X, y: RegressorChain(regressor(model)).fit(
            as_column(X), two_numbers(X)
        ),
        NUMBERS,
        CHAIN,
    ),
    Forbidden(
        "RANSACRegressor, 1-D texts",
        lambda model, X, y: RANSACRegressor(regressor(model), min_samples=8).fit(
            X, numbers(X)
        ),
        ONE_DIMENSION,
        USE_ROWS,
    ),
    Forbidden(
        "RANSACRegressor, a column of texts",
        lambda model, X, y: RANSACRegressor(regressor(model), min_samples=8).fit(
            as_column(X), numbers(X)
        ),
        NUMBERS,
        USE_ROWS,
    ),
    Forbidden(
        "StackingClassifier with `passthrough`, 1-D texts",
        lambda model, X, y: StackingClassifier(
            [("a", model)], cv=2, passthrough=True
        ).fit(X, y),
        "all the input arrays must have same number of dimensions",
        PASSTHROUGH,
    ),
    Forbidden(
        "StackingClassifier with `passthrough`, a column of texts",
        lambda model, X, y: StackingClassifier(
            [("a", model)], cv=2, passthrough=True
        ).fit(as_column(X), y),
        NUMBERS,
        PASSTHROUGH,
    ),
    Forbidden(
        "SelfTrainingClassifier, 1-D texts",
        lambda model, X, y: SelfTrainingClassifier(model).fit(X, y == "pos"),
        ONE_DIMENSION,
        USE_ROWS,
    ),
    Forbidden(
        "SelfTrainingClassifier, a column of texts",
        lambda model, X, y: SelfTrainingClassifier(model).fit(as_column(X), y == "pos"),
        NUMBERS,
        USE_ROWS,
    ),
    Forbidden(
        "SequentialFeatureSelector of text columns",
        lambda model, X, y: SequentialFeatureSelector(model).fit(
            np.array([X, X], dtype=object).T, y
        ),
        NUMBERS,
        "Requires numeric columns, such as embeddings.",
    ),
    Forbidden(
        "RFE",
        lambda model, X, y: RFE(model).fit(as_column(X), y),
        NUMBERS,
        NO_COEFFICIENTS,
    ),
    Forbidden(
        "RFECV",
        lambda model, X, y: RFECV(model).fit(as_column(X), y),
        NUMBERS,
        NO_COEFFICIENTS,
    ),
    Forbidden(
        "SelectFromModel",
        lambda model, X, y: SelectFromModel(model).fit(X, y).transform(as_column(X)),
        "should have `coef_` or `feature_importances_` attribute",
        NO_COEFFICIENTS,
    ),
    Forbidden(
        "DecisionBoundaryDisplay",
        lambda model, X, y: DecisionBoundaryDisplay.from_estimator(
            model.fit(as_column(X), y), as_column(X)
        ),
        "n_features must be equal to 2",
        "Requires two numeric columns.",
    ),
    Forbidden(
        "PartialDependenceDisplay of many texts",
        lambda model, X, y: PartialDependenceDisplay.from_estimator(
            model.fit(as_column(X), y), as_column(X), [0]
        ),
        "can't multiply sequence by non-int",
        "Interpolates between the values of a column. For a column with few distinct "
        "values, pass its name as `categorical_features`.",
    ),
]


@pytest.mark.parametrize("entry", FORBIDDEN, ids=lambda entry: entry.tool)
def test_unsupported_combinations_raise(entry, quick, X, y):
    with pytest.raises((ValueError, TypeError), match=re.escape(entry.message)):
        entry.attempt(quick.set_params(max_epochs=0), X, y)
