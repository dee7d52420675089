"""Tests of TransformerClassifier: labels, predictions, inputs and long texts."""

import copy
import pickle
import random
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tiny_models import NEUTRAL, WIDTH, assert_close, bit_equal, make_sentences

from sktransformers import TransformerClassifier
from sktransformers.exceptions import TextValueError, TruncationWarning


@pytest.fixture(scope="module")
def X(sentences):  # noqa: N802
    return sentences[0]


@pytest.fixture(scope="module")
def y(sentences):
    return sentences[1]


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
        ("neg", "pos", lambda y: np.array(y, np.dtypes.StringDType()), "<U3"),
        (1, 2, lambda y: np.array(y, dtype=object), np.int64),
        (False, True, lambda y: pd.Series(y, dtype=object), np.bool_),
        (0, 2, lambda y: pd.Series(pd.arrays.SparseArray(y)), np.int64),
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


def test_pairs_of_texts(text_pairs, tiny_classifier):
    X, y = text_pairs
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


def test_a_frame_of_text_columns(text_pairs, tiny_classifier):
    X, y = text_pairs
    frame = pd.DataFrame(X, columns=["title", "body"]).assign(note="the music")
    tiny_classifier.fit(frame, y)
    assert tiny_classifier.n_features_in_ == 3
    assert tiny_classifier.feature_names_in_.tolist() == ["title", "body", "note"]
    tiny_classifier.fit([text for _, text in X], y)
    assert not hasattr(tiny_classifier, "n_features_in_")
    assert not hasattr(tiny_classifier, "feature_names_in_")


def test_duplicate_column_names_are_not_stored(tiny_classifier):
    # scikit-learn rejects them where it compares names.
    frame = pd.DataFrame([["good", "film"], ["bad", "plot"]] * 4, columns=["t", "t"])
    tiny_classifier.fit(frame, [0, 1] * 4)
    assert tiny_classifier.n_features_in_ == 2
    assert not hasattr(tiny_classifier, "feature_names_in_")
    assert len(tiny_classifier.predict(frame)) == 8


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
def test_other_columns_than_in_fit(change, message, text_pairs, tiny_classifier):
    X, y = text_pairs
    frame = pd.DataFrame(X, columns=["title", "body"])
    tiny_classifier.set_params(max_epochs=0).fit(frame, y)
    for method in (tiny_classifier.predict, tiny_classifier.transform):
        with pytest.raises(ValueError, match=message):
            method(change(frame))
    assert np.array_equal(tiny_classifier.predict(X), tiny_classifier.predict(frame))


def test_pairs_for_a_classifier_of_texts(fitted_classifier, text_pairs):
    with pytest.raises(TextValueError, match=r"2 .*expecting 1"):
        fitted_classifier.predict(text_pairs[0])


def test_odd_texts(fitted_classifier):
    texts = ["", " ", "\0", "\ud800", "good 😀", "\u202eevil", "ً" * 5, "\n\n"]
    probabilities = fitted_classifier.predict_proba(texts)
    assert probabilities.shape == (8, 2)
    assert np.isfinite(probabilities).all()


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


def test_a_warning_points_at_the_users_line_from_within_a_pipeline(
    tiny_classifier, X, y
):
    search = GridSearchCV(
        make_pipeline(tiny_classifier), {}, cv=2, error_score="raise", refit=False
    )
    with pytest.warns(TruncationWarning) as caught:
        search.fit([f"{text} {LONG}" for text in X], y)
    assert {warning.filename for warning in caught} == {__file__}


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
