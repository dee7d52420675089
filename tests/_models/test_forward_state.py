"""Predictions that depend on no earlier ones, and leave random generators alone."""

import numpy as np
import pytest
import torch
from architecture_checks import FAST, make_texts
from architectures import save_model
from tiny_models import assert_close

from sktransformers import TransformerClassifier
from sktransformers._models.forward_state import ForwardState

SHORT, LONG = "a good film", "a bad film of this story " * 6
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}


def make_classifier(folder, model_type, **settings):
    names = {"num_labels": 2, "id2label": {0: "neg", 1: "pos"}}
    names["label2id"] = {"neg": 0, "pos": 1}
    save_model(folder, model_type, "SequenceClassification", **names, **settings)
    return TransformerClassifier.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("big_bird", {}),  # a short text switches it to full attention
        ("reformer", {}),  # takes the number of buckets from the first text
        ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 16}),
    ],
)
def test_an_earlier_text_changes_nothing(model_type, settings, tmp_path):
    classifier = make_classifier(tmp_path, model_type, **settings)
    classifier.set_params(max_length=48)
    classifier._length_limit = 64
    texts = [SHORT, LONG]
    first = {}
    for text in texts:
        fresh = TransformerClassifier.from_pretrained(tmp_path, device="cpu")
        fresh._length_limit = 64
        first[text] = fresh.predict_proba([text])
    for text in [LONG, SHORT, LONG, LONG, SHORT, SHORT]:
        assert_close(classifier.predict_proba([text]), first[text])
    assert_close(classifier.predict_proba(texts), np.concatenate([*first.values()]))


@pytest.mark.parametrize("model_type", ["big_bird", "reformer", "bert"])
def test_the_global_random_state_is_kept(model_type, tmp_path):
    classifier = make_classifier(tmp_path / model_type, model_type)
    trained = TransformerClassifier(str(tmp_path / model_type), **FAST)
    X, y = make_texts()
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    expected = np.random.random(2), torch.rand(2)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    classifier.predict_proba(X)
    if model_type != "reformer":  # whose training needs texts of one length
        trained.fit(X, y).transform(X)
    found = np.random.random(2), torch.rand(2)  # noqa: NPY002
    assert np.array_equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_fit_ends_with_the_attention_it_began_with(tmp_path):
    make_classifier(tmp_path, "big_bird")
    X, y = make_texts()
    model = TransformerClassifier(str(tmp_path), **FAST).fit(X, y).model_.module
    assert model.config.attention_type == "block_sparse"
    assert model.bert.encoder.layer[0].attention.attention_type == "block_sparse"


def test_state_is_restored():
    from transformers import AutoModel, BertConfig

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = AutoModel.from_config(BertConfig(**shape, intermediate_size=8))
    state = ForwardState(torch.nn.Sequential(model))
    layer, ids = model.encoder.layer[0], model.embeddings.position_ids
    model.config.layer_norm_eps = 0.5
    model.added = 1
    model.embeddings.position_ids = ids + 1
    model.encoder.layer[0].output = torch.nn.Identity()
    state.restore()
    assert model.config.layer_norm_eps != 0.5
    assert not hasattr(model, "added")
    assert model.embeddings.position_ids is ids
    assert type(layer.output) is not torch.nn.Identity
