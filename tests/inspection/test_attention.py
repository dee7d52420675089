"""Attention weights are those of transformers, labelled with tokens."""

import matplotlib
import numpy as np
import pytest
import torch
import transformers
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from tiny_generators import make_generator, save_writer
from tiny_taggers import make_tagged, make_tagger

from sktransformers import TransformerClassifier
from sktransformers.inspection import AttentionDisplay, AttentionMaps, attention_maps

matplotlib.use("Agg")


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "modernbert"])
def test_self_attention_is_that_of_transformers(architecture, tiny_models, sentences):
    X, y = sentences
    path = tiny_models[architecture]
    classifier = TransformerClassifier(path, max_epochs=0, device="cpu").fit(X, y)
    before = classifier.predict_proba(X)
    maps = attention_maps(classifier, X[0])
    tokenizer = classifier.tokenizer_
    ids = tokenizer(X[0], return_tensors="pt")
    assert maps.tokens == tokenizer.convert_ids_to_tokens(ids["input_ids"][0].tolist())
    model = transformers.AutoModel.from_pretrained(path, attn_implementation="eager")
    with torch.no_grad():
        expected = model.eval()(**ids, output_attentions=True).attentions
    expected = torch.cat(expected).numpy()
    np.testing.assert_allclose(maps.self_attention, expected, atol=1e-5)
    np.testing.assert_allclose(maps.rollout().sum(axis=1), 1.0, atol=1e-5)
    assert maps.cross_attention is None
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_taggers_and_pairs(tiny_model, sentences):
    X, y = make_tagged(16)
    tagger = make_tagger(tiny_model, max_epochs=0).fit(X, y)
    maps = attention_maps(tagger, ["good", "film"])
    assert maps.tokens == ["[CLS]", "good", "film", "[SEP]"]
    texts, labels = sentences
    pairs = list(zip(texts, texts[::-1], strict=True))
    classifier = TransformerClassifier(tiny_model, max_epochs=0).fit(pairs, labels)
    assert attention_maps(classifier, ("good", "bad")).tokens[2:4] == ["[SEP]", "bad"]


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_generators(family, tmp_path):
    path = save_writer(tmp_path, family)
    generator = make_generator(path, max_epochs=0).fit(["good film"], ["film"])
    maps = attention_maps(generator, "good film", "film good")
    n = maps.self_attention.shape[-1]
    assert n == len(maps.tokens)
    if family == "gpt2":
        assert maps.cross_attention is None
        assert not np.triu(maps.self_attention, k=1).any()  # causal
        return
    m = len(maps.output_tokens)
    assert maps.cross_attention.shape[2:] == (m, n)
    assert maps.output_attention.shape[2:] == (m, m)
    np.testing.assert_allclose(maps.cross_attention.sum(axis=-1), 1.0, atol=1e-5)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        path, attn_implementation="eager"
    )
    ids = torch.tensor([generator.tokenizer_.convert_tokens_to_ids(maps.tokens)])
    outputs = generator.tokenizer_.convert_tokens_to_ids(maps.output_tokens)
    with torch.no_grad():
        expected = model.eval()(
            input_ids=ids,
            decoder_input_ids=torch.tensor([outputs]),
            output_attentions=True,
        ).cross_attentions
    np.testing.assert_allclose(
        maps.cross_attention, torch.cat(expected).numpy(), atol=1e-5
    )
    generated = attention_maps(generator, "good film")
    assert generated.tokens == maps.tokens


def test_displays():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet([1, 1, 1], size=(2, 4, 3))
    cross = rng.dirichlet([1, 1, 1], size=(2, 4, 2))
    maps = AttentionMaps(["[CLS]", "$x$", "中"], weights, ["a", "b"], None, cross)
    display = AttentionDisplay(maps)
    for params, expected in (
        ({}, cross.mean(axis=(0, 1))),
        ({"kind": "self"}, maps.rollout()),
        ({"kind": "self", "layer": -1}, weights[1].mean(axis=0)),
        ({"kind": "cross", "layer": 0, "head": 3}, cross[0, 3]),
    ):
        display.plot(**params)
        np.testing.assert_array_equal(display.im_.get_array(), expected)
        labels = [label.get_text() for label in display.ax_.get_xticklabels()]
        assert labels == maps.tokens
        matplotlib.pyplot.close(display.figure_)
    for params, message in (
        ({"kind": "x"}, "kind must be one of"),
        ({"kind": "output"}, "not an encoder-decoder"),
        ({"layer": 2}, "layer=2, but the model has 2"),
        ({"layer": 0, "head": 4}, "head=4, but the model has 4"),
        ({"head": 1}, "requires a layer"),
    ):
        with pytest.raises(ValueError, match=message):
            display.plot(**params)


def test_invalid_input(tiny_model, fitted_classifier):
    with pytest.raises(NotFittedError):
        attention_maps(TransformerClassifier(tiny_model), "a")
    with pytest.raises(TypeError, match="of a pipeline, pass the last step"):
        attention_maps(LogisticRegression(), "a")
    with pytest.raises(ValueError, match="generates no text"):
        attention_maps(fitted_classifier, "a", "b")
