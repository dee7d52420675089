"""Prediction in lower precision."""

import gc
import weakref

import numpy as np
import pytest
import torch
from sklearn.base import clone
from tiny_models import TOKENIZER_OF

from sktransformers import TransformerClassifier


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
@pytest.mark.parametrize("pooling", ["mean", "head"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_close(
    tiny_models, sentences, architecture, pooling, precision
):
    X, y = sentences
    classifier = TransformerClassifier(
        tiny_models[architecture], pooling=pooling, max_epochs=1, random_state=0
    ).fit(X, y)
    exact, vectors = classifier.predict_proba(X), classifier.transform(X)
    weights = [p.clone() for p in classifier.model_.parameters()]
    classifier.set_params(inference_precision=precision)
    fast = classifier.predict_proba(X)
    assert classifier.transform(X).dtype == np.float32
    assert not np.array_equal(fast, exact)
    np.testing.assert_allclose(fast, exact, rtol=0, atol=0.05)
    np.testing.assert_allclose(classifier.transform(X), vectors, atol=0.1)
    # The fitted weights are as they were, and so are exact predictions.
    for old, new in zip(weights, classifier.model_.parameters(), strict=True):
        assert torch.equal(old, new)
    classifier.set_params(inference_precision=None)
    assert np.array_equal(classifier.predict_proba(X), exact)


def test_lower_precision_follows_the_weights(tiny_classifier, sentences):
    X, y = sentences
    tiny_classifier.set_params(inference_precision="bfloat16", max_epochs=1).fit(X, y)
    before = tiny_classifier.predict_proba(X)
    with torch.no_grad():
        tiny_classifier.model_.head.bias += torch.tensor([5.0, -5.0])
    after = tiny_classifier.predict_proba(X)
    assert (after[:, 0] > before[:, 0]).all()
    again = clone(tiny_classifier).fit(X, y)
    assert np.array_equal(again.predict_proba(X), before)


def test_the_copy_in_lower_precision_is_freed_with_the_model(
    tiny_classifier, sentences
):
    X, y = sentences
    tiny_classifier.set_params(inference_precision="bfloat16", max_epochs=0).fit(X, y)
    tiny_classifier.predict(X)
    model = weakref.ref(tiny_classifier.model_)
    tiny_classifier.fit(X, y)
    gc.collect()
    assert model() is None
