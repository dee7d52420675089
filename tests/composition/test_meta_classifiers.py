"""The classifier inside scikit-learn's meta-estimators for classification."""

import numpy as np
import pandas as pd
import pytest
from cells import COLUMN, ROWS, cell
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import (
    OneVsOneClassifier,
    OneVsRestClassifier,
    OutputCodeClassifier,
)
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from tiny_models import assert_close


@pytest.fixture
def tfidf():
    """Return an unfitted linear model of words."""
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


@cell("CalibratedClassifierCV", shows="Mean of the calibrated models of the folds")
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(method, quick, X, y):
    calibrated = CalibratedClassifierCV(quick, method=method, cv=2).fit(X, y)
    probabilities = calibrated.predict_proba(X)
    folds = [fold.predict_proba(X) for fold in calibrated.calibrated_classifiers_]
    assert_allclose(probabilities, np.mean(folds, axis=0))
    assert calibrated.score(X, y) > 0.7


@cell(
    "CalibratedClassifierCV of a FrozenEstimator",
    shows="Calibrates the probabilities without refitting the model",
)
def test_calibration_of_a_fitted_model(fitted_classifier, X, y):
    before = fitted_classifier.predict_proba(X)
    labels = np.where(np.arange(64) % 8, y, y[::-1])  # a model that is too sure
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted_classifier))
    after = calibrated.fit(X, labels).predict_proba(X)
    assert np.array_equal(fitted_classifier.predict_proba(X), before)
    assert log_loss(labels, after) < log_loss(labels, before)
    assert spearmanr(before[:, 1], after[:, 1]).statistic > 0.999


@cell("VotingClassifier, soft", shows="Mean of the probabilities of both models")
def test_a_soft_vote(quick, tfidf, X, y):
    vote = VotingClassifier([("a", quick), ("b", tfidf)], voting="soft").fit(X, y)
    mean = (quick.fit(X, y).predict_proba(X) + tfidf.fit(X, y).predict_proba(X)) / 2
    assert_allclose(vote.predict_proba(X), mean)


@cell(
    "StackingClassifier", shows="Equal to a linear model on out-of-fold probabilities"
)
def test_stacking(quick, tfidf, X, y):
    models = [("a", quick), ("b", tfidf)]
    stack = StackingClassifier(models, LogisticRegression(), cv=2).fit(X, y)
    held_out = [
        cross_val_predict(model, X, y, cv=2, method="predict_proba")[:, 1]
        for _, model in models
    ]
    by_hand = LogisticRegression().fit(np.column_stack(held_out), y)
    assert_allclose(stack.final_estimator_.coef_, by_hand.coef_)
    assert stack.score(X, y) > 0.8


@cell(
    "BaggingClassifier", shows="Mean of models fitted on bootstrap samples", how=COLUMN
)
def test_bagging(quick, column, y):
    bag = BaggingClassifier(quick, n_estimators=2, random_state=0).fit(column, y)
    array = column.to_numpy(dtype=object)
    votes = [member.predict_proba(array) for member in bag.estimators_]
    assert_allclose(bag.predict_proba(column), np.mean(votes, axis=0))
    assert not np.array_equal(*votes)
    assert bag.score(column, y) > 0.7


@cell(
    "AdaBoostClassifier",
    shows="Each model increases the weights of misclassified texts",
    how=COLUMN,
)
def test_boosting(quick, column, y):
    quick.set_params(max_epochs=1, learning_rate=1e-5)  # lest nothing is left to do
    boost = AdaBoostClassifier(quick, n_estimators=2, random_state=0).fit(column, y)
    first, second = boost.estimators_
    array = column.to_numpy(dtype=object)
    is_wrong = first.predict(array) != y
    assert 0 < is_wrong.mean() < 0.5
    weights = np.where(is_wrong, (1 - is_wrong.mean()) / is_wrong.mean(), 1)
    by_hand = clone(second).fit(array, y, sample_weight=weights / weights.sum())
    # The weights by hand are rounded otherwise.
    assert_close(second.predict_proba(array), by_hand.predict_proba(array), rtol=1e-4)
    assert boost.score(column, y) > 0.7


@cell("OneVsRestClassifier", shows="Equal to one model per class")
@pytest.mark.parametrize("kind", ["list", "column"])
def test_one_against_the_rest(kind, quick, three):
    X, y = three
    if kind == "column":
        X = np.array(X, dtype=object)[:, None]
    wrapped = OneVsRestClassifier(quick).fit(X, y)
    by_hand = [
        clone(quick).fit(X, (y == label).astype(int)).predict_proba(X)[:, 1]
        for label in wrapped.classes_
    ]
    expected = np.transpose(by_hand) / np.sum(by_hand, axis=0)[:, None]
    assert_allclose(wrapped.predict_proba(X), expected)
    assert wrapped.score(X, y) > 0.6


@cell("OneVsOneClassifier", shows="One model per pair of classes", how=ROWS)
def test_one_against_one(quick, three, by_row):
    X, y = three
    rows = np.arange(64)[:, None]
    wrapped = OneVsOneClassifier(by_row(quick, X)).fit(rows, y)
    pair = np.flatnonzero(y != "none")
    alone = clone(quick).fit([X[i] for i in pair], (y[pair] == "pos").astype(int))
    assert wrapped.classes_.tolist() == ["neg", "none", "pos"]
    of_pair = wrapped.estimators_[1].predict_proba(rows)
    assert np.array_equal(of_pair, alone.predict_proba(X))
    assert wrapped.score(rows, y) > 0.6


@cell("OutputCodeClassifier", shows="One model per bit of the class codes")
def test_output_codes(quick, three):
    X, y = three
    wrapped = OutputCodeClassifier(quick, code_size=1, random_state=3).fit(X, y)
    codes = wrapped.code_book_[np.searchsorted(wrapped.classes_, y)]
    bits = [clone(quick).fit(X, codes[:, bit]).decision_function(X) for bit in range(3)]
    nearest = cdist(np.transpose(bits), wrapped.code_book_).argmin(axis=1)
    assert np.array_equal(wrapped.predict(X), wrapped.classes_[nearest])
    assert wrapped.score(X, y) > 0.5


@cell("MultiOutputClassifier", shows="Equal to one model per column of y")
@pytest.mark.parametrize("kind", ["list", "column"])
def test_several_outputs(kind, quick, X, column, y):
    Y = np.column_stack([y, np.where(np.arange(64) % 3, y, "neg")])
    texts = X if kind == "list" else column
    wrapped = MultiOutputClassifier(quick).fit(texts, Y)
    for position, probabilities in enumerate(wrapped.predict_proba(texts)):
        alone = clone(quick).fit(X, Y[:, position])
        assert np.array_equal(probabilities, alone.predict_proba(X))


@cell(
    "ClassifierChain",
    shows="The second model uses the first label as feature",
    how=ROWS,
)
def test_a_chain(quick, X, y, rows, by_row):
    embedding = ("text", by_row(quick), [0])
    columns = ColumnTransformer([embedding], remainder="passthrough")
    member = make_pipeline(columns, LogisticRegression(C=100))
    first = (y == "pos").astype(int)
    Y = np.column_stack([first, 1 - first])
    chain = ClassifierChain(member).fit(rows, Y)
    seen = np.column_stack([rows, first])
    second = clone(member).fit(seen, Y[:, 1])
    predicted = np.column_stack([rows, chain.predict(rows)[:, 0]])
    assert np.array_equal(chain.predict(rows)[:, 1], second.predict(predicted))
    assert chain.score(rows, Y) > 0.8


@cell("SelfTrainingClassifier", shows="Learns from its confident predictions", how=ROWS)
def test_self_training(quick, y, rows, by_row):
    labels = (y == "pos").astype(int)
    few = np.where(np.arange(64) < 32, labels, -1)
    quick.set_params(max_epochs=4, learning_rate=3e-3)
    wrapped = SelfTrainingClassifier(by_row(quick), threshold=0.6, max_iter=2)
    wrapped.fit(rows, few)
    own = wrapped.labeled_iter_ == 1
    assert own.any()
    assert np.mean(wrapped.transduction_[own] == labels[own]) > 0.7
    assert wrapped.score(rows, labels) > 0.8


@cell("SequentialFeatureSelector", shows="Selects two dimensions of the embeddings")
def test_selected_dimensions_of_embeddings(quick, X, y):
    selector = SequentialFeatureSelector(
        LogisticRegression(), n_features_to_select=2, cv=2
    )
    pipeline = make_pipeline(quick, selector, LogisticRegression()).fit(X, y)
    names = pipeline[:-1].get_feature_names_out()
    embeddings = pd.DataFrame(quick.transform(X), columns=quick.get_feature_names_out())
    assert len(names) == 2
    assert np.array_equal(pipeline[:-1].transform(X), embeddings[names])
    assert pipeline.score(X, y) > 0.7
