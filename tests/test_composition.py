"""TransformerClassifier inside scikit-learn's own tools."""

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def strip(texts):
    return [text.strip() for text in texts]


@pytest.fixture
def quick(tiny_classifier):
    """Return an unfitted classifier that makes a handful of steps."""
    return tiny_classifier.set_params(max_epochs=2)


def test_a_pipeline_predicts_as_its_last_step(quick, sentences):
    X, y = sentences
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick)).fit(X, y)
    alone = quick.fit(X, y)
    padded = [f"  {text}\n" for text in X]
    assert np.array_equal(pipeline.predict_proba(padded), alone.predict_proba(X))
    assert pipeline.score(padded, y) == alone.score(X, y)
    assert pipeline.classes_.tolist() == ["neg", "pos"]


def test_its_embeddings_feed_another_classifier(quick, sentences):
    X, y = sentences
    pipeline = make_pipeline(quick, StandardScaler(), LogisticRegression())
    pipeline.fit(X, y)
    assert pipeline.score(X, y) > 0.8
    names = pipeline[:-1].get_feature_names_out()
    assert names[0] == "transformerclassifier0"
    assert len(names) == 16


GRID = {"transformerclassifier__learning_rate": [1e-3, 1e-5]}


@pytest.fixture
def one_thread():
    """Give each fit one thread, here and in workers: sums depend on their number."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        yield
    torch.set_num_threads(n_threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_grid_search_gives_the_same_with_more_jobs(quick, sentences):
    # Workers of loky start anew and import everything.
    scores = []
    for n_jobs in (1, 2):
        pipeline = make_pipeline(FunctionTransformer(strip), clone(quick))
        search = GridSearchCV(
            pipeline, GRID, cv=2, n_jobs=n_jobs, scoring="neg_log_loss"
        )
        search.fit(*sentences)
        scores.append(search.cv_results_["mean_test_score"])
        assert search.best_params_ == {"transformerclassifier__learning_rate": 1e-3}
    assert np.isfinite(scores[0]).all()
    assert np.array_equal(scores[0], scores[1])


def test_a_series_is_cross_validated_like_a_list(quick, sentences):
    X, y = sentences
    index = np.random.default_rng(0).permutation(64)
    expected = cross_val_score(quick, X, y, cv=3, scoring="neg_log_loss")
    assert np.isfinite(expected).all()
    for wrap in (np.array, lambda v: pd.Series(v, index=index)):
        scores = cross_val_score(quick, wrap(X), wrap(y), cv=3, scoring="neg_log_loss")
        assert np.array_equal(scores, expected)
    frame = pd.DataFrame({"text": X}, index=index)
    scores = cross_val_score(quick, frame, y, cv=3, scoring="neg_log_loss")
    assert np.array_equal(scores, expected)


def test_cross_validated_predictions_come_in_order(quick, sentences):
    X, y = sentences
    probabilities = cross_val_predict(
        quick.set_params(max_epochs=0), X, y, cv=4, method="predict_proba"
    )
    assert probabilities.shape == (64, 2)
    right = (probabilities[:, 1] > 0.5) == (np.array(y) == "pos")
    assert right.mean() > 0.7


def test_several_scorers_at_once(quick, sentences):
    scoring = ["accuracy", "roc_auc", "f1_macro", "neg_log_loss", "average_precision"]
    X, y = sentences
    result = cross_validate(quick, X, [label == "pos" for label in y], scoring=scoring)
    for name in scoring:
        assert np.isfinite(result[f"test_{name}"]).all()
    assert result["test_roc_auc"].mean() > 0.8


def test_a_learning_curve(quick, sentences):
    sizes, _, test = learning_curve(
        quick, *sentences, train_sizes=[8, 32], cv=2, shuffle=True, random_state=0
    )[:3]
    assert len(sizes) == 2
    assert np.isfinite(test).all()


def test_a_text_column_of_a_table(quick, sentences):
    X, y = sentences
    frame = pd.DataFrame({"text": X, "length": [len(text) for text in X]})
    columns = ColumnTransformer(
        [("text", quick, "text"), ("numbers", StandardScaler(), ["length"])]
    ).set_output(transform="pandas")
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    assert pipeline.score(frame, y) > 0.8
    names = columns.get_feature_names_out()
    assert names[0] == "text__transformerclassifier0"
    assert names[-1] == "numbers__length"
    shuffled = frame.sample(frac=1, random_state=0)
    assert columns.transform(shuffled).index.equals(shuffled.index)


def test_beside_tfidf(quick, sentences):
    union = FeatureUnion([("words", TfidfVectorizer()), ("meaning", quick)])
    X, y = sentences
    features = union.fit_transform(X, y)
    assert features.shape[0] == 64
    assert union.get_feature_names_out()[-1] == "meaning__transformerclassifier15"
    assert LogisticRegression().fit(features, y).score(features, y) > 0.9


def test_a_soft_vote(quick, sentences):
    X, y = sentences
    tfidf = make_pipeline(TfidfVectorizer(), LogisticRegression())
    vote = VotingClassifier([("a", quick), ("b", tfidf)], voting="soft").fit(X, y)
    mean = (quick.fit(X, y).predict_proba(X) + tfidf.fit(X, y).predict_proba(X)) / 2
    np.testing.assert_allclose(vote.predict_proba(X), mean)


def test_stacking(quick, sentences):
    X, y = sentences
    tfidf = make_pipeline(TfidfVectorizer(), LogisticRegression())
    stack = StackingClassifier([("a", quick), ("b", tfidf)], cv=2).fit(X, y)
    assert stack.score(X, y) > 0.8


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(method, quick, sentences):
    X, y = sentences
    calibrated = CalibratedClassifierCV(quick, method=method, cv=2).fit(X, y)
    probabilities = calibrated.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.score(X, y) > 0.7


def test_one_against_the_rest(quick, sentences):
    X, y = sentences
    wrapped = OneVsRestClassifier(quick).fit(np.array(X)[:, None], y)
    assert wrapped.score(np.array(X)[:, None], y) > 0.7


def test_several_outputs(quick, sentences):
    X, y = sentences
    Y = np.column_stack([y, np.roll(y, 1)])
    wrapped = MultiOutputClassifier(quick).fit(np.array(X)[:, None], Y)
    assert wrapped.predict(np.array(X)[:, None]).shape == (64, 2)


WEIGHTS = np.linspace(0, 2, 64)


def test_weights_pass_through_a_search(quick, sentences):
    X, y = sentences
    search = GridSearchCV(quick, {"batch_size": [16]}, cv=2)
    search.fit(X, y, sample_weight=WEIGHTS)
    direct = clone(quick).fit(X, y, sample_weight=WEIGHTS)
    plain = clone(quick).fit(X, y)
    assert np.array_equal(search.predict_proba(X), direct.predict_proba(X))
    assert not np.array_equal(search.predict_proba(X), plain.predict_proba(X))


def test_weights_are_routed_on_request(quick, sentences):
    X, y = sentences
    direct = clone(quick).fit(X, y, sample_weight=WEIGHTS)
    with sklearn.config_context(enable_metadata_routing=True):
        asking = clone(quick).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(strip), asking)
        search = GridSearchCV(pipeline, {}, cv=2).fit(X, y, sample_weight=WEIGHTS)
        probabilities = search.predict_proba(X)
    assert np.array_equal(probabilities, direct.predict_proba(X))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_pipeline_passes_weights_on(quick, sentences):
    X, y = sentences
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick))
    pipeline.fit(X, y, transformerclassifier__sample_weight=WEIGHTS)
    direct = quick.fit(X, y, sample_weight=WEIGHTS)
    assert np.array_equal(pipeline.predict_proba(X), direct.predict_proba(X))
