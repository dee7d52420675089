"""Routing of sample weights and groups to the classifier."""

import numpy as np
import pytest
import sklearn
from cells import cell
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

WEIGHTS = np.linspace(0.1, 2, 64)


def strip(texts):
    return [text.strip() for text in texts]


@pytest.fixture
def asking(quick):
    """Return a classifier that requests weights in fit and score."""
    with sklearn.config_context(enable_metadata_routing=True):
        quick.set_fit_request(sample_weight=True)
        return quick.set_score_request(sample_weight=True)


@cell("sample_weight through GridSearchCV", shows="Applies to the refit on all texts")
def test_weights_pass_through_a_search(quick, X, y):
    search = GridSearchCV(quick, {"batch_size": [16]}, cv=2)
    search.fit(X, y, sample_weight=WEIGHTS)
    direct = clone(quick).fit(X, y, sample_weight=WEIGHTS)
    plain = clone(quick).fit(X, y)
    assert np.array_equal(search.predict_proba(X), direct.predict_proba(X))
    assert not np.array_equal(search.predict_proba(X), plain.predict_proba(X))


@cell("sample_weight through Pipeline", shows="Passed as `step__sample_weight`")
def test_a_pipeline_passes_weights_on(quick, X, y):
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick))
    pipeline.fit(X, y, transformerclassifier__sample_weight=WEIGHTS)
    direct = quick.fit(X, y, sample_weight=WEIGHTS)
    assert np.array_equal(pipeline.predict_proba(X), direct.predict_proba(X))


@cell(
    "sample_weight, by metadata routing",
    shows="Reaches `fit` and `score` through a pipeline in a search",
)
def test_weights_are_routed_on_request(asking, X, y):
    direct = clone(asking).fit(X, y, sample_weight=WEIGHTS)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(FunctionTransformer(strip), asking)
        search = GridSearchCV(pipeline, {}, cv=2).fit(X, y, sample_weight=WEIGHTS)
        assert np.array_equal(search.predict_proba(X), direct.predict_proba(X))
        assert search.score(X, y, sample_weight=WEIGHTS) == direct.score(
            X, y, sample_weight=WEIGHTS
        )


@cell(
    "sample_weight, by metadata routing",
    shows="A weight of 0 is equivalent to removing the text, in each fold",
)
def test_weights_of_zero_are_dropped_texts(asking, X, y):
    kept = np.arange(64) % 4 < 2
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(asking, {"max_epochs": [1, 2]}, cv=2, refit=False)
        search.fit(X, y, sample_weight=kept.astype(float))
    first, second = np.arange(16), np.arange(16, 32)
    halves = [(second, first), (first, second)]
    fewer = GridSearchCV(clone(asking), {"max_epochs": [1, 2]}, cv=halves, refit=False)
    fewer.fit([X[i] for i in np.flatnonzero(kept)], y[kept])
    for name in ("split0_test_score", "split1_test_score"):
        assert np.array_equal(search.cv_results_[name], fewer.cv_results_[name])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(64) == 3, -1.0, 1.0), "[Nn]egative"),
        (np.where(np.arange(64) == 3, np.nan, 1.0), "NaN"),
        (np.ones(10), r"shape == \(10,\), expected"),
        (np.zeros(64), "zero"),
    ],
    ids=["negative", "nan", "length", "zero"],
)
@cell("sample_weight, by metadata routing", shows="Invalid weights raise an error")
def test_bad_weights_are_refused(weights, message, asking, X, y):
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(asking, {"batch_size": [16]}, cv=2, error_score="raise")
        with pytest.raises(ValueError, match=message):
            search.fit(X, y, sample_weight=weights)


def test_weights_that_nobody_asked_for_are_refused(quick, X, y):
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(quick, {"batch_size": [16]}, cv=2)
        with pytest.raises(ValueError, match="sample_weight"):
            search.fit(X, y, sample_weight=WEIGHTS)


@cell(
    "groups",
    shows="No group is in both training and test set, by routing or as argument",
)
def test_groups_reach_the_splitter(quick, X, y):
    groups = np.arange(64) // 16
    splits = list(GroupKFold(2).split(X, y, groups))
    expected = cross_val_score(quick, X, y, cv=splits, scoring="neg_log_loss")
    search = GridSearchCV(quick, {}, cv=GroupKFold(2), scoring="neg_log_loss")
    assert search.fit(X, y, groups=groups).best_score_ == expected.mean()
    with sklearn.config_context(enable_metadata_routing=True):
        result = cross_validate(
            quick,
            X,
            y,
            cv=GroupKFold(2),
            scoring="neg_log_loss",
            params={"groups": groups},
            return_indices=True,
        )
        assert search.fit(X, y, groups=groups).best_score_ == expected.mean()
    assert np.array_equal(result["test_score"], expected)
    for train, test in zip(*result["indices"].values(), strict=True):
        assert not set(groups[train]) & set(groups[test])
