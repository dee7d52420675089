"""Token type ids reach a model only if it has embeddings of them."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
import transformers
from tiny_models import assert_close, make_config, make_sentences, make_word_tokenizer
from tiny_models import save_tiny_model as save
from tokenizers import processors

from sktransformers import TransformerClassifier
from sktransformers._models.token_types import count_token_types, special_tokens_of


@pytest.fixture(scope="module")
def pairs():
    X, y = make_sentences(24)
    return list(zip(X[::-1], X, strict=True)), y


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (make_config("bert", 9, type_vocab_size=1), 1),
        (make_config("roberta", 9, type_vocab_size=1), 1),
        (make_config("bert", 9), 2),
        (make_config("distilbert", 9), 0),  # its forward pass takes none
        (make_config("modernbert", 9), 0),
        (transformers.T5Config(), 0),
        (transformers.DebertaV2Config(), 0),
        (transformers.FunnelConfig(), sys.maxsize),  # compares them to each other
        (transformers.XLNetConfig(), sys.maxsize),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_the_number_of_token_types(config, expected):
    assert count_token_types(config) == expected


def test_types_are_kept_if_the_model_has_all_of_them():
    tokenizer = make_word_tokenizer("bert")
    config = make_config("bert", 9)
    assert special_tokens_of(tokenizer, config, 2).types(2) == [0, 0, 0, 1, 1]
    config = make_config("bert", 9, type_vocab_size=1)
    special = special_tokens_of(tokenizer, config, 2)
    assert special.types(2) == [0] * 5
    assert special.types(3) == [0] * 7
    ids = [f.name for f in dataclasses.fields(special) if "types" not in f.name]
    whole = special_tokens_of(tokenizer, make_config("bert", 9), 2)
    assert all(getattr(special, name) == getattr(whole, name) for name in ids)


@pytest.mark.parametrize("pooling", ["mean", "head"])
@pytest.mark.parametrize("n_types", [1, 2])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_pairs_of_models_with_few_token_types(
    architecture, n_types, pooling, pairs, tmp_path
):
    directory = save(
        tmp_path,
        architecture,
        head=pooling == "head",
        num_labels=2,
        **({} if architecture == "distilbert" else {"type_vocab_size": n_types}),
    )
    tokenizer = make_word_tokenizer("bert")  # whose second text has type 1
    tokenizer.save_pretrained(directory)
    X, y = pairs
    classifier = TransformerClassifier(
        directory, pooling=pooling, max_epochs=1, device="cpu", precision="float32"
    ).fit(X, y)
    inputs = tokenizer([list(pair) for pair in X], padding=True, return_tensors="pt")
    if n_types == 1 or architecture == "distilbert":
        del inputs["token_type_ids"]
    if architecture == "roberta":  # positions are counted from the padding
        inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1]) + 2
        inputs["position_ids"] = inputs["position_ids"].repeat(len(X), 1)
        classifier.model_.module.config.pad_token_id = 0
    with torch.no_grad():
        if pooling == "head":
            logits = classifier.model_.module(**inputs).logits
            expected = torch.softmax(logits, dim=1)
            assert_close(classifier.predict_proba(X), expected, rtol=1e-4)
        else:
            hidden = classifier.model_.module(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            expected = (hidden * mask).sum(1) / mask.sum(1)
            assert_close(classifier.transform(X), expected, rtol=1e-4)
    copies = np.array([("so good", "so bad")] * 2)
    assert_close(
        classifier.predict_proba(copies)[0], classifier.predict_proba(copies)[1]
    )


def test_a_type_of_its_own_for_the_first_token(tmp_path):
    directory = save(tmp_path, "bert", type_vocab_size=3)
    tokenizer = make_word_tokenizer("bert")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:2 $A [SEP]",
        pair="[CLS]:2 $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save_pretrained(directory)
    X, y = make_sentences(16)
    params = {"max_epochs": 0, "pooling": "mean", "device": "cpu"}
    classifier = TransformerClassifier(directory, **params).fit(X, y)
    inputs = tokenizer(X, padding=True, return_tensors="pt")
    assert inputs["token_type_ids"][:, 0].eq(2).all()
    with torch.no_grad():
        hidden = classifier.model_.encoder(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    assert_close(classifier.transform(X), (hidden * mask).sum(1) / mask.sum(1))
