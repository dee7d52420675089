"""Tests that a copy predicts what the original does, whatever was set after fit."""

import copy
import pickle

import numpy as np
import pytest
from saved_models import MAKERS, TAGS, WORDS, X, predictions, read_again
from sklearn.base import clone
from tiny_models import save_tiny_model

from sktransformers import TransformerTagger
from sktransformers.exceptions import ModelFormatError

# Values that differ from those of the fits. The first group acts in fit alone; how
# texts are cut and generated may be changed after fit.
IN_FIT = {
    "batch_size": 3,
    "checkpoint_dir": "elsewhere",
    "class_weight": "balanced",
    "compile": True,
    "early_stopping": True,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "head_learning_rate": 0.5,
    "learning_rate": 0.5,
    "lora_alpha": 99.0,
    "lora_dropout": 0.5,
    "lora_rank": 7,
    "lora_target_modules": ["nothing"],
    "lr_scheduler_type": "cosine",
    "max_epochs": 9,
    "max_grad_norm": None,
    "model": "elsewhere",
    "n_iter_no_change": 9,
    "pooling": "cls",
    "precision": "float64",
    "prompt_template": "{text}?",
    "random_state": 3,
    "revision": "elsewhere",
    "scheme": "IO",
    "source_prefix": "elsewhere",
    "store_backbone": False,
    "system_prompt": "elsewhere",
    "source_lang": "de",
    "target_lang": "en",
    "trainable": 1,
    "trust_remote_code": True,
    "use_chat_template": True,
    "validation_fraction": 0.5,
    "verbose": 1,
    "warm_start": True,
    "warmup_ratio": 0.5,
    "weight_decay": 0.5,
}
IN_PREDICTION = {
    "decode": "greedy",
    "device": "auto",
    "do_sample": True,
    "inference_precision": "bfloat16",
    "long_text": "error",
    "max_length": 64,
    "max_new_tokens": 2,
    "memory": "elsewhere",
    "min_p": 0.1,
    "no_repeat_ngram_size": 2,
    "num_beams": 2,
    "repetition_penalty": 1.5,
    "stop_strings": ["film"],
    "temperature": 2.0,
    "top_k": 3,
    "top_p": 0.9,
    "word_pattern": r"\S+",
}
KINDS = {
    **{kind: MAKERS[kind] for kind in MAKERS if kind.startswith("adapter")},
    "adapter-tagger": lambda folder: TransformerTagger(
        save_tiny_model(folder), lora_rank=2, max_epochs=1, device="cpu"
    ).fit(WORDS, TAGS),
    **{kind: MAKERS[kind] for kind in ("pooled", "head", "numbers", "numbers-head")},
    **{kind: MAKERS[kind] for kind in ("tagger", "tagger-head", "writer")},
}


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, tmp_path_factory):
    """Return an estimator whose pickles leave out the weights of the checkpoint."""
    estimator = KINDS[request.param](tmp_path_factory.mktemp("base"))
    return estimator.set_params(store_backbone=False), predictions(estimator)


def changed(estimator, values):
    """Return the estimator with other parameters, of those that it has."""
    known = estimator.get_params()
    values = {k: v for k, v in values.items() if k in known and k != "store_backbone"}
    other = clone(estimator)
    vars(other).update(vars(estimator))
    return other.set_params(**values)


def assert_copies_predict(estimator, expected, folder):
    for copied in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert np.array_equal(predictions(copied), expected)
        assert copied.get_params() == estimator.get_params()
    estimator.save_pretrained(folder)
    assert np.array_equal(predictions(read_again(estimator, folder)), expected)


def test_parameters_of_fit_change_no_prediction(fitted, tmp_path):
    estimator, expected = fitted
    other = changed(estimator, IN_FIT)
    assert np.array_equal(predictions(other), expected)
    assert_copies_predict(other, expected, tmp_path / "saved")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*IN_FIT, *IN_PREDICTION])
def test_each_parameter(name, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimator, expected = fitted
    if name not in estimator.get_params():
        pytest.skip("another estimator's")
    other = changed(estimator, {name: (IN_FIT | IN_PREDICTION)[name]})
    if name in IN_PREDICTION:
        expected = predictions(other)
    assert np.array_equal(predictions(other), expected)
    assert_copies_predict(other, expected, tmp_path / "saved")


def test_every_parameter_is_tried(fitted):
    assert fitted[0].get_params().keys() <= {*IN_FIT, *IN_PREDICTION}


def test_a_warm_start_keeps_the_adapter_that_it_continues(tmp_path):
    pytest.importorskip("peft")
    estimator = MAKERS["adapter"](tmp_path / "base")
    estimator.set_params(warm_start=True, lora_rank=5, lora_alpha=1.0)
    again = pickle.loads(pickle.dumps(estimator.fit(X, ["pos", "neg"] * 12)))
    assert np.array_equal(predictions(again), predictions(estimator))


def test_an_adapter_on_trained_weights_is_pickled_with_them(tmp_path):
    pytest.importorskip("peft")
    estimator = MAKERS["pooled"](tmp_path / "base")
    estimator.set_params(warm_start=True, lora_rank=2, early_stopping=False)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(estimator.fit(X, ["pos", "neg"] * 12)))
        assert np.array_equal(predictions(again), predictions(estimator))
    with pytest.raises(ModelFormatError, match="merge_adapter"):
        estimator.save_pretrained(tmp_path / "saved")
    estimator.merge_adapter().save_pretrained(tmp_path / "saved")
    again = read_again(estimator, tmp_path / "saved")
    assert np.array_equal(predictions(again), predictions(estimator))
