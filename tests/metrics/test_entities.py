"""Scores of entities: as seqeval has them, in scikit-learn's searches, and errors."""

import pickle
import random
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import (
    precision_recall_fscore_support as of_default,
)
from seqeval.metrics.v1 import precision_recall_fscore_support as of_strict
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

from sktransformers.metrics import (
    entity_classification_report,
    entity_f1,
    entity_f1_score,
    entity_precision,
    entity_precision_score,
    entity_recall,
    entity_recall_score,
)

LETTERS = {"IO": "IO", "IOB1": "IOB", "BIO": "IOB", "BIOES": "IOBES", "BILOU": "IOBLU"}
SEQEVAL = {"IOB1": IOB1, "BIO": IOB2, "BIOES": IOBES, "BILOU": BILOU}
TYPES = ["LOC", "MISC", "ORG", "PER"]
SCORES = [entity_precision_score, entity_recall_score, entity_f1_score]
AVERAGES = ["micro", "macro", "weighted", None]

CORPORA = [
    (scheme, mode)
    for scheme in LETTERS
    for mode in ("default", "strict")
    if mode == "default" or scheme in SEQEVAL
]


def corpus(scheme, n_texts, seed, *, n_types=4):
    """Tags in any order, and predictions of which a part is right."""
    rng = random.Random(seed)
    tags = [f"{p}-{t}" for p in LETTERS[scheme] if p != "O" for t in TYPES[:n_types]]
    tags += ["O"] * len(tags)
    y_true = [rng.choices(tags, k=rng.randrange(1, 15)) for _ in range(n_texts)]
    y_pred = [
        [tag if rng.random() < 0.8 else rng.choice(tags) for tag in text]
        for text in y_true
    ]
    return y_true, y_pred


def of_seqeval(function, y_true, y_pred, scheme, mode, **options):
    if mode == "strict":
        options["scheme"] = SEQEVAL[scheme]
        if function is classification_report:
            options["mode"] = "strict"
    elif scheme == "BILOU":  # which seqeval knows in its strict mode only
        letters = str.maketrans("LU", "ES")
        y_true, y_pred = (
            [[tag[0].translate(letters) + tag[1:] for tag in tags] for tags in y]
            for y in (y_true, y_pred)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(y_true, y_pred, **options)


def assert_scores_equal(y_true, y_pred, scheme, mode, **options):
    function = of_strict if mode == "strict" else of_default
    expected = of_seqeval(function, y_true, y_pred, scheme, mode, **options)
    for score, value in zip(SCORES, expected[:3], strict=True):
        ours = score(y_true, y_pred, scheme=scheme, mode=mode, **options)
        np.testing.assert_allclose(ours, value, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n_texts", [500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("average", ["micro", None])  # the others follow from None
@pytest.mark.parametrize(("scheme", "mode"), CORPORA)
def test_a_large_corpus_scores_as_with_seqeval(scheme, mode, average, n_texts):
    y_true, y_pred = corpus(scheme, n_texts, seed=0)
    assert_scores_equal(y_true, y_pred, scheme, mode, average=average)
    assert 0.2 < entity_f1_score(y_true, y_pred, scheme=scheme, mode=mode) < 0.9


@pytest.mark.parametrize("zero_division", [0, 1])
@pytest.mark.parametrize(("scheme", "mode"), CORPORA)
def test_many_small_corpora_score_as_with_seqeval(scheme, mode, zero_division):
    for seed in range(8):
        # Down to a single text, so that types are missing on either side.
        n_texts = (1, 2, 4, 50)[seed % 4]
        y_true, y_pred = corpus(scheme, n_texts, seed, n_types=1 + seed % 4)
        options = {"scheme": scheme, "mode": mode, "average": None}
        if len(entity_f1_score(y_true, y_pred, **options)) == 0:
            continue  # seqeval averages nothing to nan
        for average in AVERAGES:
            options = {"average": average, "zero_division": zero_division}
            assert_scores_equal(y_true, y_pred, scheme, mode, **options)


@pytest.mark.parametrize(("scheme", "mode"), CORPORA)
def test_the_report_is_seqevals(scheme, mode):
    y_true, y_pred = corpus(scheme, 200, seed=3)
    options = {"scheme": scheme, "mode": mode}
    ours = entity_classification_report(y_true, y_pred, output_dict=True, **options)
    theirs = of_seqeval(
        classification_report, y_true, y_pred, scheme, mode, output_dict=True
    )
    assert list(ours) == list(theirs)
    for name, row in ours.items():
        assert row == pytest.approx(theirs[name], rel=1e-12)
        assert list(row) == ["precision", "recall", "f1-score", "support"]
    for digits in (2, 4):
        text = entity_classification_report(y_true, y_pred, digits=digits, **options)
        theirs = of_seqeval(
            classification_report, y_true, y_pred, scheme, mode, digits=digits
        )
        assert text == theirs


def test_the_detected_scheme_scores_as_the_named_one():
    for scheme, seed in [("BIO", 0), ("BIOES", 1), ("BILOU", 2), ("IO", 3)]:
        y_true, y_pred = corpus(scheme, 100, seed)
        for mode in ("default", "strict"):
            named = entity_f1_score(y_true, y_pred, mode=mode, scheme=scheme)
            assert entity_f1_score(y_true, y_pred, mode=mode) == named
            assert 0 < named < 1


def test_the_modes_differ_on_malformed_tags_only():
    y_true, y_pred = [["B-A", "I-A", "O", "B-A"]], [["I-A", "I-A", "O", "B-A"]]
    assert entity_f1_score(y_true, y_pred) == 1
    assert entity_recall_score(y_true, y_pred, mode="strict") == 0.5
    assert entity_precision_score(y_true, y_pred, mode="strict") == 1
    assert entity_f1_score(y_true, y_true, mode="strict") == 1


def test_in_the_default_mode_the_schemes_may_differ():
    y_true = [["B-A", "I-A", "O", "B-B"]]
    for y_pred in [["B-A", "E-A", "O", "S-B"]], [["B-A", "L-A", "O", "U-B"]]:
        assert entity_f1_score(y_true, y_pred) == 1
        with pytest.raises(ValueError, match="is not a valid tag of the scheme 'BIO'"):
            entity_f1_score(y_true, y_pred, mode="strict")
        with pytest.raises(ValueError, match="is not a valid tag of the scheme 'BIO'"):
            entity_f1_score(y_true, y_pred, scheme="BIO")


@pytest.mark.parametrize("mode", ["default", "strict"])
@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        # No entity in y_true to know the scheme from.
        ([["O", "O"]], [["B-A", "I-A"]], 0),
        # IOB1 without a B in this part of the data.
        ([["I-A", "I-A"]], [["I-A", "B-A"]], 0),
        ([["I-A", "O"], ["I-A", "I-A"]], [["I-A", "O"], ["I-A", "B-A"]], 0.4),
        # Parts of speech.
        ([["NN", "NN", "VB", "O"]], [["NN", "NN", "VB", "O"]], 1),
        ([["NN", "NN", "VB"]], [["NN", "VB", "VB"]], 0),
        # One type without a name.
        ([["B", "I", "O"]], [["B", "O", "B"]], 0),
        ([["B", "I", "O"]], [["B", "I", "B"]], 2 / 3),
        ([["I", "O"]], [["B", "O"]], None),
        # Tags of the schemes' letters that are of no scheme.
        ([["B-A", "I-A", "X"]], [["B-A", "I-A", "X"]], 1),
    ],
)
def test_schemes_found_in_little(y_true, y_pred, expected, mode):
    if expected is None:  # read as B, I in the default mode, and I begins an entity
        expected = 1 if mode == "default" else 0
    assert entity_f1_score(y_true, y_pred, mode=mode) == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["default", "strict"])
def test_without_true_entities_the_predicted_ones_tell_the_scheme(mode):
    y_true, y_pred = [["O", "O", "O"]], [["B-A", "I-A", "O"]]
    report = entity_classification_report(
        y_true, y_pred, mode=mode, output_dict=True, zero_division=0
    )
    assert next(iter(report)) == "A"


def test_tags_of_ioe_are_read_in_the_default_mode_only():
    y = [["I-A", "E-A", "E-A", "O"]]
    assert entity_recall_score(y, [["I-A", "E-A", "O", "O"]]) == 0.5
    with pytest.raises(ValueError, match="mode='strict' needs tags of one scheme"):
        entity_recall_score(y, y, mode="strict")


def test_a_plain_scheme_takes_prefixed_tags_as_they_are():
    y = [["B-A", "I-A", "O"]]
    assert entity_f1_score(y, y, scheme="plain", average=None).tolist() == [1, 1]
    assert entity_f1_score(y, y, average=None).tolist() == [1]


Y_TRUE = [["B-A", "I-A", "O"], ["B-B", "O"], []]
Y_PRED = [["B-A", "I-A", "O"], ["B-A", "B-B"], []]


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        lambda y: [tuple(tags) for tags in y],
        lambda y: [np.array(tags, dtype=str) for tags in y],
        lambda y: np.array(y, dtype=object),
        lambda y: pd.Series(y, index=[4, 1, 0]),
        lambda y: pl.Series(y),
    ],
    ids="list tuple tuples arrays object pandas polars".split(),
)
def test_what_y_may_be(container):
    assert entity_f1_score(container(Y_TRUE), Y_PRED) == 0.4
    assert entity_f1_score(Y_TRUE, container(Y_PRED)) == 0.4
    assert type(entity_f1_score(container(Y_TRUE), container(Y_PRED))) is float


def test_averages():
    # A: 1 of 2 predicted is right, 1 of 1 true is found; B: 0 of 1, 0 of 1.
    y_true = [*Y_TRUE, ["B-A"]]
    y_pred = [*Y_PRED, ["B-A"]]
    assert entity_precision_score(y_true, y_pred) == 2 / 4
    assert entity_precision_score(y_true, y_pred, average=None).tolist() == [2 / 3, 0]
    assert entity_precision_score(y_true, y_pred, average="macro") == 1 / 3
    weighted = entity_precision_score(y_true, y_pred, average="weighted")
    assert weighted == pytest.approx(4 / 9)


def test_weights_count_a_text_as_often_as_they_say():
    y_true, y_pred = corpus("BIO", 30, seed=5)
    weights = np.random.default_rng(0).integers(0, 4, 30)
    repeated = [
        [text for text, n in zip(y, weights, strict=True) for _ in range(n)]
        for y in (y_true, y_pred)
    ]
    for ours in SCORES:
        for average in AVERAGES:
            np.testing.assert_allclose(
                ours(y_true, y_pred, average=average, sample_weight=weights),
                ours(*repeated, average=average),
            )
    report = entity_classification_report(
        y_true, y_pred, sample_weight=weights / 2, output_dict=True
    )
    expected = entity_classification_report(*repeated, output_dict=True)
    for name, row in report.items():
        expected[name]["support"] /= 2
        assert row == pytest.approx(expected[name])
    text = entity_classification_report(y_true, y_pred, sample_weight=weights / 2)
    assert text.splitlines()[-1].endswith(f"{report['micro avg']['support']}")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"sample_weight.shape == \(2,\), expected \(3,\)"),
        ([[1], [1], [1]], "Sample weights must be 1D"),
        ([1, 1, float("nan")], "sample_weight contains NaN"),
        (1, "sample_weight"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        entity_f1_score(Y_TRUE, Y_PRED, sample_weight=weights)


NOTHING = [["O", "O"], []]
SOMETHING = [["B-A", "O"], []]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(
    ("score", "y_true", "y_pred", "message"),
    [
        (entity_precision_score, SOMETHING, NOTHING, "Precision .* no predicted"),
        (entity_recall_score, NOTHING, SOMETHING, "Recall .* no true"),
        (entity_f1_score, NOTHING, NOTHING, "F-score .* no true nor predicted"),
        (entity_precision_score, NOTHING, NOTHING, "Precision .* no predicted"),
        (entity_recall_score, NOTHING, NOTHING, "Recall .* no true"),
        (entity_recall_score, [], [], "Recall .* no true"),
    ],
)
def test_zero_divided_by_zero(score, y_true, y_pred, message, average):
    def mean(**options):
        return np.mean(score(y_true, y_pred, average=average, **options))

    if average is None and y_true != SOMETHING and y_pred != SOMETHING:
        assert score(y_true, y_pred, average=None).shape == (0,)
        return
    with pytest.warns(UndefinedMetricWarning, match=message) as caught:
        assert mean() == 0
    assert len(caught) == 1
    assert mean(zero_division=0) == 0
    assert mean(zero_division=1) == 1


@pytest.mark.parametrize("average", AVERAGES)
def test_no_warning_where_a_score_is_plain_zero(average):
    assert np.mean(entity_f1_score(SOMETHING, NOTHING, average=average)) == 0
    assert np.mean(entity_f1_score(NOTHING, SOMETHING, average=average)) == 0
    assert np.mean(entity_recall_score(SOMETHING, NOTHING, average=average)) == 0
    assert np.mean(entity_precision_score(NOTHING, SOMETHING, average=average)) == 0


def test_an_undefined_score_of_one_type_warns():
    y_true, y_pred = [["B-A", "B-B"]], [["B-A", "O"]]
    with pytest.warns(UndefinedMetricWarning, match="Precision is ill-defined"):
        assert entity_precision_score(y_true, y_pred, average="macro") == 0.5
    with pytest.warns(UndefinedMetricWarning, match="Precision is ill-defined"):
        entity_classification_report(y_true, y_pred)
    assert entity_precision_score(y_true, y_pred) == 1


def test_the_report_of_nothing():
    with pytest.warns(UndefinedMetricWarning) as caught:
        report = entity_classification_report(NOTHING, NOTHING, output_dict=True)
    assert len({str(warning.message) for warning in caught}) == 3  # one per metric
    assert list(report) == ["no entity", "micro avg", "macro avg", "weighted avg"]
    assert report["macro avg"] == {
        "precision": 0,
        "recall": 0,
        "f1-score": 0,
        "support": 0,
    }
    text = entity_classification_report(NOTHING, NOTHING, zero_division=1)
    assert "macro avg       1.00      1.00      1.00         0" in text


ALL = [*SCORES, entity_classification_report]


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([["O"]], [["O"], ["O"]], r"inconsistent numbers of samples: \[1, 2\]"),
        (
            [["O"]] * 3 + [["O"] * 5],
            [["O"]] * 3 + [["O"] * 4],
            r"y_pred\[3\] has 4 tags, but y_true\[3\] has 5",
        ),
        ([["O"], []], [[], ["O"]], r"y_pred\[0\] has 0 tags, but y_true\[0\] has 1"),
        (["O", "O"], ["O", "O"], r"y_true\[0\] is a str.* must be a list of tags"),
        ([["O"], ["O"]], ["O", "O"], r"y_pred\[0\] is a str"),
        ([["O", 1]], [["O", "O"]], r"y_true\[0\]\[1\] is 1, of type int"),
        ([["O", "O"]], [["O", None]], r"y_pred\[0\]\[1\] is None"),
        ("O", [["O"]], "y_true must hold a list of tags for each text"),
        ([["O"]], None, "y_pred must hold a list of tags for each text"),
        ([["B-A"]], [["A"]], "'A' is not a valid tag with an entity type"),
    ],
)
def test_what_y_may_not_be(score, y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        score(y_true, y_pred)


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize(
    "options",
    [
        {"mode": None},
        {"scheme": "IOB2"},
        {"zero_division": 0.5},
        {"zero_division": "ignore"},
        {"average": "samples"},
        {"digits": -1},
        {"sample_weight": "balanced"},
    ],
)
def test_wrong_options(score, options):
    with pytest.raises((ValueError, TypeError), match=f"'{next(iter(options))}'"):
        score(Y_TRUE, Y_PRED, **options)


class FrequentTagger(BaseEstimator):
    """Gives each word the tag it had most often, and unknown words the default."""

    def __init__(self, default="O"):
        self.default = default

    def fit(self, X, y, sample_weight=None):
        counts = pd.Series(
            [word for text in X for word in text], [tag for tags in y for tag in tags]
        )
        frame = pd.DataFrame({"tag": counts.index, "word": counts.to_numpy()})
        self.tags_ = frame.groupby("word")["tag"].agg(lambda tags: tags.mode()[0])
        return self

    def predict(self, X):
        known = self.tags_.to_dict()
        return [[known.get(word, self.default) for word in text] for text in X]


def tagged_texts(n_texts=60):
    rng = random.Random(0)
    words = {"Ann": "B-PER", "Smith": "I-PER", "Rome": "B-LOC", "is": "O", "in": "O"}
    X = [rng.choices([*words], k=rng.randrange(5, 9)) for _ in range(n_texts)]
    y = [[words[w] if rng.random() < 0.9 else "B-LOC" for w in text] for text in X]
    return X, y


@pytest.mark.parametrize(
    ("scorer", "score"),
    [
        (entity_f1, entity_f1_score),
        (entity_precision, entity_precision_score),
        (entity_recall, entity_recall_score),
    ],
)
def test_scorers(scorer, score):
    X, y = tagged_texts()
    tagger = FrequentTagger().fit(X, y)
    expected = score(y, tagger.predict(X))
    assert scorer(tagger, X, y) == expected
    assert 0.5 < expected < 1
    weights = np.arange(60.0)
    assert scorer(tagger, X, y, sample_weight=weights) == score(
        y, tagger.predict(X), sample_weight=weights
    )
    assert pickle.loads(pickle.dumps(scorer))(tagger, X, y) == expected
    assert score.__name__ in repr(scorer)
    assert score.__name__ in scorer.__doc__


@pytest.mark.parametrize(
    "container",
    [list, lambda y: np.array(y, dtype=object), lambda y: pd.Series(y)],
    ids=["list", "object", "pandas"],
)
def test_scorers_cross_validate(container):
    X, y = tagged_texts()
    scores = cross_val_score(FrequentTagger(), X, container(y), scoring=entity_f1, cv=3)
    assert scores.shape == (3,)
    assert (scores > 0.5).all()


def test_scorers_search():
    X, y = tagged_texts()
    search = GridSearchCV(
        FrequentTagger(),
        {"default": ["O", "B-LOC"]},
        scoring={
            "f1": entity_f1,
            "recall": entity_recall,
            "macro": make_scorer(entity_f1_score, average="macro", mode="strict"),
        },
        refit="f1",
        cv=3,
        error_score="raise",
    )
    clone(search).fit(X, y)
    search.fit(X, y)
    assert search.score(X, y) == entity_f1(search.best_estimator_, X, y)
    assert (search.cv_results_["mean_test_macro"] > 0.5).all()
