"""The classifier in scikit-learn's model selection."""

import numpy as np
import pandas as pd
import pytest
from cells import COLUMN, cell
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

RATES = {"learning_rate": [1e-5, 3e-3]}


def fold_by_fold(classifier, X, y, n_folds):
    """Yield a fitted classifier for each fold, with the indices of its test texts."""
    for train, test in StratifiedKFold(n_folds).split(X, y):
        fitted = clone(classifier).fit([X[i] for i in train], y[train])
        yield fitted, test


@cell("cross_val_score", shows="Equal to a manual loop over the folds")
def test_cross_val_score(quick, X, y):
    scores = cross_val_score(quick, X, y, cv=3)
    by_hand = [
        fitted.score([X[i] for i in test], y[test])
        for fitted, test in fold_by_fold(quick, X, y, 3)
    ]
    assert scores.tolist() == by_hand
    assert scores.mean() > 0.6


@cell(
    "cross_val_score", shows="A Series with any index gives the same scores as a list"
)
def test_a_series_is_cross_validated_like_a_list(quick, X, y):
    index = np.random.default_rng(0).permutation(64)
    expected = cross_val_score(quick, X, y, cv=2, scoring="neg_log_loss")
    for wrap in (np.array, lambda values: pd.Series(values, index=index)):
        scores = cross_val_score(quick, wrap(X), wrap(y), cv=2, scoring="neg_log_loss")
        assert np.array_equal(scores, expected)
    frame = pd.DataFrame({"text": X}, index=index)
    scores = cross_val_score(quick, frame, y, cv=2, scoring="neg_log_loss")
    assert np.array_equal(scores, expected)


SCORERS = ["accuracy", "roc_auc", "f1_macro", "neg_log_loss", "average_precision"]


@cell("cross_validate", shows="Several scorers, with `return_estimator`")
def test_cross_validate(quick, X, y):
    is_positive = y == "pos"
    result = cross_validate(
        quick, X, is_positive, cv=2, scoring=SCORERS, return_estimator=True
    )
    for name in SCORERS:
        assert np.isfinite(result[f"test_{name}"]).all()
    assert result["test_roc_auc"].mean() > 0.8
    folds = fold_by_fold(quick, X, is_positive, 2)
    for returned, (by_hand, _) in zip(result["estimator"], folds, strict=True):
        assert np.array_equal(returned.predict_proba(X), by_hand.predict_proba(X))


@cell("cross_val_predict", shows="Out-of-fold probabilities, in input order")
def test_cross_val_predict(quick, X, y):
    probabilities = cross_val_predict(quick, X, y, cv=4, method="predict_proba")
    by_hand = np.empty((64, 2))
    for fitted, test in fold_by_fold(quick, X, y, 4):
        by_hand[test] = fitted.predict_proba([X[i] for i in test])
    assert np.array_equal(probabilities, by_hand)
    assert accuracy_score(y == "pos", probabilities[:, 1] > 0.5) > 0.6


@cell("learning_curve", shows="The score increases with the number of texts")
def test_learning_curve(quick, X, y):
    sizes, _, test = learning_curve(
        quick, X, y, train_sizes=[4, 48], cv=4, shuffle=True, random_state=0
    )[:3]
    assert sizes.tolist() == [4, 48]
    assert test[1].mean() > test[0].mean()


@cell(
    "validation_curve", shows="The training score increases with the number of epochs"
)
def test_validation_curve(quick, X, y):
    train, test = validation_curve(
        quick.set_params(learning_rate=3e-3),
        X,
        y,
        param_name="max_epochs",
        param_range=[1, 4],
        cv=2,
        scoring="neg_log_loss",
    )
    assert (train[1] > train[0]).all()
    assert np.isfinite(test).all()


@cell("permutation_test_score", shows="True labels score higher than permuted labels")
def test_permutation_test_score(quick, X, y):
    score, shuffled, p_value = permutation_test_score(
        quick, X, y, cv=2, n_permutations=5, random_state=0
    )
    assert score == cross_val_score(quick, X, y, cv=2).mean()
    assert (shuffled < score).all()
    assert p_value == pytest.approx(1 / 6)


def strip(texts):
    return [text.strip() for text in texts]


@cell("GridSearchCV", shows="Selects the best learning rate, also in a pipeline")
def test_grid_search(quick, X, y):
    grid = {f"transformerclassifier__{name}": values for name, values in RATES.items()}
    pipeline = make_pipeline(FunctionTransformer(strip), quick)
    search = GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss").fit(X, y)
    alone = GridSearchCV(quick, RATES, cv=2, scoring="neg_log_loss").fit(X, y)
    assert alone.best_params_ == {"learning_rate": 3e-3}
    name = "mean_test_score"
    assert np.array_equal(search.cv_results_[name], alone.cv_results_[name])
    best = clone(quick).set_params(learning_rate=3e-3)
    assert np.array_equal(search.predict_proba(X), best.fit(X, y).predict_proba(X))
    scores = cross_val_score(best, X, y, cv=2, scoring="neg_log_loss")
    assert alone.best_score_ == scores.mean()


@cell("RandomizedSearchCV", shows="Samples candidates and selects the best")
def test_randomized_search(quick, X, y):
    search = RandomizedSearchCV(
        quick, RATES, n_iter=2, cv=2, scoring="neg_log_loss", random_state=0
    ).fit(X, y)
    assert search.best_params_ == {"learning_rate": 3e-3}
    expected = -log_loss(y, search.predict_proba(X))
    assert search.score(X, y) == pytest.approx(expected)


@cell(
    "HalvingGridSearchCV",
    shows='`resource="max_epochs"`: the best candidates train longest',
)
def test_halving_grid_search(quick, X, y):
    search = HalvingGridSearchCV(
        quick,
        {"learning_rate": [1e-7, 1e-6, 1e-5, 1e-4]},
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        scoring="neg_log_loss",
        random_state=0,
    ).fit(X, y)
    assert search.n_resources_ == [1, 2, 4]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_params_ == {"learning_rate": 1e-4, "max_epochs": 4}
    assert search.best_estimator_.n_epochs_ == 4


@cell(
    "HalvingRandomSearchCV",
    shows='`resource="max_epochs"`: the best candidates train longest',
)
def test_halving_random_search(quick, X, y):
    search = HalvingRandomSearchCV(
        quick,
        {"learning_rate": [1e-6, 1e-4]},
        n_candidates=2,
        resource="max_epochs",
        min_resources=1,
        max_resources=2,
        factor=2,
        cv=2,
        scoring="neg_log_loss",
        random_state=0,
    ).fit(X, y)
    assert search.n_resources_ == [1, 2]
    assert search.best_params_ == {"learning_rate": 1e-4, "max_epochs": 2}


@cell("FixedThresholdClassifier", shows="Predicts by the given threshold")
def test_fixed_threshold(quick, X, y):
    wrapped = FixedThresholdClassifier(quick, threshold=0.3, pos_label="pos").fit(X, y)
    probabilities = clone(quick).fit(X, y).predict_proba(X)[:, 1]
    expected = np.where(probabilities >= 0.3, "pos", "neg")
    assert np.array_equal(wrapped.predict(X), expected)
    assert not np.array_equal(expected, np.where(probabilities >= 0.5, "pos", "neg"))


@cell(
    "TunedThresholdClassifierCV",
    shows="The tuned threshold scores at least as high as the default",
)
def test_tuned_threshold(quick, X, y):
    uneven = {"class_weight": {"neg": 10, "pos": 1}, "learning_rate": 1e-5}
    classifier = quick.set_params(**uneven)
    wrapped = TunedThresholdClassifierCV(classifier, cv=2, random_state=0).fit(X, y)
    plain = clone(classifier).fit(X, y)
    probabilities = plain.predict_proba(X)[:, 1]
    expected = np.where(probabilities >= wrapped.best_threshold_, "pos", "neg")
    assert np.array_equal(wrapped.predict(X), expected)
    tuned = balanced_accuracy_score(y, expected)
    assert tuned > balanced_accuracy_score(y, plain.predict(X))


@cell(
    "cross_val_score",
    shows="A single column gives the same scores as a list",
    how=COLUMN,
)
def test_a_column_is_cross_validated_like_a_list(quick, X, column, y):
    expected = cross_val_score(quick, X, y, cv=2, scoring="neg_log_loss")
    for wrapped in (column, column.to_numpy(dtype=object)):
        scores = cross_val_score(quick, wrapped, y, cv=2, scoring="neg_log_loss")
        assert np.array_equal(scores, expected)
