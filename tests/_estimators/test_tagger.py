"""Tests of TransformerTagger: tagging schemes, inputs and parameters."""

import itertools
import random

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import InvalidParameterError
from tiny_models import LAYERS
from tiny_taggers import ENOUGH, SCHEMES, equal, make_tagged, make_tagger, ragged, tag
from tiny_tokenizers import make_marking_sentencepiece, save_with

from sktransformers import TransformerTagger
from sktransformers.exceptions import TextTypeError, TextValueError
from sktransformers.metrics import entity_f1_score
from sktransformers.metrics._schemes import allowed_transitions


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_tagged(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_tagged(64)[1]


# Schemes


@pytest.mark.parametrize("as_strings", [False, True])
def test_characters_of_a_tokenizer_that_marks_spaces(as_strings, tmp_path):
    places, others = "北京上海广州", "我住在很大的城市里"
    rng = random.Random(0)
    X = ["".join(rng.choices(places + others, k=rng.randint(4, 12))) for _ in range(60)]
    y = [["I-LOC" if c in places else "O" for c in text] for text in X]
    tokenizer = make_marking_sentencepiece(X)
    assert tokenizer.tokenize("州")[0] == "▁"
    tagger = make_tagger(save_with(tmp_path, tokenizer), trainable="head")
    X = X if as_strings else list(map(list, X))
    assert tagger.set_params(max_epochs=0).fit(X, y).score(X, y) == 1.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_found_learned_and_scored(scheme, tagger):
    X, y = make_tagged(64, scheme=scheme)
    tagger.set_params(**ENOUGH).fit(X, y)
    assert tagger.scheme_ == scheme
    assert tagger.classes_.tolist() == sorted({t for tags in y for t in tags})
    predicted = tagger.predict(X)
    assert [len(tags) for tags in predicted] == [len(words) for words in X]
    assert {type(t) for tags in predicted for t in tags} == {str}
    score = tagger.score(X, y)
    assert score > 0.8
    if scheme == "plain":
        flat = [[t for tags in texts for t in tags] for texts in (y, predicted)]
        assert score == accuracy_score(*flat)
        types = ["NEG", "POS", "X"]
    else:
        assert score == entity_f1_score(y, predicted, scheme=scheme)
        types = ["NEG", "POS"]
    assert tagger.get_feature_names_out().tolist() == types


@pytest.mark.parametrize("scheme", ["IOB1", "BIO", "BIOES", "BILOU", "BMES", "BMEWO"])
def test_predictions_follow_the_scheme(scheme, tagger, two_layer_models):
    X, y = make_tagged(64, scheme=scheme)
    # Too little to know the scheme by itself.
    tagger.set_params(max_epochs=1, model=two_layer_models["bert"]).fit(X, y)
    start, between, end = allowed_transitions(tagger.classes_, scheme)

    def n_wrong(predicted):
        places = [np.searchsorted(tagger.classes_, tags) for tags in predicted]
        return sum(
            (not start[codes[0]])
            + (not end[codes[-1]])
            + sum(not between[pair] for pair in itertools.pairwise(codes))
            for codes in places
        )

    texts, _ = make_tagged(200, seed=1, longest=20)
    assert n_wrong(tagger.predict(texts)) == 0
    tagger.set_params(decode="greedy")
    if scheme != "IOB1":  # which forbids little
        assert n_wrong(tagger.predict(texts)) > 0
    best = [p.argmax(axis=1) for p in tagger.predict_proba(texts)]
    assert tagger.predict(texts) == [tagger.classes_[b].tolist() for b in best]


def test_it_generalizes(fitted_tagger):
    X, y = make_tagged(200, seed=1)
    assert fitted_tagger.score(X, y) > 0.8


def test_the_scheme_may_be_named(tagger, X, y):
    tagger.set_params(max_epochs=0)
    plain = clone(tagger).set_params(scheme="plain").fit(X, y)
    assert plain.scheme_ == "plain"
    assert plain.get_feature_names_out().tolist() == plain.classes_.tolist()[:-1]
    assert plain.score(X, y) == np.mean(np.hstack(plain.predict(X)) == np.hstack(y))
    with pytest.raises(ValueError, match="not a valid tag of the scheme 'BIOES'"):
        tagger.set_params(scheme="BIOES").fit(X, [["X-POS"] * len(t) for t in y])


@pytest.mark.parametrize("only", ["O", "B-LOC"])
def test_a_single_tag(only, tagger, X):
    y = [[only] * len(words) for words in X]
    tagger.fit(X, y)
    assert tagger.predict(X) == y
    assert all((p == 1).all() for p in tagger.predict_proba(X))
    n_types = int(only != "O")
    assert tagger.transform(X).shape == (64, n_types)
    assert tagger.score(X, y) == 1


# What X and y may be


@pytest.fixture(scope="module")
def after_one_epoch(tiny_model, X, y):
    return make_tagger(tiny_model, max_epochs=1).fit(X, y)


def join(X):
    return [" ".join(words) for words in X]


SHUFFLED = np.random.default_rng(0).permutation(64)


@pytest.mark.parametrize(
    ("wrap", "wrap_y"),
    [
        (ragged, ragged),
        (lambda X: [tuple(words) for words in X], lambda y: map(np.array, y)),
        (lambda X: pd.Series(X, index=SHUFFLED), lambda y: pd.Series(y, SHUFFLED)),
        (pl.Series, pl.Series),
        (lambda X: pd.DataFrame({"words": X}), tuple),
        (join, ragged),
        (lambda X: np.array(join(X)), list),
        (lambda X: pd.Series(join(X), SHUFFLED), list),
        (lambda X: pl.DataFrame({"text": join(X)}), list),
    ],
    ids=range(9),
)
def test_every_container_gives_the_same_model(
    wrap, wrap_y, tagger, after_one_epoch, X, y
):
    tagger.set_params(max_epochs=1).fit(wrap(X), wrap_y(y))
    assert equal(tagger, after_one_epoch, X)
    assert tagger.predict(wrap(X)) == after_one_epoch.predict(X)
    assert tagger.score(wrap(X), wrap_y(y)) == after_one_epoch.score(X, y)


def test_texts_of_one_length(tagger):
    X = np.array([["so", "good"], ["bad", "film"]] * 8)
    y = np.array([tag(words) for words in X.tolist()])
    tagger.fit(X, y)
    assert np.array(tagger.predict(X)).shape == (16,)  # lists, not characters
    assert list(map(len, tagger.predict(X))) == [2] * 16


def test_empty_texts(fitted_tagger, tagger, X, y):
    texts = [[], X[0], [], X[1], []]
    predicted = fitted_tagger.predict(texts)
    assert predicted == [
        [],
        *fitted_tagger.predict(X[:1]),
        [],
        *fitted_tagger.predict(X[1:2]),
        [],
    ]
    assert [p.shape for p in fitted_tagger.predict_proba(texts)] == [
        (len(words), 5) for words in texts
    ]
    assert fitted_tagger.predict_entities(["", " \n"]) == [[], []]
    assert (
        fitted_tagger.predict([[], []]) == fitted_tagger.predict([""] * 2) == [[], []]
    )
    assert [p.shape for p in fitted_tagger.predict_proba([[]])] == [(0, 5)]
    assert fitted_tagger.transform([[], X[0], []])[[0, 2]].tolist() == [[0, 0], [0, 0]]
    assert fitted_tagger.transform([[]]).shape == (1, 2)
    assert fitted_tagger.score(texts, [[], y[0], [], y[1], []]) == fitted_tagger.score(
        X[:2], y[:2]
    )

    with_empty = clone(tagger).fit([[], *X, []], [[], *y, []])
    assert equal(with_empty, tagger.fit(X, y), X)


def test_a_score_of_no_words(fitted_tagger, tagger):
    assert fitted_tagger.score([[]], [[]]) == 0
    X, y = make_tagged(16, scheme="plain")
    plain = tagger.set_params(max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="empty"):
        plain.score([[], []], [[], []])


@pytest.mark.parametrize("odd", ["", "\u200b", "\x00", "\x07\x08", "\ud800", "กำ", " "])
def test_every_word_gets_a_tag(odd, fitted_tagger, X):
    texts = [[odd], [*X[0], odd, *X[1]], [odd] * 200, ["x" * 5000, odd]]
    for words, tags in zip(texts, fitted_tagger.predict(texts), strict=True):
        assert len(tags) == len(words)
        assert set(tags) <= set(fitted_tagger.classes_)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("a film", TextValueError, "single str"),
        (None, TextTypeError, "NoneType"),
        ([], TextValueError, "empty"),
        ([["a"], "film"], TextValueError, r"X\[1\] .*not both"),
        (["film", ["a"]], TextValueError, r"X\[1\] must be a str like"),
        ([["a"], ["film", None]], TextValueError, r"X\[1\]\[1\] .*None"),
        (["a", None], TextValueError, r"X\[1\] .*None"),
        ([["a"], 3], TextValueError, r"X\[1\] .*3 \(int\)"),
    ],
    ids=str,
)
def test_bad_texts(bad, error, message, fitted_tagger, tagger):
    with pytest.raises(error, match=message):
        tagger.fit(bad, [["O"], ["O"]])
    methods = ("predict", "predict_proba", "predict_entities", "transform")
    for method in methods:
        with pytest.raises(error, match=message):
            getattr(fitted_tagger, method)(bad)
        with pytest.raises(NotFittedError):
            getattr(tagger, method)(bad)
    with pytest.raises(error, match=message):
        fitted_tagger.score(bad, [["O"], ["O"]])
    with pytest.raises(NotFittedError):
        tagger.score(bad, [["O"], ["O"]])


TWO = [["a", "film"], ["good"]]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (TWO, [["O", "O"], ["O", "O"]], r"X\[1\] has 1 words, but y\[1\] has 2 tags"),
        (TWO, [["O"], ["O"]], r"X\[0\] has 2 words, .*\['a', 'film'\]"),
        (["a film!"], [["O", "O"]], r"X\[0\] has 3 words, as word_pattern splits it"),
        ([[]], [["O"]], r"X\[0\] has 0 words"),
        ([["a"] * 9], [[]], r"'a'\] \.\.\.\."),
        (TWO, [["O", "O"]], "inconsistent numbers of samples"),
        (TWO, None, "y to be passed"),
        (TWO, "OO", "'OO' of type str"),
        (TWO, ["OO", "O"], r"y\[0\] is a str"),
        (TWO, [["O", "O"], [1]], r"y\[1\]\[0\] is 1"),
        (TWO, [["O", "O"], [None]], r"y\[1\]\[0\] is None"),
        (TWO, [["O", "O"], None], r"y\[1\] is a None"),
        ([[], []], [[], []], "no tags: all texts are empty"),
    ],
    ids=str,
)
def test_bad_tags(X, y, message, tagger):
    with pytest.raises(ValueError, match=message):
        tagger.fit(X, y)
    assert not hasattr(tagger, "model_")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scheme": "IOB2"}, "scheme"),
        ({"decode": "beam"}, "decode"),
        ({"word_pattern": None}, "word_pattern"),
        ({"word_pattern": "("}, r"word_pattern='\('"),
        ({"class_weight": "even"}, "class_weight"),
        ({"class_weight": {"B-LOC": 2}}, "not in class_weight"),
        ({"max_length": 2}, "max_length=2 must be between 3"),
        ({"max_length": 65}, "64, the limit"),
        ({"trainable": 3}, f"the model has {LAYERS} layers"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "leaves none"),
    ],
    ids=str,
)
def test_bad_parameters(params, message, tagger, X, y):
    X = [" ".join(words) for words in X]
    with pytest.raises(ValueError, match=message) as caught:
        tagger.set_params(**params).fit(X, y)
    is_ours = isinstance(caught.value, InvalidParameterError)
    assert is_ours == any(
        isinstance(value, str | None) and value != "(" for value in params.values()
    )


def test_the_constructor_takes_what_a_classifier_takes():
    from sktransformers import TransformerClassifier

    theirs = TransformerClassifier().get_params()
    own = TransformerTagger().get_params()
    assert set(own) - set(theirs) == {"scheme", "decode", "word_pattern"}
    assert set(theirs) - set(own) == {"long_text", "pooling"}
    assert all(own[name] == theirs[name] for name in set(own) & set(theirs))
