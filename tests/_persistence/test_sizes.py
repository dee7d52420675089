"""Tests that estimators of unusual sizes and labels are read as they were saved."""

import numpy as np
import pytest
from saved_models import PARAMS, WORDS, X, is_same, read_again, save_head
from tiny_models import save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerRegressor,
    TransformerTagger,
)

ONE_CLASS = {
    "str": "only",
    "empty": "",
    "int": -3,
    "bool": True,
    "float": 2.0,
    "uint8": np.uint8(255),
    "float32": np.float32(3),
}
MODELS = {
    "new head": {"pooling": "mean"},
    "own head": {"pooling": "head"},
    "adapter": {"pooling": "head", "lora_rank": 2},
}


def assert_saved(estimator, folder):
    estimator.save_pretrained(folder)
    again = read_again(estimator, folder)
    assert is_same(again, estimator)
    return again


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("label", ONE_CLASS.values(), ids=ONE_CLASS)
def test_one_class(label, options, tiny_model, tmp_path):
    if "lora_rank" in options:
        pytest.importorskip("peft")
    y = np.array([label] * len(X))
    classifier = TransformerClassifier(tiny_model, **PARAMS, **options).fit(X, y)
    again = assert_saved(classifier, tmp_path / "saved")
    assert again.classes_.dtype == y.dtype
    assert again.predict(X).tolist() == y.tolist()
    assert (again.predict_proba(X) == 1).all()


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 2)], ids=str)
def test_numbers(shape, options, tiny_model, tmp_path):
    if "lora_rank" in options:
        pytest.importorskip("peft")
    y = np.arange(48.0)[: 24 * abs(shape[-1])].reshape(shape)
    regressor = TransformerRegressor(tiny_model, **PARAMS, **options).fit(X, y)
    again = assert_saved(regressor, tmp_path / "saved")
    assert again.predict(X).shape == y.shape


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_units_of_a_trained_head(architecture, options, tmp_path):
    model = save_tiny_model(tmp_path / "model", architecture, head=True, num_labels=1)
    regressor = TransformerRegressor(model, **PARAMS, **options).fit(X, np.arange(24.0))
    assert_saved(regressor, tmp_path / "saved")


def test_one_tag(tmp_path):
    tags = [["O"] * len(words) for words in WORDS]
    model = save_head(tmp_path / "model", "TokenClassification", ["O"])
    for name, folder in (
        ("new head", save_tiny_model(tmp_path / "plain")),
        ("own head", model),
    ):
        tagger = TransformerTagger(folder, **PARAMS).fit(WORDS, tags)
        again = assert_saved(tagger, tmp_path / name)
        assert again.predict(WORDS) == tags


def test_one_label_of_a_multilabel_head(tmp_path):
    model = save_head(
        tmp_path / "model",
        "SequenceClassification",
        ["spam"],
        problem_type="multi_label_classification",
    )
    classifier = TransformerClassifier.from_pretrained(model)
    again = assert_saved(classifier, tmp_path / "saved")
    assert again.predict(X).shape == (len(X), 1)
