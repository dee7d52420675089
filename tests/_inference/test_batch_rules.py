"""Which texts a model may be given together."""

import numpy as np
import pytest
import torch
from architecture_checks import FAST, make_texts
from architectures import save_model
from tiny_models import assert_close

from sktransformers import TransformerClassifier
from sktransformers._inference import batch_rules
from sktransformers._inference.batch_rules import with_rule
from sktransformers._models.heads import PooledModel


def make_classifier(folder, model_type, settings=(), **params):
    labels = {"num_labels": 2, "id2label": {0: "neg", 1: "pos"}}
    labels |= {"label2id": {"neg": 0, "pos": 1}, **dict(settings)}
    model = save_model(folder, model_type, "SequenceClassification", **labels)
    return TransformerClassifier(model, **FAST | params)


@pytest.mark.parametrize(
    ("model_type", "shared_by", "least_width"),
    [
        ("bert", "all", 1),
        ("gpt2", "all", 1),
        ("bart", "all", 1),
        ("fnet", "equal", 1),  # no attention mask
        ("convbert", "equal", 1),  # convolutions over tokens
        ("xlnet", "equal", 1),  # a head that reads the last column
        ("big_bird", "equal", 1),  # the last block is seen by all others
        ("canine", "equal", 4),  # each vector stands for four characters
    ],
)
def test_rules(model_type, shared_by, least_width, tmp_path):
    X, _ = make_texts()
    make_classifier(tmp_path, model_type)
    classifier = TransformerClassifier.from_pretrained(tmp_path, device="cpu")
    encoding = classifier._encode_fitted(X)
    rule = with_rule(classifier.model_, encoding, torch.device("cpu")).rule
    assert (rule.shared_by, rule.least_width) == (shared_by, least_width)


def test_a_longer_text_changes_the_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_rules, "_KNOWN_BY_CONFIG", {})
    # Short texts get full attention, which masks padding.
    X = ["good", "a good film", "a bad film of this story"]
    make_classifier(tmp_path, "big_bird")
    classifier = TransformerClassifier.from_pretrained(tmp_path, device="cpu")
    device = torch.device("cpu")
    short = with_rule(classifier.model_, classifier._encode_fitted(X), device)
    assert short.rule.shared_by == "all"
    longer = classifier._encode_fitted([*X, "this film " * 20, "a plot " * 15])
    assert with_rule(classifier.model_, longer, device).rule.shared_by == "equal"


@pytest.mark.parametrize(
    ("model_type", "pooling"), [("fnet", "head"), ("fnet", "mean"), ("xlnet", "head")]
)
def test_training_pads_no_more_than_prediction(
    model_type, pooling, tmp_path, monkeypatch
):
    classifier = make_classifier(tmp_path, model_type, pooling=pooling)
    X, y = make_texts()
    classifier.fit(X, y)  # finds the rule
    masks = []
    owner = type(classifier.model_)
    forward = owner.forward

    def record(model, **inputs):
        masks.append(inputs["attention_mask"])
        return forward(model, **inputs)

    monkeypatch.setattr(owner, "forward", record)
    if owner is PooledModel:
        embed = owner.embed

        def record_embed(model, **inputs):
            masks.append(inputs["attention_mask"])
            return embed(model, **inputs)

        monkeypatch.setattr(owner, "embed", record_embed)
    classifier.fit(X, y)
    assert len(masks) > 4
    assert all(bool(mask.all()) for mask in masks)


def test_a_step_is_the_same_whether_or_not_it_is_split(tmp_path, monkeypatch):
    X, y = make_texts()
    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    classifier = make_classifier(tmp_path, "bert", settings, pooling="mean")
    monkeypatch.setattr("sktransformers._models.heads._NEW_HEAD_DROPOUT", 0.0)
    expected = classifier.fit(X, y).predict_proba(X)
    split = "sktransformers._text.batching.BatchRule.split"
    monkeypatch.setattr(split, lambda _rule, rows, _n: list(rows[:, None]))
    assert_close(classifier.fit(X, y).predict_proba(X), expected, rtol=1e-4)
    assert np.isfinite(expected).all()
