"""LoRA: small adapters in place of the weights, in every estimator."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from saved_models import PARAMS as SAVED_PARAMS
from saved_models import save_writer
from sklearn.base import clone
from tiny_models import TOKENIZER_OF, assert_close, make_sentences, save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerTagger,
)
from sktransformers._models.lora import has_adapter
from sktransformers.exceptions import ModelFormatError

X, Y = make_sentences(64)
PARAMS = {
    "max_epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
    "lora_rank": 2,
}


@pytest.fixture(scope="module")
def fitted(tiny_model):
    """Return a classifier with an adapter; not to be changed."""
    return TransformerClassifier(tiny_model, **PARAMS).fit(X, Y)


def weights_of(model):
    """Return all weights, by names without what LoRA puts into them."""
    return {
        name.replace(".base_layer", ""): p.detach().clone()
        for name, p in model.named_parameters()
    }


def test_only_the_adapter_and_the_head_are_trained(fitted, tiny_model):
    start = TransformerClassifier(tiny_model, max_epochs=0, random_state=0).fit(X, Y)
    before, after = weights_of(start.model_), weights_of(fitted.model_)
    for name, weights in before.items():
        if name.startswith("encoder"):
            assert torch.equal(weights, after[name]), name
    trained = {name for name, p in fitted.model_.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("head") for name in trained)
    assert any(after[name].abs().sum() > 0 for name in trained if "lora_B" in name)
    assert fitted.score(X, Y) > 0.8
    assert np.abs(fitted.predict_proba(X) - start.predict_proba(X)).max() > 0.01


def test_a_pickle_holds_the_adapter_alone_and_predicts_the_same(fitted):
    pickled = pickle.dumps(fitted)
    plain = copy.deepcopy(fitted)
    expected = fitted.predict_proba(X)
    assert np.array_equal(pickle.loads(pickled).predict_proba(X), expected)
    plain.merge_adapter()
    n_weights = sum(p.numel() for p in plain.model_.encoder.parameters())
    assert len(pickled) < len(pickle.dumps(plain)) - 3 * n_weights


def test_a_pickle_refuses_a_base_that_has_changed(tmp_path):
    directory = save_tiny_model(tmp_path / "model")
    pickled = pickle.dumps(TransformerClassifier(directory, **PARAMS).fit(X, Y))
    save_tiny_model(tmp_path / "model", initializer_range=0.03)
    with pytest.raises(ModelFormatError, match="has changed since"):
        pickle.loads(pickled)


def test_merging_changes_no_prediction_and_leaves_a_plain_model(fitted):
    merged = copy.deepcopy(fitted).merge_adapter()
    assert_close(merged.predict_proba(X), fitted.predict_proba(X))
    assert not has_adapter(merged.model_)
    reloaded = pickle.loads(pickle.dumps(merged))
    assert np.array_equal(reloaded.predict_proba(X), merged.predict_proba(X))
    with pytest.raises(ValueError, match="no adapter to merge"):
        merged.merge_adapter()


def test_warm_start_goes_on_with_the_adapter(fitted):
    warm = copy.deepcopy(fitted).set_params(warm_start=True, max_epochs=1)
    before = weights_of(warm.model_)
    warm.fit(X, Y)
    after = weights_of(warm.model_)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name or name.startswith("head") for name in changed)


def test_a_fit_is_repeatable(fitted):
    again = clone(fitted).fit(X, Y)
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_layers_can_be_chosen(tiny_model):
    classifier = TransformerClassifier(
        tiny_model, **PARAMS, lora_target_modules=("query", "value"), lora_alpha=1.0
    ).fit(X, Y)
    adapted = {
        name.split(".lora_")[0].rsplit(".", 1)[1]
        for name, _ in classifier.model_.named_parameters()
        if "lora_" in name
    }
    assert adapted == {"query", "value"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lora_target_modules": ["no_such_layer"]}, "matches no linear layer"),
        ({"trainable": "head"}, "both select the weights"),
        ({"lora_rank": 0}, "lora_rank"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
    ],
)
def test_bad_settings(params, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        TransformerClassifier(tiny_model, **(PARAMS | params)).fit(X, Y)


def test_a_missing_package_is_named(monkeypatch, tiny_model):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'sktransformers-text\[lora\]'"):
        TransformerClassifier(tiny_model, **PARAMS).fit(X, Y)


def test_a_tagger_has_adapters_too(tiny_model):
    words = [text.split() for text in X]
    tags = [["GOOD" if w in ("good", "great") else "X" for w in row] for row in words]
    tagger = TransformerTagger(tiny_model, **PARAMS).fit(words, tags)
    assert has_adapter(tagger.model_)
    again = pickle.loads(pickle.dumps(tagger))
    assert again.predict(words) == tagger.predict(words)


# Merging


@pytest.mark.parametrize("architecture", [*TOKENIZER_OF, "head"])
def test_every_architecture_predicts_the_same_when_merged(
    architecture, tiny_models, tmp_path
):
    model, params = tiny_models.get(architecture), {"pooling": "mean"}
    if architecture == "head":
        model, params = tiny_models["gpt2"], {"pooling": "head"}
    classifier = TransformerClassifier(model, **(PARAMS | params)).fit(X, Y)
    expected = classifier.predict_proba(X)
    classifier.merge_adapter()
    assert_close(classifier.predict_proba(X), expected)
    classifier.set_params(warm_start=True).fit(X, Y)  # with a new adapter
    assert has_adapter(classifier.model_)


TIED = [
    ("gpt2", ["wte"]),
    ("gpt2", ["wte", "c_attn"]),
    ("llama", ["embed_tokens"]),
    ("bloom", ["word_embeddings"]),
    ("bart", ["embed_tokens"]),
    ("t5", ["shared", "embed_tokens"]),
    ("t5", ["lm_head"]),
    ("t5", None),
]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize(("kind", "targets"), TIED)
def test_merged_embeddings_leave_the_output_layer_as_it_was(kind, targets, tmp_path):
    generator = TransformerGenerator(
        save_writer(tmp_path / "model", kind),
        **SAVED_PARAMS | {"learning_rate": 5e-2, "max_epochs": 2},
        max_new_tokens=4,
        lora_rank=4,
        lora_target_modules=targets,
    ).fit(X, Y)
    expected, texts = generator.perplexity(X, Y), generator.predict(X)

    def check(estimator):
        assert_close(np.log(estimator.perplexity(X, Y)), np.log(expected))
        assert estimator.predict(X).tolist() == texts.tolist()

    generator.merge_adapter()
    check(generator)
    generator.save_pretrained(tmp_path / "saved")
    check(TransformerGenerator.from_pretrained(tmp_path / "saved"))
    check(copy.deepcopy(generator))
    check(pickle.loads(pickle.dumps(generator.set_params(store_backbone=False))))


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_a_layer_that_the_model_does_not_call_is_refused(kind, tmp_path):
    model = save_writer(tmp_path, kind)
    params = SAVED_PARAMS | {"lora_rank": 2, "lora_target_modules": ["shared"]}
    generator = TransformerGenerator(model, **SAVED_PARAMS, max_new_tokens=2).fit(X, Y)
    expected = generator.predict(X)
    with pytest.raises(ValueError, match=r"'model.*shared'.*does not call"):
        generator.set_params(**params).fit(X, Y)
    assert generator.predict(X).tolist() == expected.tolist()
