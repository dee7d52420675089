"""Tests of TransformerClassifier.fit: weights, early stopping, heads and precision."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from tiny_models import (
    TOKENIZER_OF,
    WIDTH,
    assert_close,
    bit_equal,
    make_sentences,
    save_tiny_model,
)

from sktransformers import TransformerClassifier
from sktransformers._hardware.dropout import FastDropout
from sktransformers._text.dataset import EncodedDataset, split
from sktransformers._text.encoding import encode
from sktransformers._text.ragged import Ragged
from sktransformers._text.tokenization import SpecialTokens
from sktransformers._training import fit as _fitting
from sktransformers.exceptions import HeadMismatchError


@pytest.fixture(scope="module")
def X(sentences):  # noqa: N802
    return sentences[0]


@pytest.fixture(scope="module")
def y(sentences):
    return sentences[1]


NAN = float("nan")


def weights_of(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


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


# Early stopping


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
    special = SpecialTokens([1], [], [], 0, [], [0, 0], [0, 0, 0])
    encoding = encode([tokens], special, max_length=9, window=False)
    data = EncodedDataset(encoding, targets, np.ones(100))
    train, valid = split(data, 0.2, np.random.default_rng(0))
    assert np.bincount(targets[valid]).tolist() == [16, 4]
    assert sorted([*train, *valid]) == list(range(100))


def test_early_stopping_needs_texts_to_train_on(tiny_classifier):
    with pytest.raises(ValueError, match="leaves none to train on"):
        tiny_classifier.set_params(early_stopping=True).fit(["good"], ["pos"])


# Heads


def hugging_face_outputs(directory, texts):
    """Return the logits that plain transformers computes, text by text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sktransformers._models.loading import quiet

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


def test_a_head_alone_is_fitted_on_the_embeddings_of_prediction(
    tiny_classifier, X, y, monkeypatch
):
    seen = []
    init_head = _fitting.init_head

    def spy(head, features, targets, weights, loss, *, penalty):
        seen.append((features.clone(), weights.dtype))
        init_head(head, features, targets, weights, loss, penalty=penalty)

    monkeypatch.setattr(_fitting, "init_head", spy)
    tiny_classifier.set_params(max_epochs=0, precision="bfloat16").fit(X, y)
    features, weights_dtype = seen[0]
    assert_close(features, tiny_classifier.transform(X))
    assert weights_dtype == torch.float32  # an MPS device has no float64


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


# Architectures, memory and precision


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
