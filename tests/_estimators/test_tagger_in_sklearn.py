"""Tests of TransformerTagger with scikit-learn's tools, and of its copies."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_models import POSITIVE
from tiny_taggers import equal, make_tagged, ragged, tag

from sktransformers.metrics import entity_f1, entity_f1_score


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_tagged(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_tagged(64)[1]


# Copies


@pytest.mark.parametrize(
    "copied",
    [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy],
)
def test_copies_predict_bit_equally(copied, fitted_tagger, X):
    restored = copied(fitted_tagger)
    assert equal(restored, fitted_tagger, X)
    assert restored.predict_entities(X) == fitted_tagger.predict_entities(X)
    assert restored.get_params() == fitted_tagger.get_params()
    assert restored.history_ == fitted_tagger.history_


def test_a_clone_has_the_parameters_and_nothing_else(fitted_tagger, X):
    copied = clone(fitted_tagger)
    assert vars(copied).keys() == copied.get_params().keys()
    for name in ("classes_", "scheme_", "model_"):
        assert not hasattr(copied, name)
    for call in (copied.predict, copied.predict_entities, copied.transform):
        with pytest.raises(NotFittedError):
            call(X)
    with pytest.raises(NotFittedError):
        copied.get_feature_names_out()
    assert "TransformerTagger" in copied._repr_html_()
    assert "TransformerTagger" in fitted_tagger._repr_html_()
    assert "token" not in repr(copied)


# In scikit-learn's tools


@pytest.fixture
def quick_tagger(tagger):
    return tagger.set_params(max_epochs=1)


def test_counts_of_entities_stand_in_a_feature_union(fitted_tagger, X):
    texts = [" ".join(words) for words in X]
    labels = [any(word in POSITIVE for word in words) for words in X]
    union = FeatureUnion(
        [("entities", FrozenEstimator(fitted_tagger)), ("words", TfidfVectorizer())]
    )
    pipeline = make_pipeline(union, LogisticRegression()).fit(texts, labels)
    assert pipeline.score(texts, labels) > 0.8
    names = union.get_feature_names_out()
    assert names[:2].tolist() == ["entities__NEG", "entities__POS"]
    columns = ColumnTransformer([("entities", FrozenEstimator(fitted_tagger), "text")])
    columns.set_output(transform="pandas")
    frame = columns.fit_transform(pd.DataFrame({"text": texts}))
    assert frame.columns.tolist() == ["entities__NEG", "entities__POS"]
    assert np.array_equal(frame, fitted_tagger.transform(texts))


def split_all(texts):
    return [text.split() for text in texts]


def test_a_pipeline_predicts_as_its_last_step(quick_tagger, X, y):
    texts = [" ".join(words) for words in X]
    pipeline = make_pipeline(FunctionTransformer(split_all), clone(quick_tagger))
    pipeline.fit(texts, y)
    alone = quick_tagger.fit(X, y)
    assert pipeline.predict(texts) == alone.predict(X)
    assert pipeline.score(texts, y) == alone.score(X, y)
    assert pipeline.classes_.tolist() == alone.classes_.tolist()


def test_cross_validation(quick_tagger, X, y):
    scores = cross_val_score(quick_tagger, X, y, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    assert np.array_equal(
        cross_val_score(quick_tagger, X, y, cv=2, scoring=entity_f1), scores
    )
    index = np.random.default_rng(0).permutation(64)
    for wrapped in (
        (ragged(X), ragged(y)),
        (pd.Series(X, index=index), pd.Series(y, index=index)),
    ):
        assert np.array_equal(cross_val_score(quick_tagger, *wrapped, cv=2), scores)
    result = cross_validate(
        quick_tagger,
        pd.Series([" ".join(words) for words in X], index=index),
        y,
        cv=2,
        return_train_score=True,
        error_score="raise",
    )
    assert np.array_equal(result["test_score"], scores)


@pytest.mark.parametrize("n_words", [None, 4])
def test_cross_validated_predictions_come_in_order(n_words, quick_tagger, X, y):
    if n_words:  # all of one length, as if they were a matrix
        X = [(words * 9)[:n_words] for words in X]
        y = [tag(words) for words in X]
    predicted = cross_val_predict(quick_tagger.set_params(max_epochs=4), X, y, cv=2)
    assert predicted.shape == (64,)
    assert [len(tags) for tags in predicted] == [len(words) for words in X]
    assert entity_f1_score(y, predicted) > 0.4
    assert entity_f1_score(y, predicted) == entity_f1_score(y, predicted.tolist())


GRID = {"decode": ["viterbi", "greedy"]}


def search_for(tagger, X, y, **params):
    search = GridSearchCV(tagger, GRID, scoring=entity_f1, cv=2, error_score="raise")
    return search.set_params(**params).fit(X, y)


@pytest.fixture
def one_thread():
    """Give each fit one thread: sums depend on their number."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)]
)
def test_a_grid_search_gives_the_same_with_more_jobs(backend, quick_tagger, X, y):
    X, y = X[:32], y[:32]
    alone = search_for(quick_tagger, X, y)
    # Loky's processes would have more threads on a machine of many processors.
    options = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with joblib.parallel_config(backend, **options):
        several = search_for(quick_tagger, X, y, n_jobs=2)
    for search in (alone, several):
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert list(map(len, search.predict(X))) == list(map(len, X))
        assert search.score(X, y) == entity_f1_score(y, search.predict(X))
    assert np.array_equal(
        alone.cv_results_["mean_test_score"], several.cv_results_["mean_test_score"]
    )


def test_the_scoring_monitor_has_a_row_an_epoch(tagger, X, y):
    monitor = ScoringMonitor(scoring=entity_f1)
    tagger.set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    scores = log[log["task_name"] == "epoch"].iloc[:, -1].tolist()
    assert len(scores) == 3
    assert scores[-1] == tagger.score(X, y)


def test_weights_are_routed(quick_tagger, X, y):
    with sklearn.config_context(enable_metadata_routing=True):
        quick_tagger.set_fit_request(sample_weight=True)
        quick_tagger.set_score_request(sample_weight=True)
        weights = np.ones(64)
        weights[::2] = 0
        scores = cross_val_score(
            quick_tagger, X, y, cv=2, params={"sample_weight": weights}
        )
    expected = cross_val_score(quick_tagger, X[1::2], y[1::2], cv=2)
    assert np.array_equal(scores, expected)
