"""The text checks of ``tests/helpers/text_checks``, on scikit-learn's estimators."""

import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from text_checks import TextCase, applicable_checks, failed_checks

# What scikit-learn's own text tools do otherwise.
BAG_OF_WORDS_FAILURES = {
    "check_bare_string": "bytes raise AttributeError",
    "check_missing_texts": "None raises AttributeError",
    "check_other_objects": "bytes are decoded",
    "check_errors_name_the_row": "no row is named",
    "check_other_containers": "a dict is read by its keys",
    "check_no_texts": "a stateless vectorizer gives no rows",
    "check_one_column_frames": "a frame is read as the names of its columns",
    "check_number_of_columns": "a frame is read as the names of its columns",
    "check_column_names": "a frame is read as the names of its columns",
    "check_label_dtypes": "nullable integers come back as floats",
    "check_malformed_y": "NaN among str becomes 'nan'",
    "check_failed_fit": "the vectorizer is fitted before the labels are looked at",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "n_passed"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), 30),
        (make_pipeline(TfidfVectorizer(), Ridge()), 28),
        (TfidfVectorizer(), 24),
        (HashingVectorizer(n_features=64), 22),
        (
            GridSearchCV(
                make_pipeline(TfidfVectorizer(), LogisticRegression()),
                {"logisticregression__C": [1.0]},
                cv=2,
            ),
            28,
        ),
    ],
    ids=["classifier", "regressor", "vectorizer", "stateless", "search"],
)
def test_other_estimators(estimator, n_passed):
    before = estimator.get_params(deep=False)
    failed = failed_checks(estimator)
    assert set(failed) <= set(BAG_OF_WORDS_FAILURES)
    assert len(applicable_checks(TextCase(estimator))) - len(failed) >= n_passed
    assert estimator.get_params(deep=False) == before
    assert not [name for name in vars(estimator) if name.endswith("_")]


class ReadsWords(ClassifierMixin, BaseEstimator):
    """What somebody writes in an afternoon: it remembers the label of each word."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.labels_ = {w: v for x, v in zip(X, y, strict=True) for w in x.split()}
        return self

    def predict(self, X):
        default = self.classes_[0]
        return np.array([self.labels_.get(x.split()[-1], default) for x in X])


@pytest.mark.parametrize(
    ("estimator", "check", "message"),
    [
        (
            make_pipeline(TfidfVectorizer(), LogisticRegression()),
            "check_one_column_frames",
            "fit of a frame of one column raises ValueError: Found input variables",
        ),
        (ReadsWords(), "check_bare_string", "fit of 'a good film'"),
        (ReadsWords(), "check_unfitted", "AttributeError.*Raise NotFittedError"),
        (ReadsWords(), "check_empty_strings", "predict raises IndexError for texts"),
    ],
    ids=["pipeline frames", "own str", "own unfitted", "own empty"],
)
def test_an_error_names_the_failed_call(estimator, check, message):
    assert re.search(message, str(failed_checks(estimator)[check]))


class Lengths(TransformerMixin, BaseEstimator):
    """Counts letters; its ``fit`` may fail."""

    def __init__(self, fails=False):
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails:
            raise RuntimeError("no memory")
        self.n_texts_ = len(X)
        return self

    def transform(self, X):
        return np.array([[len(x)] for x in X])


def test_an_estimator_whose_fit_raises_fails():
    failed = failed_checks(Lengths(fails=True))
    assert "check_order_invariance" in failed
    assert "check_constructor" not in failed


def test_the_kind_is_inferred_from_tags_methods_and_y(text_cases):
    assert {name: case.kind for name, case in text_cases.items()} == {
        "classifier": "labels",
        "regressor": "numbers",
        "tagger": "tags",
        "generator": "texts",
        "tagger of token lists": "tags",
    }
    texts = [*"abcdefghijkl"]
    assert TextCase(Lengths(), texts, [["O"]] * 12).kind == "tags"
    assert TextCase(Lengths(), texts, texts).kind == "texts"
    assert TextCase(Lengths()).kind == "nothing"


def test_a_case_does_not_touch_the_estimator(text_cases):
    case = text_cases["classifier"]
    estimator = clone(case.estimator).set_params(random_state=None)
    fitted = TextCase(estimator).fitted
    assert fitted is not estimator
    assert estimator.random_state is None
    assert fitted.random_state == 0
