"""TransformerClassifier, as a user meets it."""

import copy
import itertools
import os
import pickle
import random
import signal
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import (
    NEUTRAL,
    TOKENIZER_OF,
    WIDTH,
    assert_close,
    make_sentences,
    save_tiny_model,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import InvalidParameterError

from sktransformers import TransformerClassifier, _fitting
from sktransformers._data import Data, split
from sktransformers._targets import LabelTarget
from sktransformers.exceptions import (
    DivergenceError,
    HeadMismatchError,
    ModelFormatError,
    ModelNotFoundError,
    TextTypeError,
    TextValueError,
    TruncationWarning,
)
from sktransformers.models.dropout import FastDropout
from sktransformers.text.encoding import Ragged, SpecialTokens, encode

NAN = float("nan")


@pytest.fixture(scope="module")
def X(sentences):  # noqa: N802
    return sentences[0]


@pytest.fixture(scope="module")
def y(sentences):
    return sentences[1]


def bit_equal(a, b, X):
    return np.array_equal(a.predict_proba(X), b.predict_proba(X))


def weights_of(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


# Labels


@pytest.mark.parametrize(
    ("negative", "positive", "wrap", "dtype"),
    [
        ("neg", "pos", list, "<U3"),
        ("z", "a", list, "<U1"),
        (40, -7, list, np.int64),
        (3, 100, lambda y: np.array(y, dtype=np.uint8), np.uint8),
        (False, True, list, np.bool_),
        ("neg", "pos", lambda y: np.array(y, dtype=object), object),
        ("neg", "pos", lambda y: pd.Series(y, dtype="category"), "<U3"),
        ("neg", "pos", lambda y: pd.Series(y, dtype="string"), "<U3"),
        (1, 2, lambda y: pd.Series(y, dtype="Int64", index=range(64, 0, -1)), np.int64),
        ("neg", "pos", lambda y: pl.Series(y), "<U3"),
    ],
)
def test_labels_of_every_kind(negative, positive, wrap, dtype, tiny_classifier, X, y):
    labels = [positive if label == "pos" else negative for label in y]
    classifier = tiny_classifier.set_params(max_epochs=0).fit(X, wrap(labels))
    assert classifier.classes_.tolist() == sorted({negative, positive})
    predicted = classifier.predict(X)
    assert predicted.dtype == classifier.classes_.dtype == dtype
    assert predicted.shape == (64,)
    assert np.mean(predicted == np.array(labels)) > 0.8
    assert classifier.score(X, wrap(labels)) == np.mean(predicted == np.array(labels))


def test_three_classes(tiny_classifier, X):
    first_words = [text.split()[0][0] for text in X]
    labels = ["afmnp".find(letter) % 3 for letter in first_words]
    classifier = tiny_classifier.fit(X, labels)
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (64, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    decision = classifier.decision_function(X)
    np.testing.assert_allclose(np.exp(decision), probabilities, rtol=1e-9)
    assert np.array_equal(
        classifier.predict(X), classifier.classes_[probabilities.argmax(axis=1)]
    )


@pytest.mark.parametrize(
    "wrap", [np.array, np.ndarray.tolist, sparse.csr_matrix, lambda Y: Y.astype(bool)]
)
def test_multilabel(wrap, tiny_classifier, X, y):
    film = ["film" in text.split() for text in X]
    Y = np.column_stack([np.array(y) == "pos", film, np.ones(64)]).astype(int)
    classifier = tiny_classifier.set_params(max_epochs=8).fit(X, wrap(Y))
    assert classifier.classes_.tolist() == [0, 1, 2]
    predicted = classifier.predict(X)
    assert predicted.shape == (64, 3)
    assert set(np.unique(predicted)) == {0, 1}
    assert np.mean(predicted[:, 0] == Y[:, 0]) > 0.8
    assert predicted[:, 2].all()
    probabilities = classifier.predict_proba(X)
    assert ((probabilities > 0.5) == predicted).all()
    decision = classifier.decision_function(X)
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), probabilities)
    assert classifier.score(X, Y) == accuracy_score(Y, predicted)


def test_a_single_class_fits(tiny_classifier, X):
    classifier = tiny_classifier.fit(X, ["only"] * 64)
    assert classifier.predict(X[:2]).tolist() == ["only", "only"]
    assert classifier.predict_proba(X[:2]).tolist() == [[1], [1]]


# Weights


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"class_weight": "balanced"},
        {"class_weight": {"pos": 3}},
        {"long_text": "window", "max_length": 8},
    ],
    ids=str,
)
def test_a_text_of_weight_zero_is_as_if_it_were_not_there(
    params, tiny_classifier, X, y
):
    rows = [i for i in range(64) if i % 4]
    weights = np.array([i % 4 for i in range(64)], dtype=float)
    a = clone(tiny_classifier).set_params(**params).fit(X, y, sample_weight=weights)
    b = clone(tiny_classifier).set_params(**params)
    b.fit([X[i] for i in rows], [y[i] for i in rows], sample_weight=weights[rows])
    assert bit_equal(a, b, X)


def test_only_the_ratios_of_weights_matter_in_training(tiny_classifier, X, y):
    tiny_classifier.set_params(pooling="head")  # no penalized start
    a = clone(tiny_classifier).fit(X, y)
    b = clone(tiny_classifier).fit(X, y, sample_weight=np.full(64, 4.0))
    assert_close(a.predict_proba(X), b.predict_proba(X))


@pytest.mark.parametrize("max_epochs", [0, 4])
def test_weights_decide_between_contradicting_texts(max_epochs, tiny_classifier):
    X, y = ["a film"] * 20, ["no", "yes"] * 10
    tiny_classifier.set_params(max_epochs=max_epochs)
    for weight, expected in ((9, "yes"), (1 / 9, "no")):
        tiny_classifier.fit(X, y, sample_weight=[1, weight] * 10)
        assert tiny_classifier.predict(["a film"]) == [expected]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([-1.0] + [1.0] * 63, "[Nn]egative"),
        ([0.0] * 64, "[Ss]ample weights .*zero"),
        ([NAN] + [1.0] * 63, "NaN"),
        ([float("inf")] + [1.0] * 63, "infinity"),
        ([1.0] * 63, "shape"),
        (np.ones((64, 2)), "1D"),
        (["heavy"] * 64, "could not convert"),
    ],
)
def test_bad_weights(weights, message, tiny_classifier, X, y):
    with pytest.raises(ValueError, match=message):
        tiny_classifier.fit(X, y, sample_weight=weights)
    assert not hasattr(tiny_classifier, "model_")


@pytest.mark.parametrize("max_epochs", [0, 4])
def test_class_weights_shift_the_probabilities(max_epochs, tiny_classifier, X, y):
    # Labels that have nothing to do with the texts, a fifth of them "pos".
    X, y = X[:40], ["neg", "pos", "neg", "neg", "neg"] * 8
    tiny_classifier.set_params(max_epochs=max_epochs)

    def share(class_weight):
        tiny_classifier.set_params(class_weight=class_weight).fit(X, y)
        return tiny_classifier.predict_proba(X)[:, 1].mean()

    plain, balanced = share(None), share("balanced")
    assert plain + 0.1 < balanced
    assert share({"neg": 40 / 64, "pos": 40 / 16}) == balanced
    assert share({"pos": 100}) > balanced + 0.1


def test_class_weight_zero_drops_a_class_but_not_its_column(tiny_classifier, X, y):
    tiny_classifier.set_params(class_weight={"pos": 0}).fit(X, y)
    assert set(tiny_classifier.predict(X)) == {"neg"}
    assert tiny_classifier.predict_proba(X).shape == (64, 2)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"pos": 0, "neg": 0}, "all zero"),
        ({"pos": -1}, "finite number of at least 0"),
        ({"pos": NAN}, "finite number of at least 0"),
        ({"pos": 1, "good": 1}, "not in class_weight"),
    ],
)
def test_bad_class_weights(class_weight, message, tiny_classifier, X, y):
    with pytest.raises(ValueError, match=message):
        tiny_classifier.set_params(class_weight=class_weight).fit(X, y)


# What scikit-learn documents


def test_the_prediction_methods_agree(fitted_classifier, X, y):
    probabilities = fitted_classifier.predict_proba(X)
    assert probabilities.shape == (64, 2)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)
    predicted = fitted_classifier.predict(X)
    assert np.array_equal(
        predicted, fitted_classifier.classes_[probabilities.argmax(axis=1)]
    )
    odds = np.log(probabilities[:, 1] / probabilities[:, 0])
    decision = fitted_classifier.decision_function(X)
    assert decision.shape == (64,)
    assert_close(decision, odds, rtol=1e-9)
    assert fitted_classifier.score(X, y) == np.mean(predicted == y) > 0.9
    only_right = (predicted == y).astype(float)
    assert fitted_classifier.score(X, y, sample_weight=only_right) == 1


def test_it_generalizes(fitted_classifier):
    X, y = make_sentences(200, seed=1)
    assert fitted_classifier.score(X, y) > 0.85


def test_transform_gives_the_vectors_that_the_head_reads(fitted_classifier, X):
    vectors = fitted_classifier.transform(X)
    assert vectors.shape == (64, WIDTH)
    assert vectors.dtype == np.float32
    head = fitted_classifier.model_.head
    outputs = vectors @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    decision = fitted_classifier.decision_function(X)
    assert_close(outputs[:, 1] - outputs[:, 0], decision)
    names = fitted_classifier.get_feature_names_out()
    assert names.tolist() == [f"transformerclassifier{i}" for i in range(WIDTH)]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library, fitted_classifier, X):
    classifier = copy.copy(fitted_classifier).set_output(transform=library)
    index = list(range(64, 0, -1))
    frame = classifier.transform(pd.Series(X, index=index))
    assert list(frame.columns) == list(classifier.get_feature_names_out())
    assert np.array_equal(frame.to_numpy(), fitted_classifier.transform(X))
    if library == "pandas":
        assert frame.index.tolist() == index
    assert isinstance(classifier.predict(X), np.ndarray)


@pytest.mark.parametrize(
    "copy_of",
    [
        lambda c, path: pickle.loads(pickle.dumps(c)),
        lambda c, path: joblib.load(joblib.dump(c, path / "classifier.joblib")[0]),
        lambda c, path: copy.deepcopy(c),
    ],
    ids=["pickle", "joblib", "deepcopy"],
)
def test_copies_predict_bit_equally(copy_of, fitted_classifier, X, tmp_path):
    restored = copy_of(fitted_classifier, tmp_path)
    assert bit_equal(restored, fitted_classifier, X)
    assert restored.get_params() == fitted_classifier.get_params()
    assert restored.history_ == fitted_classifier.history_
    assert restored.classes_.tolist() == ["neg", "pos"]


def test_a_clone_has_the_parameters_and_nothing_else(fitted_classifier, X):
    copied = clone(fitted_classifier)
    assert copied.get_params() == fitted_classifier.get_params()
    assert vars(copied).keys() == copied.get_params().keys()
    assert not hasattr(copied, "classes_")
    with pytest.raises(NotFittedError):
        copied.predict(X)


def test_the_constructor_only_stores(tiny_model):
    path = Path(tiny_model)
    weights = {"a": object()}
    classifier = TransformerClassifier(path, class_weight=weights, max_epochs="lots")
    assert classifier.model is path
    assert classifier.class_weight is weights
    assert classifier.max_epochs == "lots"
    with pytest.raises(TypeError, match="positional"):
        TransformerClassifier(path, "main")


def test_a_path_will_do_for_a_model(tiny_classifier, tiny_model, X, y):
    a = clone(tiny_classifier).fit(X, y)
    b = clone(tiny_classifier).set_params(model=Path(tiny_model)).fit(X, y)
    assert bit_equal(a, b, X)


def test_the_history_is_a_record_an_epoch(tiny_classifier, X, y):
    tiny_classifier.set_params(max_epochs=4).fit(X, y)
    history = pd.DataFrame(tiny_classifier.history_)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert tiny_classifier.n_epochs_ == 4
    assert history["n_steps"].tolist() == [4, 4, 4, 4]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert (history["tokens_per_second"] > 0).all()
    assert {"learning_rate", "seconds"} <= set(history.columns)


def test_the_number_of_epochs_may_be_chosen_for_the_user(tiny_classifier, X, y):
    few = clone(tiny_classifier).set_params(max_epochs="auto").fit(X[:16], y[:16])
    more = clone(tiny_classifier).set_params(max_epochs="auto").fit(X * 4, y * 4)
    assert few.n_epochs_ == len(few.history_) > more.n_epochs_ >= 3
    steps = [sum(record["n_steps"] for record in c.history_) for c in (few, more)]
    assert 0 < steps[0] < steps[1]


@pytest.fixture(scope="module")
def mixed_texts():
    rng = random.Random(3)
    words = [*NEUTRAL, "good", "awful"]
    return [" ".join(rng.choices(words, k=rng.randint(0, 60))) for _ in range(200)]


@pytest.mark.parametrize("method", ["predict_proba", "transform"])
def test_a_texts_company_does_not_change_its_prediction(
    method, fitted_classifier, mixed_texts
):
    call = getattr(fitted_classifier, method)
    together = call(mixed_texts)
    assert together.dtype == (np.float64 if method == "predict_proba" else np.float32)
    order = np.random.default_rng(0).permutation(200)
    shuffled = call([mixed_texts[i] for i in order])
    np.testing.assert_array_equal(shuffled, together[order])  # to the bit
    for size in (1, 7, 64):
        parts = [call(mixed_texts[i : i + size]) for i in range(0, 200, size)]
        assert_close(np.concatenate(parts), together)


METHODS = ["predict", "predict_proba", "decision_function", "transform", "score"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [None, "bare", [None], 3, []])
def test_not_being_fitted_comes_first(method, bad, tiny_classifier):
    args = (bad, ["pos"]) if method == "score" else (bad,)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(tiny_classifier, method)(*args)
    with pytest.raises(NotFittedError):
        tiny_classifier.get_feature_names_out()
    assert not hasattr(tiny_classifier, "classes_")


# Inputs


def test_every_container_of_texts_gives_the_same_model(tiny_classifier, X, y):
    tiny_classifier.set_params(max_epochs=1)
    expected = clone(tiny_classifier).fit(X, y)
    shuffled = np.random.default_rng(0).permutation(64)
    for other in (
        tuple(X),
        np.array(X),
        np.array(X, dtype=object),
        np.array(X)[:, None],
        pd.Series(X, index=shuffled),
        pd.Series(X, dtype=object),
        pd.Series(X, dtype="string"),
        pd.Series(X, dtype="category"),
        pl.Series(X),
        pd.DataFrame({"text": X}),
        pl.DataFrame({"text": X}),
    ):
        fitted = clone(tiny_classifier).fit(other, y)
        assert bit_equal(fitted, expected, X), type(other)
        assert np.array_equal(expected.predict_proba(other), expected.predict_proba(X))


@pytest.fixture(scope="module")
def pairs():
    """Pairs of texts of which the second alone tells the label."""
    X, y = make_sentences(64)
    other, _ = make_sentences(64, seed=9)
    return list(zip(random.Random(1).sample(other, 64), X, strict=True)), y


def test_pairs_of_texts(pairs, tiny_classifier):
    X, y = pairs
    tiny_classifier.set_params(max_epochs=12, learning_rate=3e-3)
    expected = clone(tiny_classifier).fit(X, y)
    assert expected.score(X, y) > 0.8
    assert expected.n_features_in_ == 2
    assert not np.allclose(
        expected.predict_proba([(b, a) for a, b in X]), expected.predict_proba(X)
    )
    for other in (
        np.array(X),
        np.array(X, dtype=object),
        pd.DataFrame(X),
        pl.DataFrame(X, schema=["a", "b"], orient="row"),
    ):
        assert np.array_equal(expected.predict_proba(other), expected.predict_proba(X))
    assert bit_equal(clone(tiny_classifier).fit(pd.DataFrame(X), y), expected, X)


def test_a_frame_of_text_columns(pairs, tiny_classifier):
    X, y = pairs
    frame = pd.DataFrame(X, columns=["title", "body"]).assign(note="the music")
    tiny_classifier.fit(frame, y)
    assert tiny_classifier.n_features_in_ == 3
    assert tiny_classifier.feature_names_in_.tolist() == ["title", "body", "note"]
    tiny_classifier.fit([text for _, text in X], y)
    assert not hasattr(tiny_classifier, "n_features_in_")
    assert not hasattr(tiny_classifier, "feature_names_in_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["title"], "1 .*expecting 2"),
        (lambda f: f.assign(note=f["title"]), "note"),
        (lambda f: list(f["title"]), "1 .*expecting 2"),
        (lambda f: f[["body", "title"]], "order"),
        (lambda f: f.rename(columns={"body": "text"}), "names"),
    ],
)
def test_other_columns_than_in_fit(change, message, pairs, tiny_classifier):
    X, y = pairs
    frame = pd.DataFrame(X, columns=["title", "body"])
    tiny_classifier.set_params(max_epochs=0).fit(frame, y)
    for method in (tiny_classifier.predict, tiny_classifier.transform):
        with pytest.raises(ValueError, match=message):
            method(change(frame))
    assert np.array_equal(tiny_classifier.predict(X), tiny_classifier.predict(frame))


def test_pairs_for_a_classifier_of_texts(fitted_classifier, pairs):
    with pytest.raises(TextValueError, match=r"2 .*expecting 1"):
        fitted_classifier.predict(pairs[0])


# Long texts

LONG = " ".join(["the"] * 70)


def test_truncation_is_counted_and_warned_of_once(tiny_classifier, X, y):
    X = [*X[:-2], f"{X[-2]} {LONG}", f"{X[-1]} {LONG}"]
    with pytest.warns(TruncationWarning, match="2 of 64 texts") as caught:
        tiny_classifier.fit(X, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert tiny_classifier.n_truncated_ == 2
    tiny_classifier.predict(X)  # a warning would be an error here


def test_truncation_that_first_happens_in_predict(fitted_classifier, X):
    with pytest.warns(TruncationWarning, match="1 of 3 texts") as caught:
        predicted = fitted_classifier.predict_proba([*X[:2], f"{X[2]} {LONG}"])
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(TruncationWarning):
        cut = fitted_classifier.predict_proba([f"{X[2]} {LONG} awful awful"])
    assert_close(predicted[2], cut[0])


def test_windows_read_a_text_to_its_end(fitted_classifier, X):
    classifier = copy.copy(fitted_classifier).set_params(
        long_text="window", max_length=16
    )
    start = " ".join(["film", "the", "of", "story"] * 4)
    texts = [f"{start} good great lovely fine", f"{start} bad awful dull poor"]
    probabilities = classifier.predict_proba([*texts, *X])
    # Of two windows the second alone tells them apart.
    assert probabilities[0, 1] > probabilities[1, 1] + 0.2
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    expected = fitted_classifier.predict_proba(X)
    assert_close(probabilities[2:], expected)
    assert classifier.transform(texts).shape == (2, WIDTH)

    classifier.set_params(long_text="truncate")
    with pytest.warns(TruncationWarning):
        cut = classifier.predict_proba(texts)
    assert_close(cut[0], cut[1])


def test_a_long_text_gets_the_mean_of_its_windows(fitted_classifier):
    classifier = copy.copy(fitted_classifier).set_params(
        long_text="window", max_length=16
    )
    words = [*NEUTRAL[:16], "good", "bad", "great", "film"]
    whole = [" ".join(words)]
    windows = [" ".join(words[:14]), " ".join(words[6:])]  # the last ends with the text
    for method in (classifier.predict_proba, classifier.transform):
        expected = method(windows).mean(axis=0, keepdims=True)
        assert_close(method(whole), expected)


def test_windows_in_training(tiny_classifier, X, y):
    padded = [f"{LONG} {text}" for text in X]
    tiny_classifier.set_params(long_text="window", max_length=32, max_epochs=10)
    tiny_classifier.set_params(learning_rate=1e-2).fit(padded, y)
    assert tiny_classifier.n_truncated_ == 0
    assert tiny_classifier.score(padded, y) > 0.9


def test_a_long_text_may_be_an_error(tiny_classifier, X, y):
    tiny_classifier.set_params(long_text="error")
    with pytest.raises(TextValueError, match=r"X\[1\] has 72 tokens, more than.*=64"):
        tiny_classifier.fit([X[0], LONG, LONG], y[:3])
    tiny_classifier.fit(X, y)
    with pytest.raises(TextValueError, match=r"X\[3\] has 72 tokens"):
        tiny_classifier.predict([*X[:3], LONG])


@pytest.mark.parametrize("max_length", [1, 2, 65, 10_000])
def test_a_max_length_out_of_range(max_length, tiny_classifier, X, y):
    message = f"max_length={max_length} must be between 3 .* and 64"
    with pytest.raises(ValueError, match=message):
        tiny_classifier.set_params(max_length=max_length).fit(X, y)


# Early stopping, warm start, partial fit


class Snapshots:
    """A callback that keeps the probabilities of each epoch."""

    def __init__(self, X):
        self.X, self.probabilities = X, []

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "epoch":
            self.probabilities.append(fitted_estimator.predict_proba(self.X))


def test_early_stopping_keeps_the_best_epoch(tiny_classifier, X, y):
    tiny_classifier.set_params(
        early_stopping=True,
        validation_fraction=0.25,
        n_iter_no_change=3,
        max_epochs=60,
        learning_rate=0.03,
        head_learning_rate=0.03,
    )
    snapshots = Snapshots(X)
    tiny_classifier.set_callbacks(snapshots).fit(X, y)
    history = tiny_classifier.history_
    ranks = [(record["valid_score"], -record["valid_loss"]) for record in history]
    best = ranks.index(max(ranks))
    assert len(history) == best + 1 + 3  # else nothing is shown
    assert tiny_classifier.n_epochs_ == len(history)
    kept = tiny_classifier.predict_proba(X)
    # But for rounding: the training's attention is not the prediction's.
    assert_close(kept, snapshots.probabilities[best])
    assert not np.array_equal(kept, snapshots.probabilities[-1])


def test_early_stopping_holds_out_each_class_alike():
    targets = np.array([0] * 80 + [1] * 20)
    tokens = Ragged.from_rows([[5, 6]] * 100)
    special = SpecialTokens([1], [], [], has_types=False, pad_id=0, empty=[])
    encoding = encode([tokens], special, max_length=9, window=False)
    data = Data(encoding, targets, np.ones(100))
    train, valid = split(data, 0.2, np.random.default_rng(0))
    assert np.bincount(targets[valid]).tolist() == [16, 4]
    assert sorted([*train, *valid]) == list(range(100))


def test_early_stopping_needs_texts_to_train_on(tiny_classifier):
    with pytest.raises(ValueError, match="leaves none to train on"):
        tiny_classifier.set_params(early_stopping=True).fit(["good"], ["pos"])


def test_warm_start_goes_on(tiny_classifier, X, y):
    cold = clone(tiny_classifier).fit(X, y)
    before = cold.predict_proba(X)
    assert np.array_equal(cold.fit(X, y).predict_proba(X), before)  # starts anew

    warm = clone(tiny_classifier).set_params(warm_start=True).fit(X, y)
    assert bit_equal(warm, cold, X)
    warm.fit(X, y)
    assert warm.history_[0]["train_loss"] < cold.history_[0]["train_loss"]
    assert not bit_equal(warm, cold, X)


def test_warm_start_with_no_more_epochs_changes_nothing(tiny_classifier, X, y):
    warm = tiny_classifier.set_params(warm_start=True).fit(X, y)
    before = warm.predict_proba(X)
    assert np.array_equal(
        warm.set_params(max_epochs=0).fit(X, y).predict_proba(X), before
    )


def test_warm_start_with_other_labels(tiny_classifier, X, y):
    warm = tiny_classifier.set_params(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"y\[1\] is 'fair', which is not among"):
        warm.fit(X[:2], ["pos", "fair"])
    assert warm.fit(X[:2], ["pos", "pos"]).classes_.tolist() == ["neg", "pos"]


def test_partial_fit_learns_from_call_to_call(tiny_classifier, X, y):
    losses = []
    for _ in range(6):
        for start in (0, 32):
            part = slice(start, start + 32)
            tiny_classifier.partial_fit(X[part], y[part], classes=["neg", "pos"])
        losses.append(tiny_classifier.history_[0]["train_loss"])
    assert losses[-1] < losses[0] / 2
    assert tiny_classifier.n_epochs_ == 1
    assert tiny_classifier.score(X, y) > 0.9


def test_partial_fit_knows_classes_before_it_sees_them(tiny_classifier, X, y):
    negative = [text for text, label in zip(X, y, strict=True) if label == "neg"]
    tiny_classifier.partial_fit(negative, ["neg"] * 32, classes=["pos", "neg", "odd"])
    assert tiny_classifier.classes_.tolist() == ["neg", "odd", "pos"]
    assert tiny_classifier.predict_proba(X).shape == (64, 3)
    tiny_classifier.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y\[1\] is 'even', which is not among"):
        tiny_classifier.partial_fit(X[:2], ["pos", "even"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "classes must be passed on the first call"),
        (["neg"], r"y\[1\] is 'pos', which is not among"),
        ([1.5, 2.5], "continuous"),
        (["neg", None], "None"),
    ],
)
def test_partial_fit_checks_the_classes(classes, message, tiny_classifier, X, y):
    with pytest.raises(ValueError, match=message):
        tiny_classifier.partial_fit(X, y, classes=classes)
    assert not hasattr(tiny_classifier, "model_")


def test_partial_fit_cannot_balance_what_it_has_not_seen(tiny_classifier, X, y):
    tiny_classifier.set_params(class_weight="balanced")
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])


def test_partial_fit_refuses_what_differs_from_the_first_call(
    tiny_classifier, X, y, pairs
):
    tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])
    before = tiny_classifier.predict_proba(X)
    with pytest.raises(ValueError, match=r"'neg', 'odd'\] differ from .*'pos'"):
        tiny_classifier.partial_fit(X, y, classes=["neg", "odd"])
    with pytest.raises(ValueError, match="shape"):
        tiny_classifier.partial_fit(X, np.eye(64, dtype=int))
    with pytest.raises(ValueError, match=r"2 .*expecting 1"):
        tiny_classifier.partial_fit(*pairs)
    assert np.array_equal(tiny_classifier.predict_proba(X), before)


@pytest.mark.parametrize("classes", [None, [0, 1]])
def test_partial_fit_of_indicators(classes, tiny_classifier, X, y):
    Y = np.column_stack([np.array(y) == "pos", np.array(y) == "neg"]).astype(int)
    for _ in range(2):
        tiny_classifier.partial_fit(X, Y, classes=classes)
    assert tiny_classifier.predict(X).shape == (64, 2)
    with pytest.raises(ValueError, match="differ from"):
        tiny_classifier.partial_fit(X, Y, classes=[0, 1, 2])


def test_partial_fit_takes_new_rates(tiny_classifier, X, y):
    tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])
    tiny_classifier.set_params(learning_rate=1e-2, trainable=1).partial_fit(X, y)
    assert tiny_classifier.history_[0]["learning_rate"] == 1e-2


@pytest.mark.parametrize("n_classes", [2, 4])
def test_fit_forgets_partial_fit(n_classes, tiny_classifier, X, y):
    labels = [f"{label}{i % n_classes // 2}" for i, label in enumerate(y)]
    fresh = clone(tiny_classifier).fit(X, labels)
    tiny_classifier.partial_fit(X, y, classes=["neg", "pos"]).fit(X, labels)
    assert bit_equal(tiny_classifier, fresh, X)


def test_a_pickle_does_not_carry_the_state_of_the_optimizer(tiny_classifier, X, y):
    size = len(pickle.dumps(clone(tiny_classifier).fit(X, y)))
    tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])
    dumped = pickle.dumps(tiny_classifier)
    assert len(dumped) < 1.1 * size
    assert pickle.loads(dumped).partial_fit(X, y).score(X, y) > 0.8


# Heads


def hugging_face_outputs(directory, texts):
    """Return the logits that plain transformers computes, text by text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sktransformers.models.loading import quiet

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        rows = [model(**tokenizer(t, return_tensors="pt")).logits[0] for t in texts]
    return torch.stack(rows).double().numpy()


REVERSED = (["pos", "neg"], ["neg", "pos"], [1, 0])


@pytest.mark.parametrize(
    ("architecture", "names", "labels", "order"),
    [
        *((architecture, *REVERSED) for architecture in TOKENIZER_OF),
        ("bert", ["neg", "pos"], ["neg", "pos"], [0, 1]),
        ("bert", ["POSITIVE", "NEGATIVE"], ["negative", "positive"], [1, 0]),
        ("bert", ["LABEL_0", "LABEL_1"], [0, 1], [0, 1]),
        ("bert", ["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"], [0, 1]),
        ("bert", ["1", "0"], [0, 1], [1, 0]),
        ("bert", ["a", "A"], ["A", "a"], [1, 0]),
    ],
)
def test_a_trained_head_needs_no_training(
    architecture, names, labels, order, tiny_classifier, X, y, tmp_path
):
    directory = save_tiny_model(
        tmp_path, architecture, head=True, id2label=dict(enumerate(names))
    )
    tiny_classifier.set_params(model=directory, max_epochs=0)
    tiny_classifier.fit(X, [labels[label == "pos"] for label in y])
    logits = hugging_face_outputs(directory, X[:8])[:, order]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert_close(tiny_classifier.predict_proba(X[:8]), expected)
    assert tiny_classifier.n_epochs_ == 0
    assert tiny_classifier.history_ == []
    named = tiny_classifier.model_.model.config.id2label
    assert named == {i: str(c) for i, c in enumerate(tiny_classifier.classes_)}


@pytest.mark.parametrize(
    ("names", "labels", "error", "message"),
    [
        (
            ["neg", "pos", "odd"],
            ["neg", "pos"],
            HeadMismatchError,
            "has 3 labels.*y has 2",
        ),
        (
            ["neg", "odd"],
            ["neg", "pos"],
            ValueError,
            r"\['neg', 'odd'\], but y has \['neg",
        ),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], ValueError, "LABEL_0.*Rename"),
        (["LABEL_0", "LABEL_1"], [1, 2], ValueError, "number them from 0"),
        (["a", "b"], ["A", "a"], ValueError, "but y has"),
    ],
)
def test_a_trained_head_with_other_labels(
    names, labels, error, message, tiny_classifier, X, y, tmp_path
):
    directory = save_tiny_model(tmp_path, head=True, id2label=dict(enumerate(names)))
    tiny_classifier.set_params(model=directory, max_epochs=0)
    with pytest.raises(error, match=message):
        tiny_classifier.fit(X, [labels[label == "pos"] for label in y])


def test_without_a_trained_head_a_linear_model_is_fitted(tiny_classifier, X, y):
    tiny_classifier.set_params(max_epochs=0).fit(X, y)
    assert tiny_classifier.n_epochs_ == 0
    linear = LogisticRegression().fit(tiny_classifier.transform(X), y)
    texts, labels = make_sentences(200, seed=1)
    ours = tiny_classifier.predict(texts)
    theirs = linear.predict(tiny_classifier.transform(texts))
    assert np.mean(ours == labels) > 0.7
    assert np.mean(ours == labels) > np.mean(theirs == labels) - 0.02


@pytest.mark.parametrize("max_epochs", [0, 2, "auto"])
def test_a_frozen_encoder_stays_bit_equal(
    max_epochs, tiny_classifier, tiny_model, X, y
):
    from transformers import AutoModel

    tiny_classifier.set_params(trainable="head", max_epochs=max_epochs).fit(X, y)
    assert tiny_classifier.n_epochs_ == (0 if max_epochs == "auto" else max_epochs)
    fitted = weights_of(tiny_classifier.model_.encoder)
    for name, weight in weights_of(AutoModel.from_pretrained(tiny_model)).items():
        assert torch.equal(fitted[name], weight), name


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_the_top_layer_alone_trains(
    architecture, tiny_classifier, two_layer_models, X, y
):
    tiny_classifier.set_params(model=two_layer_models[architecture], trainable=1)
    start = weights_of(clone(tiny_classifier).set_params(max_epochs=0).fit(X, y).model_)
    after = weights_of(tiny_classifier.fit(X, y).model_)
    changed = {name for name in after if not torch.equal(after[name], start[name])}
    kept = set(after) - changed
    assert {"head.weight", "head.bias"} <= changed
    assert any(".1." in name for name in changed)
    assert not any(".0." in name or "embed" in name for name in changed)
    assert not any(".1." in name and "bias" not in name for name in kept)


# Reproducibility and hidden effects


@pytest.mark.parametrize("seed", [0, np.random.RandomState(5)], ids=["int", "instance"])
def test_a_random_state_makes_a_fit_repeatable(seed, tiny_classifier, X, y):
    a, b = (
        clone(tiny_classifier).set_params(random_state=copy.deepcopy(seed)).fit(X, y)
        for _ in range(2)
    )
    assert bit_equal(a, b, X)
    assert all(
        torch.equal(p, q)
        for p, q in zip(a.model_.parameters(), b.model_.parameters(), strict=True)
    )
    assert not bit_equal(
        a, clone(tiny_classifier).set_params(random_state=1).fit(X, y), X
    )


def global_state():
    from transformers.utils import logging

    return {
        "random": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state())),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "verbosity": (logging.get_verbosity(), logging.is_progress_bar_enabled()),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "directory": os.listdir(),
    }


@pytest.mark.parametrize("ending", ["success", "error"])
def test_no_global_state_changes(
    ending, tiny_classifier, tiny_model, X, y, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model_files = {f.name: f.stat().st_mtime_ns for f in Path(tiny_model).iterdir()}
    before = global_state()
    if ending == "success":
        tiny_classifier.set_params(early_stopping=True).fit(X, y).predict(X)
        tiny_classifier.partial_fit(X, y).transform(X)
    else:
        with pytest.raises(DivergenceError):
            tiny_classifier.set_params(learning_rate=1e30).fit(X, y)
    after = global_state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert model_files == {
        f.name: f.stat().st_mtime_ns for f in Path(tiny_model).iterdir()
    }
    assert capfd.readouterr() == ("", "")


def test_the_inputs_are_left_alone(tiny_classifier, X, y):
    frame = pd.DataFrame({"text": X})
    labels, weights = np.array(y), np.arange(64, dtype=float)
    copies = frame.copy(), labels.copy(), weights.copy()
    class_weight = {"pos": 2}
    tiny_classifier.set_params(class_weight=class_weight)
    tiny_classifier.fit(frame, labels, sample_weight=weights).predict(frame)
    pd.testing.assert_frame_equal(frame, copies[0])
    assert np.array_equal(labels, copies[1])
    assert np.array_equal(weights, copies[2])
    assert class_weight == {"pos": 2}


def test_a_fitted_classifier_keeps_no_gradients(fitted_classifier):
    assert all(p.grad is None for p in fitted_classifier.model_.parameters())
    assert not fitted_classifier.model_.training


# Failures


@pytest.fixture
def earlier(tiny_classifier, X, y):
    """Return a fitted classifier, a check that it is intact, and a fit that fails."""
    tiny_classifier.fit(X, y)
    state = dict(vars(tiny_classifier))
    probabilities = tiny_classifier.predict_proba(X)

    def is_intact():
        fitted = {k: v for k, v in vars(tiny_classifier).items() if k.endswith("_")}
        unchanged = all(state[name] is value for name, value in fitted.items())
        return unchanged and np.array_equal(
            tiny_classifier.predict_proba(X), probabilities
        )

    assert is_intact()
    return tiny_classifier, is_intact


@pytest.mark.parametrize("step", [1, 2, 9])
@pytest.mark.parametrize("params", [{"warm_start": True}, {"pooling": "head"}], ids=str)
def test_a_loss_that_becomes_nan(step, params, earlier, X, y, monkeypatch):
    classifier, is_intact = earlier
    calls = []
    true_loss = LabelTarget.loss

    def loss(self, outputs, targets):
        calls.append(1)
        return true_loss(self, outputs, targets) * (NAN if len(calls) == step else 1)

    monkeypatch.setattr(LabelTarget, "loss", loss)
    with pytest.raises(DivergenceError, match=r"became nan.*Lower learning_rate"):
        classifier.set_params(max_epochs=4, **params).fit(X, y)
    assert len(calls) == step
    assert is_intact()


@pytest.mark.parametrize("rate", [1e3, 1e30, 3e38])
@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("max_epochs", [1, 4])
def test_a_huge_learning_rate_never_looks_like_success(
    rate, batch_size, max_epochs, earlier, X, y
):
    classifier, is_intact = earlier
    classifier.set_params(
        learning_rate=rate,
        head_learning_rate=rate,
        batch_size=batch_size,
        max_epochs=max_epochs,
        warmup_ratio=0,
    )
    try:
        classifier.fit(X, y)
    except DivergenceError:
        assert is_intact()
    else:
        assert np.isfinite(classifier.predict_proba(X)).all()


class Interrupt:
    """A callback that raises at a given call."""

    def __init__(self, at, error):
        self.at, self.error, self.calls = at, error, 0

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context):
        self.calls += 1
        if self.calls == self.at:
            raise self.error

    on_fit_task_end = on_fit_task_begin


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupt_leaves_the_earlier_fit_intact(warm_start, earlier, X, y):
    classifier, is_intact = earlier
    classifier.set_params(max_epochs=2, warm_start=warm_start)
    n_calls = 2 * (1 + 2 + 8)  # the fit, its epochs and its steps begin and end
    for at in range(1, n_calls + 1, 2):
        classifier.set_callbacks(Interrupt(at, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(X, y)
        assert is_intact()
    last = Interrupt(n_calls + 1, KeyboardInterrupt())
    classifier.set_callbacks(last).fit(X, y)
    assert last.calls == n_calls


BAD_X = [
    ("a text", TextValueError, "single str"),
    (b"a text", TextValueError, "single bytes"),
    ([], TextValueError, "0 sample"),
    (["good", None], TextValueError, r"X\[1\].*None"),
    (["good", NAN], TextValueError, r"X\[1\].*nan"),
    (pd.Series(["good", pd.NA], dtype="string"), TextValueError, r"X\[1\].*NA"),
    (["good", b"bad"], TextValueError, r"X\[1\].*decode"),
    (["good", 3], TextValueError, r"X\[1\].*3"),
    ([1.5, 2.5], TextValueError, r"X\[0\]"),
    (np.zeros((2, 3)), TextValueError, "shape"),
    (np.array([["a", "b", "c"]]), TextValueError, "shape"),
    (sparse.eye_array(2), TextTypeError, "[Ss]parse"),
    ((text for text in ["good", "bad"]), TextTypeError, "list"),
    ({"good": "bad"}, TextTypeError, "dict"),
    (None, TextTypeError, "NoneType"),
    (7, TextTypeError, "int"),
    ([("good", "bad"), "dull"], TextValueError, r"X\[1\].*pair"),
    (pd.DataFrame({"a": ["good", None]}), TextValueError, r"X\[1\].*'a'"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_X)
def test_bad_texts(bad, error, message, fitted_classifier):
    classifier = copy.copy(fitted_classifier)
    model = classifier.model_
    with pytest.raises(error, match=message):
        classifier.fit(bad, ["neg", "pos"])
    if not hasattr(bad, "__next__"):
        for method in (classifier.predict, classifier.predict_proba):
            with pytest.raises(error, match=message):
                method(bad)
    assert classifier.model_ is model


@pytest.mark.parametrize(
    ("change", "params", "error", "message"),
    [
        ({"y": None}, {}, ValueError, "requires y to be passed"),
        ({"y": [1.5, 2.5] * 32}, {}, ValueError, "continuous"),
        ({"y": ["a", None] * 32}, {}, ValueError, r"y\[1\] is None"),
        ({"y": ["a"] * 63}, {}, ValueError, "inconsistent numbers of samples"),
        ({"sample_weight": [-1.0] * 64}, {}, ValueError, "[Nn]egative"),
        ({}, {"model": "./no/such/model"}, ModelNotFoundError, "no such directory"),
        ({}, {"model": "."}, ModelFormatError, "no config.json"),
        ({}, {"max_length": 2}, ValueError, "max_length"),
        ({}, {"device": "cuda:99"}, ValueError, "0 CUDA devices|no MPS|CUDA"),
        ({}, {"device": "toaster"}, ValueError, "device must be"),
        ({}, {"trainable": 3}, ValueError, "has 1 layers"),
        ({}, {"max_epochs": -1}, ValueError, "max_epochs"),
    ],
)
def test_bad_arguments_leave_the_earlier_fit_intact(
    change, params, error, message, earlier, X, y, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    classifier, is_intact = earlier
    original = classifier.get_params()
    with pytest.raises(error, match=message):
        classifier.set_params(**params).fit(**{"X": X, "y": y, **change})
    classifier.set_params(**original)
    assert is_intact()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model", [None, 3]),
        ("revision", [1]),
        ("max_length", [0, -1, 1.5, "long"]),
        ("long_text", ["cut", None]),
        ("max_epochs", [-1, 1.5, "many"]),
        ("batch_size", [0, 2.5, None]),
        ("gradient_accumulation_steps", [0, 1.5]),
        ("learning_rate", [0, -1, "fast", None]),
        ("head_learning_rate", [0, -1]),
        ("weight_decay", [-0.1]),
        ("warmup_ratio", [-0.1, 1.1]),
        ("lr_scheduler_type", ["sine"]),
        ("max_grad_norm", [0, -1]),
        ("pooling", ["max", None]),
        ("trainable", [0, "none", 1.5]),
        ("early_stopping", ["yes"]),
        ("validation_fraction", [0, 1, 2]),
        ("n_iter_no_change", [0]),
        ("class_weight", ["even", 2]),
        ("warm_start", ["yes"]),
        ("device", [0, None]),
        ("precision", ["int8", None]),
        ("inference_precision", ["auto"]),
        ("gradient_checkpointing", ["yes"]),
        ("compile", ["yes"]),
        ("random_state", ["lucky", -1]),
        ("verbose", [-1, "very"]),
    ],
)
def test_parameters_out_of_range(name, values, tiny_classifier, X, y):
    message = f"The '{name}' parameter of TransformerClassifier must be "
    for value in values:
        classifier = clone(tiny_classifier).set_params(**{name: value})
        for fit in (classifier.fit, classifier.partial_fit):
            with pytest.raises(InvalidParameterError, match=message):
                fit(X, y)


def test_every_parameter_has_a_constraint(tiny_classifier):
    constraints = TransformerClassifier._parameter_constraints
    assert constraints.keys() == tiny_classifier.get_params().keys()


# Machinery


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        *itertools.product(TOKENIZER_OF, ["auto", "head"]),
        *itertools.product(["bert"], ["cls", "last"]),
        ("gpt2", "mean"),
    ],
)
def test_every_architecture_learns(
    architecture, pooling, tiny_classifier, tiny_models, X, y
):
    tiny_classifier.set_params(model=tiny_models[architecture], pooling=pooling)
    tiny_classifier.set_params(max_epochs=10, learning_rate=5e-3).fit(X, y)
    assert tiny_classifier.score(X, y) > 0.85
    together = tiny_classifier.predict_proba(X)
    alone = np.concatenate([tiny_classifier.predict_proba([text]) for text in X[:8]])
    assert_close(alone, together[:8])
    assert tiny_classifier.transform(X[:2]).shape == (2, WIDTH)


@pytest.fixture(scope="module")
def exact_classifier(tmp_path_factory):
    """Return a classifier without dropout, in double precision."""
    directory = save_tiny_model(
        tmp_path_factory.mktemp("exact"),
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    return TransformerClassifier(
        directory,
        pooling="head",
        max_epochs=3,
        batch_size=16,
        learning_rate=3e-3,
        precision="float64",
        device="cpu",
        random_state=0,
    )


@pytest.mark.parametrize(
    "params",
    [
        {"gradient_accumulation_steps": 4},
        {"gradient_accumulation_steps": 3},  # parts of unequal size
        {"gradient_accumulation_steps": 100},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "trainable": 1},
        pytest.param(
            {"compile": True},
            marks=[
                pytest.mark.slow,
                pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
            ],
        ),
    ],
    ids=str,
)
def test_what_saves_memory_or_time_does_not_change_the_result(
    params, exact_classifier, X, y
):
    weights = np.linspace(0.5, 2, 64)
    plain = clone(exact_classifier)
    if "trainable" in params:
        plain.set_params(trainable=params["trainable"])
    plain.fit(X, y, sample_weight=weights)
    other = clone(exact_classifier).set_params(**params)
    other.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(
        other.predict_proba(X), plain.predict_proba(X), rtol=0, atol=1e-9
    )
    assert len(pickle.dumps(other)) < 1.1 * len(pickle.dumps(plain))


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_gradient_checkpointing(architecture, tiny_classifier, tiny_models, X, y):
    tiny_classifier.set_params(model=tiny_models[architecture])
    tiny_classifier.set_params(gradient_checkpointing=True).fit(X, y)
    assert tiny_classifier.score(X, y) > 0.7
    layers = tiny_classifier.model_.encoder.modules()
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in layers)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_precision(precision, tiny_classifier, X, y):
    tiny_classifier.set_params(precision=precision, max_epochs=8).fit(X, y)
    held = torch.float64 if precision == "float64" else torch.float32
    assert {p.dtype for p in tiny_classifier.model_.parameters()} == {held}
    assert tiny_classifier.score(X, y) > 0.85
    expected = np.float64 if precision == "float64" else np.float32
    assert tiny_classifier.transform(X).dtype == expected


def test_odd_texts(fitted_classifier):
    texts = ["", " ", "\0", "\ud800", "good 😀", "\u202eevil", "ً" * 5, "\n\n"]
    probabilities = fitted_classifier.predict_proba(texts)
    assert probabilities.shape == (8, 2)
    assert np.isfinite(probabilities).all()


def test_warm_start_of_a_head_alone_learns_the_new_labels(tiny_classifier, X, y):
    flipped = [{"neg": "pos", "pos": "neg"}[label] for label in y]
    tiny_classifier.set_params(
        trainable="head", warm_start=True, max_epochs="auto", head_learning_rate=0.3
    )
    assert tiny_classifier.fit(X, y).n_epochs_ == 0  # solved, not trained
    before = tiny_classifier.score(X, flipped)
    assert tiny_classifier.fit(X, flipped).n_epochs_ > 0
    assert tiny_classifier.score(X, flipped) > before


def test_a_head_alone_is_fitted_on_the_embeddings_of_prediction(
    tiny_classifier, X, y, monkeypatch
):
    seen = []
    start_head = _fitting.start_head

    def spy(head, features, targets, weights, loss, *, penalty):
        seen.append((features.clone(), weights.dtype))
        start_head(head, features, targets, weights, loss, penalty=penalty)

    monkeypatch.setattr(_fitting, "start_head", spy)
    tiny_classifier.set_params(max_epochs=0, precision="bfloat16").fit(X, y)
    features, weights_dtype = seen[0]
    assert_close(features, tiny_classifier.transform(X))
    assert weights_dtype == torch.float32  # an MPS device has no float64


def test_a_fit_that_is_short_of_memory_is_the_fit_asked_for(
    tmp_path, sentences, monkeypatch
):
    classifier = TransformerClassifier(
        save_tiny_model(tmp_path, attention_probs_dropout_prob=0.0),
        max_epochs=2,
        batch_size=16,
        precision="float64",
        device="cpu",
        random_state=0,
    )
    X, y = sentences
    monkeypatch.setattr(FastDropout, "forward", lambda self, x: x)
    expected = clone(classifier).fit(X, y)

    def limited(self, x):
        if self.training and len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x

    monkeypatch.setattr(FastDropout, "forward", limited)
    short = clone(classifier).fit(X, y)
    for fitted, n_parts in ((expected, 1), (short, 4)):
        parts = [record["gradient_accumulation_steps"] for record in fitted.history_]
        assert parts == [n_parts, n_parts]
    assert_close(short.predict_proba(X), expected.predict_proba(X), rtol=1e-6)
