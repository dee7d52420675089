"""A fit inside of code that has switched gradients off."""

import contextlib
import copy
import pickle

import numpy as np
import pytest
import torch
from saved_models import NUMBERS, PARAMS, TAGS, WORDS, X, Y, save_head, save_writer
from tiny_models import save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)


@contextlib.contextmanager
def _gradients_off_in_the_process():
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled": _gradients_off_in_the_process,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "params", [{}, {"trainable": 1, "max_epochs": 2}, {"lora_rank": 2}], ids=str
)
def test_a_fit_is_the_same_where_gradients_are_off(mode, params, folder):
    params = PARAMS | params
    expected = TransformerClassifier(folder, **params).fit(X, Y)
    with MODES[mode]():
        classifier = TransformerClassifier(folder, **params).fit(X, Y)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode == "inference_mode")
        probabilities = classifier.predict_proba(X)
    assert np.array_equal(probabilities, expected.predict_proba(X))
    assert classifier.history_[0]["train_loss"] == expected.history_[0]["train_loss"]


def test_every_estimator_trains_where_gradients_are_off(folder, tmp_path):
    with torch.inference_mode():
        TransformerTagger(folder, **PARAMS).fit(WORDS, TAGS).predict(WORDS)
        TransformerRegressor(folder, **PARAMS).fit(X, NUMBERS).predict(X)
        TransformerClassifier(folder, **PARAMS).partial_fit(
            X, Y, classes=["neg", "pos"]
        )
        writer = save_writer(tmp_path, "gpt2")
        TransformerGenerator(writer, **PARAMS, max_new_tokens=2).fit(X, Y).predict(X)


@pytest.mark.parametrize("made", ["fit", "saved", "read", "pickle", "copy", "merged"])
@pytest.mark.parametrize("params", [{}, {"lora_rank": 2}], ids=str)
def test_what_was_made_in_inference_mode_can_be_trained(made, params, folder, tmp_path):
    params = PARAMS | params | {"warm_start": True}
    with torch.inference_mode():
        classifier = TransformerClassifier(folder, **params).fit(X, Y)
        if made == "saved":
            classifier.save_pretrained(tmp_path / "saved")
            classifier = TransformerClassifier.from_pretrained(tmp_path / "saved")
        if made == "read":
            head = save_head(
                tmp_path / "head", "SequenceClassification", ["neg", "pos"]
            )
            classifier = TransformerClassifier.from_pretrained(head).set_params(
                **params
            )
        if made == "pickle":
            classifier = pickle.loads(pickle.dumps(classifier))
        if made == "copy":
            classifier = copy.deepcopy(classifier)
        if made == "merged" and "lora_rank" in params:
            classifier.merge_adapter()
        classifier.predict(X)
    if made in ("read", "merged"):
        classifier.set_params(lora_rank=None)
    before = classifier.predict_proba(X)
    assert not any(p.is_inference() for p in classifier.model_.parameters())
    assert not any(b.is_inference() for b in classifier.model_.buffers())
    after = classifier.fit(X, Y).predict_proba(X)
    assert not np.array_equal(before, after)
