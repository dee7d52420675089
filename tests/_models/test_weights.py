"""Pickles that leave out the weights that are found again."""

import copy
import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from tiny_models import save_tiny_model

from sktransformers import TransformerClassifier, TransformerTagger
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError


@pytest.fixture
def folder(tmp_path):
    """Return the directory of a model."""
    return save_tiny_model(tmp_path / "model")


@pytest.fixture
def small(folder):
    """Return an unfitted classifier whose pickle is to be small."""
    return TransformerClassifier(
        folder,
        trainable="head",
        max_epochs=1,
        device="cpu",
        random_state=0,
        store_backbone=False,
    )


def size_of_weights(estimator):
    return sum(p.nbytes for p in estimator.model_.parameters())


def size(estimator):
    """Return the bytes of a pickle, without the tokenizer's."""
    return len(pickle.dumps(estimator)) - len(pickle.dumps(estimator.tokenizer_))


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_a_pickle_without_what_is_found_again(trainable, pooling, small, sentences):
    X, y = sentences
    small.set_params(trainable=trainable, pooling=pooling).fit(X, y)
    read = pickle.loads(pickle.dumps(small))
    assert np.array_equal(read.predict_proba(X), small.predict_proba(X))
    assert np.array_equal(read.transform(X), small.transform(X))
    share = size(small) / size_of_weights(small)
    if trainable == "head":
        assert share < 0.3
    assert size(clone(small).set_params(store_backbone=True).fit(X, y)) > 0.95 * (
        size_of_weights(small)
    )
    if pooling == "head":
        assert read.model_.model.config.id2label == {0: "neg", 1: "pos"}


def test_all_weights_are_kept_by_default(small, sentences, folder):
    X, y = sentences
    small.set_params(store_backbone="auto").fit(X, y)
    expected = small.predict_proba(X)
    content = pickle.dumps(small)
    shutil.rmtree(folder)
    assert np.array_equal(pickle.loads(content).predict_proba(X), expected)


def test_a_tagger_and_an_adapter(folder, sentences):
    pytest.importorskip("peft")
    X = [text.split() for text in sentences[0]]
    y = [["A" if word < "g" else "B" for word in row] for row in X]
    tagger = TransformerTagger(
        folder, trainable="head", max_epochs=1, device="cpu", store_backbone=False
    ).fit(X, y)
    read = pickle.loads(pickle.dumps(tagger))
    assert list(read.predict(X)) == list(tagger.predict(X))
    assert size(tagger) < 0.3 * size_of_weights(tagger)
    adapted = TransformerClassifier(folder, lora_rank=2, max_epochs=1, device="cpu")
    adapted.fit(*sentences)
    small, large = (
        size(adapted.set_params(store_backbone=value)) for value in ("auto", True)
    )
    assert small < 0.5 * large
    assert large > 0.95 * size_of_weights(adapted)
    read = pickle.loads(pickle.dumps(adapted))
    assert np.array_equal(read.predict(sentences[0]), adapted.predict(sentences[0]))


def test_what_the_user_changed_is_kept(small, sentences):
    X, y = sentences
    small.fit(X, y)
    with torch.no_grad():
        next(small.model_.encoder.parameters()).mul_(2)
    read = pickle.loads(pickle.dumps(small))
    assert np.array_equal(read.predict_proba(X), small.predict_proba(X))


def test_weights_that_cannot_be_found_are_kept(small, sentences, folder):
    X, y = sentences
    small.fit(X, y)
    expected = small.predict_proba(X)
    shutil.rmtree(folder)
    assert size(small) > 0.95 * size_of_weights(small)
    assert np.array_equal(pickle.loads(pickle.dumps(small)).predict_proba(X), expected)


def test_a_model_that_changed_since_is_refused(small, sentences, folder, tmp_path):
    content = pickle.dumps(small.fit(*sentences))
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFoundError):
        pickle.loads(content)
    save_tiny_model(tmp_path / "model", initializer_range=0.1)
    with pytest.raises(ModelFormatError, match=r"changed since.*store_backbone=True"):
        pickle.loads(content)


def test_copies_and_pickles_leave_the_random_state_alone(small, sentences):
    X, y = sentences
    small.fit(X, y)
    state = torch.get_rng_state()
    read = pickle.loads(pickle.dumps(copy.deepcopy(small)))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(read.predict_proba(X), small.predict_proba(X))


def test_the_estimators_of_a_cross_validation_are_small(small, sentences):
    X, y = sentences
    found = cross_validate(small, X, y, cv=2, return_estimator=True)
    for estimator in found["estimator"]:
        assert size(estimator) < 0.3 * size_of_weights(estimator)
