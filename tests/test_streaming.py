"""Prediction, part after part, takes the memory of one part and no needless time."""

import gc
import tracemalloc

import pytest
import torch
from conftest import make_sentences

PARTS = [make_sentences(n, seed=n)[0] for n in (200, 35, 450, 1, 165, 320)]


def count_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_predicting_part_after_part_keeps_nothing(fitted_classifier):
    def predict_all():
        for part in PARTS:
            fitted_classifier.predict(part)
            fitted_classifier.predict_proba(part)
            fitted_classifier.transform(part)

    predict_all()
    n_tensors = count_tensors()
    tracemalloc.start()
    try:
        predict_all()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            predict_all()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # the ids of the five rounds take 700,000
    assert count_tensors() == n_tensors


def test_a_prediction_neither_moves_the_model_nor_studies_the_tokenizer(
    fitted_classifier, monkeypatch
):
    fitted_classifier.predict(["a film"])

    def refuse(*args, **kwargs):
        pytest.fail("takes the time of a small model's forward pass")

    monkeypatch.setattr(type(fitted_classifier.model_), "to", refuse)
    monkeypatch.setattr(type(fitted_classifier.tokenizer_), "__call__", refuse)
    fitted_classifier.predict(["a film"])
