"""Tests of saved LoRA adapters."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from saved_models import MAKERS, PARAMS, X, Y, predictions, read_again, seal
from tiny_models import assert_close, save_tiny_model

from sktransformers import TransformerClassifier
from sktransformers._models.files import quiet
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError

ADAPTERS = [kind for kind in MAKERS if kind.startswith("adapter")]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_only_the_adapter_is_saved(kind, saved):
    estimator, folder = saved(kind)
    names = {path.name for path in folder.iterdir()}
    assert names - {"head.safetensors"} == {
        *("MANIFEST.json", "README.md", "sktransformers.json"),
        *("adapter_config.json", "adapter_model.safetensors"),
    }
    state = json.loads((folder / "sktransformers.json").read_text())
    assert state["fitted"]["_checkpoint_name"]["value"] == [estimator.model, None]
    assert re.fullmatch("[0-9a-f]{32}", state["adapter"]["weights_hash"])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft's, for transformers
@pytest.mark.parametrize("kind", ADAPTERS)
def test_peft_reads_the_adapter(kind, saved):
    peft = pytest.importorskip("peft")
    estimator, folder = saved(kind)
    auto, options = {
        "adapter": (transformers.AutoModel, {}),
        "adapter-head": (
            transformers.AutoModelForSequenceClassification,
            {"num_labels": 2},
        ),
        "adapter-writer": (transformers.AutoModelForCausalLM, {}),
    }[kind]
    with quiet():
        base = auto.from_pretrained(estimator.model, **options)
        model = peft.PeftModel.from_pretrained(base, folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(estimator.model)
    ids = tokenizer(X[0], return_tensors="pt")
    ours = estimator.model_.encoder if kind == "adapter" else estimator.model_.model
    with torch.no_grad():
        found, expected = model(**ids), ours(**ids)
    for name in ("last_hidden_state", "logits"):
        if name in expected:
            assert_close(found[name], expected[name])


@pytest.mark.parametrize("kind", ["adapter", "adapter-head"])
def test_a_saved_adapter_is_a_model_to_start_from(kind, saved):
    estimator, folder = saved(kind)
    params = {"pooling": estimator.pooling, "trainable": "head", "device": "cpu"}
    other = type(estimator)(folder, **params).fit(X, Y)
    assert_close(other.transform(X), estimator.transform(X))


def test_an_adapter_refuses_another_base(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    classifier = TransformerClassifier(base, **PARAMS, lora_rank=2).fit(X, Y)
    classifier.save_pretrained(tmp_path / "saved")
    save_tiny_model(tmp_path / "base", initializer_range=0.03)
    with pytest.raises(ModelFormatError, match="has changed since"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"movie"'))
    with pytest.raises(ModelFormatError, match="another tokenizer"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "head.safetensors"])
def test_an_adapter_must_have_all_weights_and_no_others(name, saved, tmp_path):
    estimator, _ = saved("adapter")
    folder = tmp_path / "saved"
    estimator.save_pretrained(folder)
    tensors = load_file(folder / name)
    first = next(iter(tensors))
    for changed in (
        {k: v for k, v in tensors.items() if k != first},
        {**tensors, "more": torch.zeros(1)},
        {**tensors, first: torch.zeros(1)},
    ):
        save_file(changed, folder / name)
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read_again(estimator, folder)


def test_a_merged_adapter_is_a_plain_model(saved, tmp_path):
    estimator, folder = saved("adapter")
    merged = read_again(estimator, folder).merge_adapter()
    merged.save_pretrained(tmp_path / "saved")
    again = read_again(estimator, tmp_path / "saved")
    assert np.array_equal(predictions(again), predictions(merged))
    assert (tmp_path / "saved" / "model.safetensors").exists()


def test_an_adapter_goes_on_training_as_it_would_have(saved, tmp_path):
    estimator, folder = saved("adapter")
    again = read_again(estimator, folder).set_params(warm_start=True).fit(X, Y)
    frozen = dict(estimator.model_.encoder.named_parameters())
    for name, weights in again.model_.encoder.named_parameters():
        if "lora_" not in name:
            assert torch.equal(weights, frozen[name]), name
