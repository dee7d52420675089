"""The checks of text estimators: all of ours pass, and failures are reported."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from checked_estimators import make_estimator, save_models
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.exceptions import EstimatorCheckFailedWarning, SkipTestWarning
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from text_checks import estimator_checks
from text_checks.estimator_checks import (
    TextCase,
    check_text_estimator,
    parametrize_with_text_checks,
    text_checks,
)

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers.exceptions import TextTypeError, TextValueError

OURS = {
    "classifier": TransformerClassifier,
    "regressor": TransformerRegressor,
    "tagger": TransformerTagger,
    "generator": TransformerGenerator,
}
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
MALFORMED = {  # X, the error, whether the message names row 2
    "str": ("good", TextValueError, False),
    "bytes": (b"good", TextValueError, False),
    "None": (None, TextTypeError, False),
    "number": (3, TextTypeError, False),
    "dict": ({"a": "good"}, TextTypeError, False),
    "set": ({"good", "bad"}, TextTypeError, False),
    "iterator": (iter(["good"]), TextTypeError, False),
    "sparse": (sparse.eye_array(3), TextTypeError, False),
    "no rows": ([], TextValueError, False),
    "None in a row": (["good", "bad", None], TextValueError, True),
    "NaN in a row": (pd.Series(["good", "bad", np.nan]), TextValueError, True),
    "pd.NA in a row": (
        pd.Series(["good", "bad", pd.NA], dtype="string"),
        TextValueError,
        True,
    ),
    "bytes in a row": (["good", "bad", b"good"], TextValueError, True),
    "a number in a row": (["good", "bad", 3.5], TextValueError, True),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Return a case of each of our estimators; the checks share its fitted one."""
    models = save_models(tmp_path_factory.mktemp)
    cases = {kind: TextCase(make_estimator(cls, models)) for kind, cls in OURS.items()}
    tagger = cases["tagger"]
    rows = [text.split() for text in tagger.texts]
    cases["tagger of token lists"] = TextCase(tagger.estimator, rows, tagger.y)
    return cases


def applicable():
    """Yield which check is for which of our estimators, as they are known to be."""
    of_kind = {
        "check_numbers": {"regressor"},
        "check_a_tag_for_each_word": {"tagger"},
        "check_token_lists": {"tagger"},
        "check_probabilities_of_tags": {"tagger"},
        "check_probabilities": {"classifier"},
        "check_decision_function": {"classifier"},
        "check_classes": {"classifier"},
        "check_label_dtypes": {"classifier"},
        "check_feature_names": {*OURS} - {"generator"},
        "check_set_output": {*OURS} - {"generator"},
        "check_column_names": {*OURS} - {"generator"},
    }
    for name in text_checks():
        for kind in OURS:
            if kind in of_kind.get(name, OURS):
                yield name, kind


@pytest.mark.parametrize(("name", "kind"), applicable())
def test_our_estimators_pass(name, kind, cases):
    applying = dict(estimator_checks._applying(cases[kind]))
    applying[name](cases[kind])


@pytest.mark.parametrize(
    "name",
    [
        "check_missing_texts",
        "check_containers",
        "check_empty_strings",
        "check_order_invariance",
        "check_series_by_position",
        "check_token_lists",
        "check_probabilities_of_tags",
    ],
)
def test_a_tagger_passes_with_token_lists(name, cases):
    text_checks()[name](cases["tagger of token lists"])


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_texts_raise_the_right_error(kind, name, cases):
    X, error_type, names_row = MALFORMED[name]
    case = cases[kind]
    methods = [getattr(case.fitted, method) for method in case.methods]
    for call in (lambda X: case.new().fit(X, case.y[:3]), *methods):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(X)
        assert type(caught.value) is error_type
        assert not names_row or "X[2]" in str(caught.value)


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
    records = check_text_estimator(
        estimator, expected_failed_checks=BAG_OF_WORDS_FAILURES
    )
    statuses = [record["status"] for record in records]
    assert set(statuses) <= {"passed", "xfail"}
    assert statuses.count("passed") >= n_passed
    assert estimator.get_params(deep=False) == before
    assert not [name for name in vars(estimator) if name.endswith("_")]


def test_a_record_says_what_happened():
    estimator = HashingVectorizer(n_features=64)
    reason = {"check_bare_string": "bytes are read by letters"}
    records = check_text_estimator(
        estimator, expected_failed_checks=reason, on_fail=None
    )
    by_name = {record["check_name"]: record for record in records}
    assert by_name["check_bare_string"]["status"] == "xfail"
    assert (
        by_name["check_bare_string"]["expected_to_fail_reason"]
        == reason["check_bare_string"]
    )
    failed = by_name["check_missing_texts"]
    assert failed["status"] == "failed"
    assert failed["estimator"] is estimator
    assert "fit of texts with None" in str(failed["exception"])
    passed = by_name["check_order_invariance"]
    assert passed["exception"] is None
    assert not passed["expected_to_fail"]


def test_the_first_failure_raises():
    with pytest.raises(AssertionError, match="b'a good film'") as caught:
        check_text_estimator(HashingVectorizer(n_features=64))
    (note,) = caught.value.__notes__
    assert note.startswith("check_bare_string: A str is no collection of texts")


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
def test_a_failure_says_what_was_tried(estimator, check, message):
    records = check_text_estimator(estimator, on_fail=None)
    (record,) = [r for r in records if r["check_name"] == check]
    assert record["status"] == "failed"
    assert re.search(message, str(record["exception"]))
    assert record["exception"].__notes__[0].startswith(f"{check}: ")


def test_a_failure_may_warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_text_estimator(HashingVectorizer(n_features=64), on_fail="warn")
    kinds = [warning.category for warning in caught]
    assert kinds.count(EstimatorCheckFailedWarning) >= 5


def test_a_skipped_check_warns(monkeypatch):
    def check_no_more(case):
        raise estimator_checks.SkipTest("there is nothing to check")

    monkeypatch.setattr(
        estimator_checks, "text_checks", lambda: {"check_no_more": check_no_more}
    )
    with pytest.warns(SkipTestWarning, match="nothing to check"):
        (record,) = check_text_estimator(HashingVectorizer(n_features=64))
    assert record["status"] == "skipped"
    check_text_estimator(HashingVectorizer(n_features=64), on_skip=None)


def test_the_callback_gets_every_record():
    names = []
    records = check_text_estimator(
        HashingVectorizer(n_features=64),
        on_fail=None,
        callback=lambda check_name, **record: names.append(check_name),
    )
    assert names == [record["check_name"] for record in records]
    with pytest.raises(ValueError, match="callback"):
        check_text_estimator(HashingVectorizer(n_features=64), callback=print)


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


def test_an_estimator_that_cannot_be_fitted_fails():
    records = check_text_estimator(Lengths(fails=True), on_fail=None)
    statuses = {record["check_name"]: record["status"] for record in records}
    assert statuses["check_order_invariance"] == "failed"
    assert statuses["check_constructor"] == "passed"


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="Pass an instance"):
        check_text_estimator(HashingVectorizer)
    with pytest.raises(TypeError, match="Pass an instance"):
        parametrize_with_text_checks([HashingVectorizer])
    with pytest.raises(TypeError, match=r"BaseEstimator\. Got 'tfidf' instead"):
        check_text_estimator("tfidf")
    with pytest.raises(ValueError, match="unknown checks"):
        check_text_estimator(
            HashingVectorizer(n_features=64),
            expected_failed_checks={"check_nothing": ""},
        )
    with pytest.raises(ValueError, match="At least 12 texts"):
        check_text_estimator(HashingVectorizer(n_features=64), texts=["a"])
    with pytest.raises(ValueError, match="y was passed without texts"):
        check_text_estimator(HashingVectorizer(n_features=64), y=["a"])


@parametrize_with_text_checks(
    [Lengths(), TfidfVectorizer()],
    expected_failed_checks=lambda estimator: {
        **{k: v for k, v in BAG_OF_WORDS_FAILURES.items() if k != "check_no_texts"},
        **{
            name: "counts whatever has a length"
            for name in ("check_no_texts", "check_unfitted", "check_clone")
            + ("check_independent_fits", "check_pickle")
            if isinstance(estimator, Lengths)
        },
    },
    xfail_strict=False,
)
def test_checks_as_tests(estimator, check):
    check(estimator)


def test_each_check_is_a_test_with_a_name():
    mark = parametrize_with_text_checks([Lengths(), Lengths()]).mark
    ids = [test.id for test in mark.args[1]]
    records = check_text_estimator(Lengths(), on_fail=None)
    assert len(ids) == len(set(ids)) == 2 * len(records)
    assert ids[0] == "Lengths-check_bare_string"


def test_the_kind_is_told_from_tags_methods_and_y(cases):
    assert {name: case.kind for name, case in cases.items()} == {
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


def test_a_case_does_not_touch_the_estimator(cases):
    case = cases["classifier"]
    estimator = clone(case.estimator).set_params(random_state=None)
    fitted = TextCase(estimator).fitted
    assert fitted is not estimator
    assert estimator.random_state is None
    assert fitted.random_state == 0
