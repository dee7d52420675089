"""The regressor in scikit-learn's tools."""

import numpy as np
import pandas as pd
import pytest
from cells import COLUMN, ROWS, cell
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, RANSACRegressor, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_models import assert_close


@pytest.fixture
def quick(quick_regressor):
    """Return an unfitted regressor that trains for a few steps."""
    return quick_regressor


@pytest.fixture
def y(praise):
    """Return a target for each sentence."""
    return praise


@pytest.fixture
def ridge():
    """Return an unfitted linear model of words."""
    return make_pipeline(TfidfVectorizer(), Ridge())


@cell(
    "Pipeline, inner step",
    "regressor",
    shows="Embeddings as features of a linear model",
)
def test_a_pipeline(quick, X, y):
    pipeline = make_pipeline(quick, LinearRegression()).fit(X, y)
    embeddings = clone(quick).fit(X, y).transform(X)
    by_hand = LinearRegression().fit(embeddings, y)
    assert_close(pipeline.predict(X), by_hand.predict(embeddings))
    assert pipeline.score(X, y) > 0.5


@cell("Pipeline, last step", "regressor", shows="Equal to the estimator alone")
def test_the_last_step_of_a_pipeline(quick, X, y):
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick))
    pipeline.fit([f" {text}" for text in X], y)
    alone = quick.fit(X, y)
    assert np.array_equal(pipeline.predict(X), alone.predict(X))
    assert pipeline.score(X, y) == alone.score(X, y)


def strip(texts):
    return [text.strip() for text in texts]


@cell("FeatureUnion", "regressor", shows="Embeddings next to TF-IDF features")
@cell(
    "ColumnTransformer",
    "regressor",
    shows="A text column selected by name, next to numeric columns",
)
@cell(
    "`set_output`",
    "regressor",
    shows="pandas and polars data frames with feature names",
)
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_embeddings_beside_others(container, quick, X, y):
    embeddings = clone(quick).fit(X, y).transform(X)
    union = FeatureUnion([("words", TfidfVectorizer()), ("meaning", clone(quick))])
    assert_allclose(union.fit_transform(X, y)[:, -16:].toarray(), embeddings)
    frame = pd.DataFrame({"text": X, "number": y})
    steps = [("text", quick, "text"), ("same", "passthrough", ["number"])]
    columns = ColumnTransformer(steps).set_output(transform=container)
    table = columns.fit_transform(frame, y)
    assert table.columns[0] == "text__transformerregressor0"
    assert table.columns[-1] == "same__number"
    assert_close(table.to_numpy()[:, :16], embeddings)


@cell(
    "cross_val_predict",
    "regressor",
    shows="Equal to a manual loop over the folds, in input order",
)
@cell("cross_val_score", "regressor", shows="Equal to a manual loop over the folds")
def test_cross_val_score(quick, X, y):
    scores = cross_val_score(quick, X, y, cv=2)
    predicted = cross_val_predict(quick, X, y, cv=2)
    for score, (train, test) in zip(scores, KFold(2).split(X), strict=True):
        by_hand = clone(quick).fit([X[i] for i in train], y[train])
        assert np.array_equal(by_hand.predict([X[i] for i in test]), predicted[test])
        assert score == r2_score(y[test], predicted[test])
    assert scores.mean() > 0


@cell(
    "validation_curve",
    "regressor",
    shows="The training score increases with the number of epochs",
)
def test_validation_curve(quick, X, y):
    quick.set_params(learning_rate=3e-3)
    options = {"param_name": "max_epochs", "param_range": [1, 4], "cv": 2}
    train, _ = validation_curve(quick, X, y, **options)
    assert train[1].mean() > train[0].mean()


@cell(
    "RandomizedSearchCV", "regressor", shows="Samples candidates and selects the best"
)
@cell(
    "HalvingGridSearchCV",
    "regressor",
    shows='`resource="max_epochs"`: the best candidates train longest',
)
@pytest.mark.parametrize("kind", ["randomized", "halving"])
def test_other_searches(kind, quick, X, y):
    rates = {"learning_rate": [1e-7, 3e-3]}
    options = {"cv": 2, "random_state": 0}
    if kind == "randomized":
        quick.set_params(max_epochs=4)
        search = RandomizedSearchCV(quick, rates, n_iter=2, **options)
    else:
        resources = {"min_resources": 2, "max_resources": 4, "factor": 2}
        search = HalvingGridSearchCV(
            quick, rates, resource="max_epochs", **resources, **options
        )
    search.fit(X, y)
    assert search.best_params_["learning_rate"] == 3e-3
    assert search.best_estimator_.n_epochs_ == 4
    assert search.score(X, y) == search.best_estimator_.score(X, y)


@cell(
    "cross_validate",
    "regressor",
    shows="Several scorers, with `return_estimator`",
)
def test_cross_validate(quick, X, y):
    scoring = ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"]
    result = cross_validate(quick, X, y, cv=2, scoring=scoring, return_estimator=True)
    for name in scoring:
        assert np.isfinite(result[f"test_{name}"]).all()
    assert (result["test_r2"] > 0).all()
    folds = zip(result["estimator"], KFold(2).split(X), strict=True)
    for position, (returned, (_, test)) in enumerate(folds):
        score = returned.score([X[i] for i in test], y[test])
        assert score == result["test_r2"][position]


@cell("GridSearchCV", "regressor", shows="Selects the best learning rate")
def test_grid_search(quick, X, y):
    search = GridSearchCV(quick, {"learning_rate": [1e-6, 3e-3]}, cv=2).fit(X, y)
    best = clone(quick).set_params(**search.best_params_)
    assert search.best_score_ == cross_val_score(best, X, y, cv=2).mean()
    assert np.array_equal(search.predict(X), best.fit(X, y).predict(X))


@cell(
    "learning_curve", "regressor", shows="The score increases with the number of texts"
)
def test_learning_curve(quick, X, y):
    test = learning_curve(quick, X, y, train_sizes=[4, 32], cv=2)[2]
    assert test[1].mean() > test[0].mean()


@cell("TransformedTargetRegressor", "regressor", shows="Learns the logarithm of y")
def test_a_transformed_target(quick, X, y):
    wrapped = TransformedTargetRegressor(quick, func=np.log, inverse_func=np.exp)
    alone = clone(quick).fit(X, np.log(y))
    assert_allclose(wrapped.fit(X, y).predict(X), np.exp(alone.predict(X)))
    assert wrapped.score(X, y) > 0.3


@cell("VotingRegressor", "regressor", shows="Mean of the predictions of both models")
def test_a_vote(quick, ridge, X, y):
    vote = VotingRegressor([("a", quick), ("b", ridge)]).fit(X, y)
    mean = (quick.fit(X, y).predict(X) + ridge.fit(X, y).predict(X)) / 2
    assert_allclose(vote.predict(X), mean)


@cell(
    "StackingRegressor",
    "regressor",
    shows="Equal to a linear model on out-of-fold predictions",
)
def test_stacking(quick, ridge, X, y):
    models = [("a", quick), ("b", ridge)]
    stack = StackingRegressor(models, LinearRegression(), cv=2).fit(X, y)
    held_out = [cross_val_predict(model, X, y, cv=2) for _, model in models]
    by_hand = LinearRegression().fit(np.transpose(held_out), y)
    assert_allclose(stack.final_estimator_.coef_, by_hand.coef_)


@cell(
    "BaggingRegressor",
    "regressor",
    shows="Mean of models fitted on bootstrap samples",
    how=COLUMN,
)
def test_bagging(quick, column, y):
    bag = BaggingRegressor(quick, n_estimators=2, random_state=0).fit(column, y)
    array = column.to_numpy(dtype=object)
    votes = [member.predict(array) for member in bag.estimators_]
    assert_allclose(bag.predict(column), np.mean(votes, axis=0))
    assert bag.score(column, y) > 0.3


@cell(
    "AdaBoostRegressor",
    "regressor",
    shows="Weighted median of models fitted on weighted bootstrap samples",
    how=COLUMN,
)
def test_boosting(quick, column, y):
    boost = AdaBoostRegressor(quick, n_estimators=3, random_state=0).fit(column, y)
    array = column.to_numpy(dtype=object)
    votes = np.array([member.predict(array) for member in boost.estimators_])
    weights = boost.estimator_weights_
    assert (weights < weights.sum() / 2).all()  # so that the median is the middle one
    assert np.array_equal(boost.predict(column), np.median(votes, axis=0))
    assert len(np.unique(votes, axis=0)) == 3
    assert boost.score(column, y) > 0.3


@cell("MultiOutputRegressor", "regressor", shows="One model per column of y")
def test_several_outputs(quick, X, y):
    Y = np.column_stack([y, -y])
    predicted = MultiOutputRegressor(quick).fit(X, Y).predict(X)
    for i in range(2):
        assert np.array_equal(predicted[:, i], clone(quick).fit(X, Y[:, i]).predict(X))


@cell(
    "RegressorChain",
    "regressor",
    shows="The second model uses the first target as feature",
    how=ROWS,
)
def test_a_chain(quick, rows, by_row, y):
    columns = ColumnTransformer([("text", by_row(quick), [0])], remainder="passthrough")
    chain = RegressorChain(make_pipeline(columns, LinearRegression()))
    Y = np.column_stack([y, 3 * y + 1])
    predicted = chain.fit(rows, Y).predict(rows)
    assert_close(predicted[:, 1], 3 * predicted[:, 0] + 1, rtol=1e-4)


@cell("RANSACRegressor", "regressor", shows="Excludes outliers", how=ROWS)
def test_ransac(quick, rows, by_row, y):
    far = y.copy()
    far[::8] += 1000
    ransac = RANSACRegressor(
        by_row(quick),
        min_samples=8,
        residual_threshold=100,
        max_trials=3,
        random_state=0,
    ).fit(rows, far)
    assert not ransac.inlier_mask_[::8].any()
    inliers = np.flatnonzero(ransac.inlier_mask_)
    by_hand = by_row(clone(quick)).fit(rows[inliers], far[inliers])
    assert np.array_equal(ransac.predict(rows), by_hand.predict(rows))


@cell(
    "FrozenEstimator",
    "regressor",
    shows="Embeddings of a frozen regressor as features of another regressor",
)
@cell("`clone`", "regressor", shows="Copies the parameters, but no fitted attributes")
@cell(
    "HTML representation",
    "regressor",
    shows="Shows the parameters and the fitted state",
)
def test_what_is_known_of_a_fitted_model(quick, X, y):
    assert "Not fitted" in quick._repr_html_()
    before = quick.fit(X, y).predict(X)
    html = quick._repr_html_()
    assert "<span>Fitted" in html
    assert "learning_rate" in html
    pipeline = make_pipeline(FrozenEstimator(quick), LinearRegression()).fit(X, -y)
    assert np.array_equal(quick.predict(X), before)
    assert pipeline.score(X, -y) > 0.5
    cloned = clone(quick)
    with pytest.raises(NotFittedError):
        cloned.predict(X)
    assert np.array_equal(cloned.fit(X, y).predict(X), before)


@cell(
    "permutation_test_score",
    "regressor",
    shows="True targets score higher than permuted targets",
)
def test_permutation_test_score(quick, X, y):
    score, shuffled, _ = permutation_test_score(
        quick, X, y, cv=2, n_permutations=3, random_state=0
    )
    assert score == cross_val_score(quick, X, y, cv=2).mean()
    assert (shuffled < score).all()


@cell(
    "sample_weight through GridSearchCV",
    "regressor",
    shows="Applies to the refit on all texts",
)
@cell(
    "sample_weight through Pipeline",
    "regressor",
    shows="Passed as `step__sample_weight`",
)
@cell(
    "sample_weight, by metadata routing",
    "regressor",
    shows="Reaches `fit` and `score` through a pipeline in a search",
)
def test_weights(quick, X, y):
    weights = np.linspace(0.1, 2, 64)
    direct = clone(quick).fit(X, y, sample_weight=weights)
    expected = direct.predict(X)
    passed = GridSearchCV(quick, {}, cv=2).fit(X, y, sample_weight=weights)
    assert np.array_equal(passed.predict(X), expected)
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick))
    pipeline.fit(X, y, transformerregressor__sample_weight=weights)
    assert np.array_equal(pipeline.predict(X), expected)
    assert not np.array_equal(clone(quick).fit(X, y).predict(X), expected)
    with config_context(enable_metadata_routing=True):
        quick.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(strip), quick)
        search = GridSearchCV(pipeline, {}, cv=2).fit(X, y, sample_weight=weights)
        score = search.score(X, y, sample_weight=weights)
    assert np.array_equal(search.predict(X), expected)
    assert score == direct.score(X, y, sample_weight=weights) != direct.score(X, y)


@cell("groups", "regressor", shows="No group is in both training and test set")
def test_groups_reach_the_splitter(quick, X, y):
    groups = np.arange(64) // 16
    splits = list(GroupKFold(2).split(X, y, groups))
    expected = cross_val_score(quick, X, y, cv=splits)
    search = GridSearchCV(quick, {}, cv=GroupKFold(2), refit=False)
    search.fit(X, y, groups=groups)
    assert search.cv_results_["mean_test_score"][0] == expected.mean()
