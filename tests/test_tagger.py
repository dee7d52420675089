"""TransformerTagger, as a user meets it."""

import copy
import itertools
import pickle
import random
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
import transformers
from conftest import (
    LAYERS,
    NEGATIVE,
    POSITIVE,
    TOKENIZER_OF,
    VOCABULARY,
    make_config,
    make_word_tokenizer,
)
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from sktransformers import TransformerTagger, _base, _fitting
from sktransformers._tags import allowed_transitions
from sktransformers.exceptions import DivergenceError, TextTypeError, TextValueError
from sktransformers.metrics import entity_f1, entity_f1_score
from sktransformers.models import modules
from sktransformers.models.loading import quiet

TYPES = {**dict.fromkeys(POSITIVE, "POS"), **dict.fromkeys(NEGATIVE, "NEG")}
SCHEMES = ["plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"]


def tag(words, scheme="BIO"):
    """Return the tags of words: neighbours of one type are one entity.

    But "good" and "bad" begin another one.
    """
    types = [TYPES.get(word) for word in words]
    if scheme == "plain":
        return [entity_type or "X" for entity_type in types]
    tags = []
    for i, entity_type in enumerate(types):
        if entity_type is None:
            tags.append("O")
            continue
        is_same = i > 0 and types[i - 1] == entity_type
        starts = words[i] in ("good", "bad") or not is_same
        is_last = types[i + 1 : i + 2] != [entity_type] or words[i + 1] in "good bad"
        letter = "B" if starts else "I"
        if scheme == "IO" or (scheme == "IOB1" and not is_same):
            letter = "I"
        if scheme in ("BIOES", "BILOU") and is_last:
            letter = scheme[4 if starts else 3]
            letter = {"BIOES": "SE", "BILOU": "UL"}[scheme][0 if starts else 1]
        tags.append(f"{letter}-{entity_type}")
    return tags


def make_tagged(n, *, seed=0, longest=9, scheme="BIO"):
    rng = random.Random(seed)
    X = [rng.choices(VOCABULARY, k=rng.randint(1, longest)) for _ in range(n)]
    return X, [tag(words, scheme) for words in X]


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_tagged(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_tagged(64)[1]


def make_tagger(model, **params):
    params = {"max_epochs": 3, "batch_size": 16, "learning_rate": 3e-3, **params}
    params = {"head_learning_rate": 1e-2, "random_state": 0, **params}
    return TransformerTagger(model, device="cpu", **{"precision": "float32", **params})


ENOUGH = {"max_epochs": 20, "learning_rate": 2e-2, "batch_size": 32}


@pytest.fixture
def tagger(tiny_model):
    """Return an unfitted tagger that trains in a fraction of a second."""
    return make_tagger(tiny_model)


@pytest.fixture(scope="module")
def fitted(tiny_model, X, y):
    """Return a fitted tagger; not to be changed."""
    return make_tagger(tiny_model, **ENOUGH).fit(X, y)


@pytest.fixture
def exact(tmp_path_factory, monkeypatch):
    """Return an unfitted tagger without any dropout, in float64."""
    monkeypatch.setattr(modules, "_NEW_HEAD_DROPOUT", 0.0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    directory = tmp_path_factory.mktemp("exact")
    save(directory, transformers.AutoModel, make_word_tokenizer("bert"), **none)
    return make_tagger(str(directory), precision="float64")


def save(directory, auto, tokenizer, architecture="bert", **overrides):
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        config = make_config(architecture, len(tokenizer), **overrides)
        auto.from_config(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


def equal(a, b, X):
    pairs = zip(a.predict_proba(X), b.predict_proba(X), strict=True)
    return all(np.array_equal(p, q) for p, q in pairs)


def assert_close(got, expected, atol=1e-5):
    assert [len(g) for g in got] == [len(e) for e in expected]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=atol)


def ragged(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


# Schemes


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


@pytest.mark.parametrize("scheme", ["IOB1", "BIO", "BIOES", "BILOU"])
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


def test_it_generalizes(fitted):
    X, y = make_tagged(200, seed=1)
    assert fitted.score(X, y) > 0.8


def test_the_scheme_may_be_named(tagger, X, y):
    tagger.set_params(max_epochs=0)
    plain = clone(tagger).set_params(scheme="plain").fit(X, y)
    assert plain.scheme_ == "plain"
    assert plain.get_feature_names_out().tolist() == plain.classes_.tolist()[:-1]
    assert plain.score(X, y) == np.mean(np.hstack(plain.predict(X)) == np.hstack(y))
    with pytest.raises(ValueError, match="no tag of the scheme 'BIOES'"):
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


def test_empty_texts(fitted, tagger, X, y):
    texts = [[], X[0], [], X[1], []]
    predicted = fitted.predict(texts)
    assert predicted == [[], *fitted.predict(X[:1]), [], *fitted.predict(X[1:2]), []]
    assert [p.shape for p in fitted.predict_proba(texts)] == [
        (len(words), 5) for words in texts
    ]
    assert fitted.predict_entities(["", " \n"]) == [[], []]
    assert fitted.predict([[], []]) == fitted.predict([""] * 2) == [[], []]
    assert [p.shape for p in fitted.predict_proba([[]])] == [(0, 5)]
    assert fitted.transform([[], X[0], []])[[0, 2]].tolist() == [[0, 0], [0, 0]]
    assert fitted.transform([[]]).shape == (1, 2)
    assert fitted.score(texts, [[], y[0], [], y[1], []]) == fitted.score(X[:2], y[:2])

    with_empty = clone(tagger).fit([[], *X, []], [[], *y, []])
    assert equal(with_empty, tagger.fit(X, y), X)


def test_a_score_of_no_words(fitted, tagger):
    assert fitted.score([[]], [[]]) == 0
    X, y = make_tagged(16, scheme="plain")
    plain = tagger.set_params(max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="empty"):
        plain.score([[], []], [[], []])


@pytest.mark.parametrize("odd", ["", "\u200b", "\x00", "\x07\x08", "\ud800", "กำ", " "])
def test_every_word_gets_a_tag(odd, fitted, X):
    texts = [[odd], [*X[0], odd, *X[1]], [odd] * 200, ["x" * 5000, odd]]
    for words, tags in zip(texts, fitted.predict(texts), strict=True):
        assert len(tags) == len(words)
        assert set(tags) <= set(fitted.classes_)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("a film", TextValueError, "single str"),
        (None, TextTypeError, "NoneType"),
        ([], TextValueError, "empty"),
        ([["a"], "film"], TextValueError, r"X\[1\] .*mixes"),
        (["film", ["a"]], TextValueError, r"X\[1\] must be a str like"),
        ([["a"], ["film", None]], TextValueError, r"X\[1\]\[1\] .*None"),
        (["a", None], TextValueError, r"X\[1\] .*None"),
        ([["a"], 3], TextValueError, r"X\[1\] .*3 \(int\)"),
    ],
    ids=str,
)
def test_bad_texts(bad, error, message, fitted, tagger):
    with pytest.raises(error, match=message):
        tagger.fit(bad, [["O"], ["O"]])
    methods = ("predict", "predict_proba", "predict_entities", "transform")
    for method in methods:
        with pytest.raises(error, match=message):
            getattr(fitted, method)(bad)
        with pytest.raises(NotFittedError):
            getattr(tagger, method)(bad)
    with pytest.raises(error, match=message):
        fitted.score(bad, [["O"], ["O"]])
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


# Outputs


def test_probabilities(fitted, X):
    probabilities = fitted.predict_proba(X)
    assert [p.shape for p in probabilities] == [(len(words), 5) for words in X]
    for p in probabilities:
        assert p.dtype == np.float64
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.fixture(scope="module")
def mixed():
    rng = random.Random(3)
    return [
        rng.choices(VOCABULARY, k=rng.choice([0, 1, 9, 70, 200])) for _ in range(80)
    ]


def test_a_texts_company_does_not_change_its_prediction(fitted, mixed):
    together = fitted.predict_proba(mixed)
    order = np.random.default_rng(0).permutation(80)
    shuffled = fitted.predict_proba([mixed[i] for i in order])
    assert_close(shuffled, [together[i] for i in order])
    for size in (1, 7):
        parts = [fitted.predict_proba(mixed[i : i + size]) for i in range(0, 80, size)]
        assert_close(list(itertools.chain(*parts)), together)


def test_entities_of_words(fitted, X):
    n_long = 0
    probabilities = fitted.predict_proba(X)
    results = zip(
        X, fitted.predict(X), fitted.predict_entities(X), probabilities, strict=True
    )
    for words, tags, entities, p in results:
        spelled = ["O"] * len(words)
        chosen = p[np.arange(len(words)), np.searchsorted(fitted.classes_, tags)]
        for entity in entities:
            assert list(entity) == ["text", "label", "start", "end", "score"]
            assert list(map(type, entity.values())) == [str, str, int, int, float]
            place = slice(entity["start"], entity["end"])
            assert entity["text"] == " ".join(words[place])
            n = entity["end"] - entity["start"]
            spelled[place] = [
                f"{'I' if i else 'B'}-{entity['label']}" for i in range(n)
            ]
            np.testing.assert_allclose(entity["score"], chosen[place].mean())
            n_long += n > 1
        assert spelled == tags
    assert n_long > 5


ODD = [
    "👩‍🚀",
    "👍🏽",
    "🇦🇨",
    "cafe\u0301",
    "é",
    "\u0301",
    "न\u093f",
    "می\u200cخ",
    "中",
    "กำ",
]
SPACES = ["", " ", "\n", "\u00a0", "  ", "\u3000"]


def test_entities_of_strings_are_where_they_say(fitted):
    rng = random.Random(0)
    signs = [*POSITIVE, *NEGATIVE, *ODD]
    texts = [
        "".join(f"{rng.choice(signs)}{rng.choice(SPACES)}" for _ in range(12))
        for _ in range(200)
    ]
    texts += ["👩‍🚀good ,cafe\u0301\u00a0great\u3000🇦🇨 dull!"]
    found = fitted.predict_entities(texts)
    for text, entities in zip(texts, found, strict=True):
        for entity in entities:
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"].strip() == entity["text"] != ""
    assert sum(map(len, found)) > 200
    last = {entity["text"]: entity["label"] for entity in found[-1]}
    assert last["dull"] == "NEG"


def test_plain_tags_are_entities_where_they_stand_together(tagger):
    tagger.set_params(**ENOUGH).fit(*make_tagged(64, scheme="plain"))
    words = ["the", "good", "great", "bad", "film"]
    assert tagger.predict([words]) == [["X", "POS", "POS", "NEG", "X"]]
    entities = tagger.predict_entities([words])[0]
    assert [e["label"] for e in entities] == ["X", "POS", "NEG", "X"]


def test_counts_of_entities(fitted, X):
    counts = fitted.transform(X)
    assert counts.dtype == np.int64
    entities = fitted.predict_entities(X)
    expected = [
        [sum(e["label"] == name for e in row) for name in ("NEG", "POS")]
        for row in entities
    ]
    assert counts.tolist() == expected
    tagger = copy.copy(fitted).set_output(transform="pandas")
    index = list(range(64, 0, -1))
    frame = tagger.transform(pd.Series(X, index=index))
    assert frame.columns.tolist() == ["NEG", "POS"]
    assert frame.index.tolist() == index
    assert frame.to_numpy().tolist() == expected
    polars = copy.copy(fitted).set_output(transform="polars").transform(X)
    assert polars.columns == ["NEG", "POS"]


def test_scores(fitted, tagger, X, y):
    score = fitted.score(X, y)
    assert score == entity_f1_score(y, fitted.predict(X))
    weights = np.arange(64.0)
    assert fitted.score(X, y, sample_weight=weights) == entity_f1_score(
        y, fitted.predict(X), sample_weight=weights
    )
    only = np.zeros(64)
    only[5:9] = 1
    expected = fitted.score(X[5:9], y[5:9])
    assert fitted.score(X, y, sample_weight=only) == expected
    missed = [["B-NEW" if t == "B-POS" else t for t in tags] for tags in y]
    assert 0 < fitted.score(X, missed) < score
    with pytest.raises(ValueError, match="'POS' is no tag"):
        fitted.score([["good"]], [["POS"]])
    with pytest.raises(ValueError, match=r"X\[0\] has 1 words"):
        fitted.score([["good"]], [["O", "O"]])
    with pytest.raises(ValueError, match=r"sample_weight|inconsistent|shape"):
        fitted.score(X, y, sample_weight=[1.0])


def test_scores_of_plain_tags(tagger):
    X, y = make_tagged(64, scheme="plain")
    tagger.fit(X, y)
    right = [np.equal(t, p) for t, p in zip(y, tagger.predict(X), strict=True)]
    assert tagger.score(X, y) == np.concatenate(right).mean()
    weights = np.arange(64.0)
    by_word = np.repeat(weights, [len(words) for words in X])
    np.testing.assert_allclose(
        tagger.score(X, y, sample_weight=weights),
        np.average(np.concatenate(right), weights=by_word),
    )
    unknown = [["NEW"] * len(words) for words in X]
    assert tagger.score(X, unknown) == 0
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        tagger.score(X, y, sample_weight=[1.0])


# Long texts


@pytest.fixture(scope="module")
def blind(fitted):
    """Return a tagger that looks at no other word, and not at where a word stands."""
    tagger = copy.deepcopy(fitted)
    encoder = tagger.model_.encoder
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.zero_()
        for layer in encoder.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.attention.output.dense.bias.zero_()
    return tagger.set_params(decode="greedy")


def test_a_long_document_is_tagged_completely(blind):
    words = random.Random(0).choices(VOCABULARY, k=20_000)
    expected = dict(
        zip(VOCABULARY, blind.predict_proba([[w] for w in VOCABULARY]), strict=True)
    )
    probabilities = blind.predict_proba([words])[0]
    assert probabilities.shape == (20_000, 5)
    rows = np.concatenate([expected[word] for word in words])
    np.testing.assert_allclose(probabilities, rows, rtol=0, atol=1e-5)
    tags = blind.predict([words, words[:3]])
    assert len(tags[0]) == 20_000
    assert tags[1] == tags[0][:3]
    text = " ".join(words)
    assert blind.predict([text]) == tags[:1]
    entities = blind.set_params(decode="viterbi").predict_entities([text])[0]
    assert len(entities) > 1000
    assert all(text[e["start"] : e["end"]] == e["text"] for e in entities)
    blind.set_params(decode="greedy")


def test_memory_stays_flat(fitted, monkeypatch):
    words = random.Random(0).choices(VOCABULARY, k=10_000)
    sizes = []
    embed = modules.PooledModel.embed

    def watched(self, **inputs):
        sizes.append(inputs["input_ids"].numel())
        return embed(self, **inputs)

    monkeypatch.setattr(modules.PooledModel, "embed", watched)

    def measure(n):
        sizes.clear()
        tracemalloc.start()
        fitted.predict([words[:n]])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / n, max(sizes)

    measure(500)
    few, many = measure(2500), measure(10_000)
    assert many[0] < 1.25 * few[0]
    assert many[1] <= 1.5 * few[1]


def test_a_word_is_tagged_by_the_window_around_it(fitted):
    fitted = copy.copy(fitted).set_params(max_length=10)  # eight words a window
    words = random.Random(1).choices(VOCABULARY, k=20)
    # Windows begin at words 0, 6 and 12: each word belongs to the one in whose middle
    # it is.
    windows = [words[0:8], words[6:14], words[12:20]]
    first, second, third = fitted.predict_proba(windows)
    expected = np.concatenate([first[:7], second[1:7], third[1:]])
    assert_close(fitted.predict_proba([words]), [expected])


def test_windows_in_training(tagger, X, y):
    long = [list(itertools.chain(*X[i : i + 16])) for i in range(0, 64, 16)]
    tags = [tag(words) for words in long]
    tagger.set_params(max_length=16, max_epochs=10, learning_rate=2e-2)
    tagger.set_params(batch_size=8).fit(long, tags)
    assert tagger.score(long, tags) > 0.7
    assert tagger.history_[0]["n_steps"] > 1  # windows count apiece
    assert tagger.set_params(max_length=None).score(long, tags) > 0.6


# Training


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"class_weight": "balanced"},
        {"class_weight": {"B-POS": 3}},
        {"max_length": 6},
        {"trainable": 1},
    ],
    ids=str,
)
def test_a_text_of_weight_zero_is_as_if_it_were_not_there(params, tagger, X, y):
    rows = [i for i in range(64) if i % 4]
    weights = np.array([i % 4 for i in range(64)], dtype=float)
    a = clone(tagger).set_params(**params).fit(X, y, sample_weight=weights)
    b = clone(tagger).set_params(**params)
    b.fit([X[i] for i in rows], [y[i] for i in rows], sample_weight=weights[rows])
    assert equal(a, b, X)


def test_a_weight_is_each_words(exact):
    X, y = make_tagged(16)
    exact.set_params(batch_size=1000)
    a = clone(exact).fit(X, y, sample_weight=[3] + [1] * 15)
    b = clone(exact).fit(X[:1] * 2 + X, y[:1] * 2 + y)
    assert_close(a.predict_proba(X), b.predict_proba(X), 1e-6)
    for bad in ([1.0], [-1.0] + [1.0] * 15, [0.0] * 16):
        with pytest.raises(ValueError, match=r"shape|[Nn]egative|zero"):
            exact.fit(X, y, sample_weight=bad)


@pytest.mark.parametrize("max_epochs", [0, 4])
def test_class_weights_shift_the_probabilities(max_epochs, tagger):
    X = [["film", "plot"]] * 30
    y = [["A", "A"], ["A", "A"], ["A", "B"]] * 10
    tagger.set_params(max_epochs=max_epochs, scheme="plain")

    def share(class_weight):
        tagger.set_params(class_weight=class_weight).fit(X, y)
        return np.concatenate(tagger.predict_proba(X))[:, 1].mean()

    plain, balanced = share(None), share("balanced")
    assert plain + 0.1 < balanced
    assert abs(share({"A": 60 / 100, "B": 60 / 20}) - balanced) < 1e-6
    assert share({"B": 50}) > balanced + 0.05
    assert share({"B": 0}) < 0.3
    assert tagger.classes_.tolist() == ["A", "B"]


def test_the_number_of_epochs_may_be_chosen_for_the_user(tagger, X, y):
    X, y = X[:16], y[:16]
    tagger.set_params(max_epochs="auto").fit(X, y)
    assert tagger.n_epochs_ == len(tagger.history_) >= 3
    assert tagger.history_[-1]["train_loss"] < tagger.history_[0]["train_loss"]
    tagger.set_params(trainable="head").fit(X, y)
    assert tagger.n_epochs_ == 0


@pytest.mark.parametrize("scheme", ["BIO", "plain"])
def test_early_stopping_keeps_the_epoch_of_the_best_score(scheme, tagger, monkeypatch):
    def hold_out_all(data, fraction, rng):
        rows = np.arange(data.encoding.n_texts)
        return rows, rows

    monkeypatch.setattr(_base, "split", hold_out_all)
    X, y = make_tagged(48, scheme=scheme)
    tagger.set_params(
        early_stopping=True,
        max_epochs=12,
        n_iter_no_change=2,
        max_length=8,
        precision="float32",
    )
    tagger.fit(X, y)
    scores = [record["valid_score"] for record in tagger.history_]
    assert max(scores) > scores[0]
    np.testing.assert_allclose(tagger.score(X, y), max(scores))
    losses = [record["valid_loss"] for record in tagger.history_]
    probabilities = np.concatenate(tagger.predict_proba(X))
    codes = np.searchsorted(tagger.classes_, np.hstack(y))
    chosen = probabilities[np.arange(len(codes)), codes]
    loss = -np.log(chosen).mean()
    best = [
        loss for loss, score in zip(losses, scores, strict=True) if score == max(scores)
    ]
    np.testing.assert_allclose(loss, min(best), rtol=1e-4)


def test_early_stopping_holds_out_whole_texts(tagger, X, y):
    tagger.set_params(early_stopping=True, validation_fraction=0.25)
    tagger.fit([*X, [], []], [*y, [], []])
    assert {"valid_score", "valid_loss"} <= set(tagger.history_[0])
    assert tagger.history_[0]["n_steps"] == 3  # of 48 texts
    assert all(0 <= record["valid_score"] <= 1 for record in tagger.history_)


def test_a_random_state_makes_a_fit_repeatable(tagger, X, y):
    a, b = (clone(tagger).fit(X, y) for _ in range(2))
    assert equal(a, b, X)
    assert not equal(a, clone(tagger).set_params(random_state=1).fit(X, y), X)


def test_accumulated_gradients_are_those_of_one_batch(exact, X, y):
    one = clone(exact).fit(X, y)
    parts = clone(exact).set_params(gradient_accumulation_steps=4).fit(X, y)
    assert_close(one.predict_proba(X), parts.predict_proba(X), 1e-6)


@pytest.mark.parametrize("trainable", ["head", 1])
@pytest.mark.parametrize("architecture", ["bert", "token head"])
def test_a_frozen_bottom_runs_once_and_changes_nothing(
    trainable, architecture, exact, X, y, tmp_path, monkeypatch
):
    if architecture == "token head":
        none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        exact.set_params(model=save_token_head(tmp_path, sorted_tags(y), **none))
    exact.set_params(trainable=trainable, max_length=8)
    kept = clone(exact).fit(X, y)
    monkeypatch.setattr(_fitting, "split_frozen", lambda *args, **kwargs: None)
    repeated = clone(exact).fit(X, y)
    assert_close(kept.predict_proba(X), repeated.predict_proba(X), 1e-6)
    assert isinstance(kept.model_, modules.ArchitectureModel) == (
        architecture == "token head"
    )


def test_it_goes_on_from_where_it_was(tagger, X, y):
    tagger.set_params(warm_start=True, max_epochs=2).fit(X, y)
    first = tagger.history_[0]["train_loss"]
    part = [i for i in range(64) if not {"B-NEG", "I-NEG"} & set(y[i])]
    tagger.fit([X[i] for i in part], [y[i] for i in part])
    assert tagger.history_[0]["train_loss"] < first
    assert tagger.classes_.tolist() == sorted_tags(y)
    before = tagger.predict_proba(X)
    with pytest.raises(ValueError, match=r"y\[1\] has the tag 'B-NEW', which is not"):
        tagger.fit([["a"], ["good", "film"]], [["O"], ["B-NEW", "O"]])
    assert_close(tagger.predict_proba(X), before, 0)
    tagger.set_params(warm_start=False).fit([["a"], ["good"]], [["O"], ["B-NEW"]])
    assert tagger.classes_.tolist() == ["B-NEW", "O"]


def test_a_failed_fit_leaves_the_earlier_one_intact(tagger, X, y):
    tagger.fit(X, y)
    before, entities = tagger.predict_proba(X), tagger.predict_entities(X)
    plain_y = [["Y"] * len(words) for words in X]
    with pytest.raises(DivergenceError):
        tagger.set_params(learning_rate=1e30, head_learning_rate=1e30).fit(X, plain_y)
    with pytest.raises(TextValueError):
        tagger.fit(["a", None], y)
    assert_close(tagger.predict_proba(X), before, 0)
    assert tagger.predict_entities(X) == entities
    assert (tagger.scheme_, len(tagger.classes_)) == ("BIO", 5)


# Checkpoints


def sorted_tags(y):
    return sorted({t for tags in y for t in tags})


def save_token_head(directory, names, architecture="bert", **overrides):
    return save(
        directory,
        transformers.AutoModelForTokenClassification,
        make_word_tokenizer(TOKENIZER_OF[architecture]),
        architecture,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        **overrides,
    )


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_a_trained_head_with_the_same_tags_is_kept(architecture, X, y, tmp_path):
    names = ["O", "I-POS", "B-POS", "I-NEG", "B-NEG"]
    directory = save_token_head(tmp_path, names, architecture)
    tagger = make_tagger(directory, max_epochs=0).fit(X, y)
    with quiet():
        model = transformers.AutoModelForTokenClassification.from_pretrained(directory)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    order = [names.index(name) for name in tagger.classes_]
    first = int(architecture != "gpt2")
    for words, got in zip(X[:8], tagger.predict_proba(X[:8]), strict=True):
        with torch.no_grad():
            inputs = tokenizer(" ".join(words), return_tensors="pt")
            logits = model.eval()(**inputs).logits[0, first : first + len(words)]
        expected = logits.softmax(dim=1)[:, order].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert tagger.n_epochs_ == 0
    named = tagger.model_.model.config.id2label
    assert named == dict(enumerate(tagger.classes_.tolist()))
    tagger.set_params(max_epochs=2).fit(X, y)
    assert isinstance(tagger.model_, modules.ArchitectureModel)


@pytest.mark.parametrize(
    "names", [["O", "B-LOC", "I-LOC"], ["LABEL_0", "LABEL_1"], ["o", "b-pos"]], ids=str
)
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_a_trained_head_with_other_tags_gives_way(names, max_epochs, X, y, tmp_path):
    directory = save_token_head(tmp_path, names)
    tagger = make_tagger(directory, max_epochs=max_epochs).fit(X, y)
    assert isinstance(tagger.model_, modules.PooledModel)
    assert tagger.classes_.tolist() == sorted_tags(y)
    assert tagger.score(X, y) > 0.4


@pytest.mark.parametrize("architecture", sorted(set(TOKENIZER_OF) - {"bert"}))
def test_other_architectures(architecture, tiny_models, X, y):
    tagger = make_tagger(tiny_models[architecture], max_epochs=8).fit(X, y)
    assert tagger.score(X, y) > 0.6
    long = [list(itertools.chain(*X))]
    assert list(map(len, tagger.predict(long))) == list(map(len, long))


CHINESE = ["我住在北京。", "北京是中国的首都。", "她去过上海和北京吗？", "上海很大。"]
PLACES = ["北京", "上海", "中国"]


@pytest.fixture(scope="module")
def chinese_model(tmp_path_factory):
    """Return a tiny BERT with a tokenizer of word pieces trained on the sentences."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CHINESE, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    directory = tmp_path_factory.mktemp("chinese")
    return save(directory, transformers.AutoModel, tokenizer, layers=2)


def test_chinese_characters(chinese_model):
    def spell(text):
        tags = ["O"] * len(text)
        for place, i in itertools.product(PLACES, range(len(text))):
            if text.startswith(place, i):
                tags[i : i + 2] = ["B-LOC", "I-LOC"]
        return tags

    texts = CHINESE * 8
    tagger = make_tagger(chinese_model, max_epochs=15)
    tagger.fit(texts, [spell(text) for text in texts])
    text = "👩‍🚀 我去过中国，e\u0301北京、上海。" + "她住在北京。" * 40
    entities = tagger.predict_entities([text])[0]
    assert [e["text"] for e in entities] == ["中国", "北京", "上海"] + ["北京"] * 40
    for entity in entities:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert entities[0]["start"] == 7
    assert tagger.predict_entities(["Beijing\u0301 𠀀𠀁"])[0] == []


def test_a_word_pattern_may_be_changed_after_fit(fitted):
    tagger = copy.copy(fitted).set_params(word_pattern=r"\S+")
    assert list(map(len, tagger.predict(["a good-film, so"]))) == [3]
    assert list(map(len, fitted.predict(["a good-film, so"]))) == [6]
    with pytest.raises(ValueError, match="word_pattern"):
        tagger.set_params(word_pattern="[").predict(["a film"])


# Copies


@pytest.mark.parametrize(
    "copied",
    [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy],
)
def test_copies_predict_bit_equally(copied, fitted, X):
    restored = copied(fitted)
    assert equal(restored, fitted, X)
    assert restored.predict_entities(X) == fitted.predict_entities(X)
    assert restored.get_params() == fitted.get_params()
    assert restored.history_ == fitted.history_


def test_a_clone_has_the_parameters_and_nothing_else(fitted, X):
    copied = clone(fitted)
    assert vars(copied).keys() == copied.get_params().keys()
    for name in ("classes_", "scheme_", "model_"):
        assert not hasattr(copied, name)
    for call in (copied.predict, copied.predict_entities, copied.transform):
        with pytest.raises(NotFittedError):
            call(X)
    with pytest.raises(NotFittedError):
        copied.get_feature_names_out()
    assert "TransformerTagger" in copied._repr_html_()
    assert "TransformerTagger" in fitted._repr_html_()
    assert "token" not in repr(copied)


# In scikit-learn's tools


@pytest.fixture
def quick_tagger(tagger):
    return tagger.set_params(max_epochs=1)


def test_counts_of_entities_stand_in_a_feature_union(fitted, X):
    texts = [" ".join(words) for words in X]
    labels = [any(word in POSITIVE for word in words) for words in X]
    union = FeatureUnion(
        [("entities", FrozenEstimator(fitted)), ("words", TfidfVectorizer())]
    )
    pipeline = make_pipeline(union, LogisticRegression()).fit(texts, labels)
    assert pipeline.score(texts, labels) > 0.8
    names = union.get_feature_names_out()
    assert names[:2].tolist() == ["entities__NEG", "entities__POS"]
    columns = ColumnTransformer([("entities", FrozenEstimator(fitted), "text")])
    columns.set_output(transform="pandas")
    frame = columns.fit_transform(pd.DataFrame({"text": texts}))
    assert frame.columns.tolist() == ["entities__NEG", "entities__POS"]
    assert np.array_equal(frame, fitted.transform(texts))


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


# Runtimes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")]
)
def test_another_runtime_gives_the_same(backend, package, fitted, mixed):
    pytest.importorskip(package)
    tagger = copy.deepcopy(fitted)
    expected = fitted.predict_proba(mixed)
    assert tagger.accelerate_inference(backend) is tagger
    tagger.model_.forward = None
    assert_close(tagger.predict_proba(mixed), expected, 1e-4)
    # Among thousands of words some tags may nearly tie.
    found, tags = (
        list(itertools.chain(*each.predict(mixed))) for each in (tagger, fitted)
    )
    assert np.mean(np.equal(found, tags)) > 0.999
