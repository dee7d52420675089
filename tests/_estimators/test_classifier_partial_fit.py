"""Tests of warm_start and partial_fit of TransformerClassifier."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from tiny_models import assert_close, bit_equal

from sktransformers._hardware import training


@pytest.fixture(scope="module")
def X(sentences):  # noqa: N802
    return sentences[0]


@pytest.fixture(scope="module")
def y(sentences):
    return sentences[1]


# Warm start


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


def test_warm_start_of_a_head_alone_learns_the_new_labels(tiny_classifier, X, y):
    flipped = [{"neg": "pos", "pos": "neg"}[label] for label in y]
    tiny_classifier.set_params(
        trainable="head", warm_start=True, max_epochs="auto", head_learning_rate=0.3
    )
    assert tiny_classifier.fit(X, y).n_epochs_ == 0  # solved, not trained
    before = tiny_classifier.score(X, flipped)
    assert tiny_classifier.fit(X, flipped).n_epochs_ > 0
    assert tiny_classifier.score(X, flipped) > before


# Partial fit


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
    tiny_classifier, X, y, text_pairs
):
    tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])
    before = tiny_classifier.predict_proba(X)
    with pytest.raises(ValueError, match=r"'neg', 'odd'\] differ from .*'pos'"):
        tiny_classifier.partial_fit(X, y, classes=["neg", "odd"])
    with pytest.raises(ValueError, match="shape"):
        tiny_classifier.partial_fit(X, np.eye(64, dtype=int))
    with pytest.raises(ValueError, match=r"2 .*expecting 1"):
        tiny_classifier.partial_fit(*text_pairs)
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


def test_partial_fit_trains_the_embeddings_of_the_words_it_sees(tiny_classifier, X, y):
    def embeddings_of(words):
        ids = tiny_classifier.tokenizer_.convert_tokens_to_ids(words)
        module = tiny_classifier.model_.module
        return module.get_input_embeddings().weight.detach()[ids].clone()

    first, second = ["good film", "bad film"] * 8, ["great plot", "dull plot"] * 8
    labels = [y[0], next(label for label in y if label != y[0])] * 8
    tiny_classifier.set_params(weight_decay=0.5)
    tiny_classifier.partial_fit(first, labels, classes=sorted(set(y)))
    seen, other = embeddings_of(["good", "bad"]), embeddings_of(["music", "scene"])
    unseen = embeddings_of(["great", "plot"])
    tiny_classifier.partial_fit(second, labels)
    assert np.array_equal(embeddings_of(["good", "bad"]), seen)
    assert np.array_equal(embeddings_of(["music", "scene"]), other)
    assert not np.isclose(embeddings_of(["great", "plot"]), unseen).all(axis=1).any()
    # AdamW goes on with the moments that it had for a word.
    state = tiny_classifier._optimizer_state
    table = tiny_classifier.model_.module.get_input_embeddings().weight
    (moments,) = [s for s in state.values() if s["exp_avg"].shape == table.shape]
    rows = moments["exp_avg"].abs().sum(dim=1).gt(0)
    ids = tiny_classifier.tokenizer_(["good bad film great dull plot"])["input_ids"][0]
    assert set(rows.nonzero()[:, 0].tolist()) <= {*ids}
    assert rows[ids[1:-1]].all()


def test_partial_fit_of_all_words_is_as_training_all_embeddings(
    tiny_classifier, X, y, monkeypatch
):
    tiny_classifier.set_params(weight_decay=0.0)
    other = clone(tiny_classifier)
    for _ in range(2):
        tiny_classifier.partial_fit(X, y, classes=sorted(set(y)))
    monkeypatch.setattr(training, "compact_vocabulary", lambda *args: None)
    for _ in range(2):
        other.partial_fit(X, y, classes=sorted(set(y)))
    assert_close(tiny_classifier.predict_proba(X), other.predict_proba(X), rtol=1e-4)
