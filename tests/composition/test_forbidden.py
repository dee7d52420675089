"""What scikit-learn itself refuses to do with texts, and says so."""

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
USE_COLUMN = "It checks that X has two dimensions. Pass one column of texts."
USE_ROWS = "It turns X into floats before the classifier sees it. Pass row numbers."
AS_NUMBERS = "It turns X into floats before the regressor sees it. Pass row numbers."
CHAIN = (
    "It puts the earlier labels beside X as numbers. Pass row numbers, and look "
    "the texts up in a ColumnTransformer that passes the labels on."
)
PASSTHROUGH = (
    "It puts X beside the models' predictions, for the final estimator to read. Let a "
    "model of embeddings be one of `estimators` instead."
)
NO_WEIGHTS = (
    "It ranks columns of X by one coefficient each, and a text model has none. On "
    "embeddings, give it an estimator that has, such as LogisticRegression."
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
        "It shuffles one column of X after the other. Pass a frame.",
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
        CHAIN.replace("labels", "numbers"),
    ),
    Forbidden(
        "RegressorChain, a column of texts",
        lambda model, X, y: RegressorChain(regressor(model)).fit(
            as_column(X), two_numbers(X)
        ),
        NUMBERS,
        CHAIN.replace("labels", "numbers"),
    ),
    Forbidden(
        "RANSACRegressor, 1-D texts",
        lambda model, X, y: RANSACRegressor(regressor(model), min_samples=8).fit(
            X, numbers(X)
        ),
        ONE_DIMENSION,
        AS_NUMBERS,
    ),
    Forbidden(
        "RANSACRegressor, a column of texts",
        lambda model, X, y: RANSACRegressor(regressor(model), min_samples=8).fit(
            as_column(X), numbers(X)
        ),
        NUMBERS,
        AS_NUMBERS,
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
        "It selects among columns of numbers: among those of `transform`, say.",
    ),
    Forbidden(
        "RFE",
        lambda model, X, y: RFE(model).fit(as_column(X), y),
        NUMBERS,
        NO_WEIGHTS,
    ),
    Forbidden(
        "RFECV",
        lambda model, X, y: RFECV(model).fit(as_column(X), y),
        NUMBERS,
        NO_WEIGHTS,
    ),
    Forbidden(
        "SelectFromModel",
        lambda model, X, y: SelectFromModel(model).fit(X, y).transform(as_column(X)),
        "should have `coef_` or `feature_importances_` attribute",
        NO_WEIGHTS,
    ),
    Forbidden(
        "DecisionBoundaryDisplay",
        lambda model, X, y: DecisionBoundaryDisplay.from_estimator(
            model.fit(as_column(X), y), as_column(X)
        ),
        "n_features must be equal to 2",
        "It predicts on a grid of two numeric columns.",
    ),
    Forbidden(
        "PartialDependenceDisplay of many texts",
        lambda model, X, y: PartialDependenceDisplay.from_estimator(
            model.fit(as_column(X), y), as_column(X), [0]
        ),
        "can't multiply sequence by non-int",
        "It lays a grid between a column's values. Where these are few, name the "
        "column in `categorical_features`.",
    ),
]


@pytest.mark.parametrize("entry", FORBIDDEN, ids=lambda entry: entry.tool)
def test_what_scikit_learn_forbids(entry, quick, X, y):
    with pytest.raises((ValueError, TypeError), match=re.escape(entry.message)):
        entry.attempt(quick.set_params(max_epochs=0), X, y)
