"""Tests of checkpoints that peft saved: an adapter and the name of its base model."""

import json
import pickle
import shutil
import warnings

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from saved_models import WORDS, X, Y, save_head, save_writer
from tiny_models import assert_close, save_tiny_model
from torch import nn

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._models import hub
from sktransformers._models.files import quiet
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of peft's, for transformers
]
SEQUENCES = transformers.AutoModelForSequenceClassification


def save_adapter(folder, base, auto=SEQUENCES, n_labels=3, **options):
    """Save a random adapter with its head; return the model as peft has it."""
    with quiet(), torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", peft.utils.warning.PeftWarning)
        torch.manual_seed(0)
        labels = {} if n_labels is None else {"num_labels": n_labels}
        options = {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"} | options
        module = auto.from_pretrained(base, **labels)
        model = peft.get_peft_model(module, peft.LoraConfig(**options))
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return model.eval()


def outputs_of(model, tokenizer, name="logits"):
    """Return the outputs of a model of transformers or peft for the first texts."""
    with torch.no_grad():
        rows = [model(**tokenizer(x, return_tensors="pt"))[name] for x in X[:4]]
    return np.concatenate([row.numpy().reshape(-1, row.shape[-1]) for row in rows])


@pytest.fixture
def base(tmp_path):
    return save_tiny_model(tmp_path / "base")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "r": 4},
        {"target_modules": ["query", "value"], "rank_pattern": {"query": 3}},
        {"alpha_pattern": {r"layer\.0\.attention\.self\.query": 9}},
        {"target_modules": r".*layer\.0\..*dense", "init_lora_weights": "gaussian"},
        {"target_modules": ["word_embeddings", "query"]},
        {"bias": "all"},
        {"modules_to_save": ["classifier", "pooler"]},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_an_adapter_predicts_what_peft_does(options, base, tmp_path):
    model = save_adapter(tmp_path / "adapter", base, task_type="SEQ_CLS", **options)
    classifier = TransformerClassifier.from_pretrained(tmp_path / "adapter")
    assert classifier.classes_.tolist() == [0, 1, 2]
    logits = outputs_of(model, classifier.tokenizer_)
    expected = torch.from_numpy(logits).softmax(dim=1).numpy()
    assert_close(classifier.predict_proba(X[:4]), expected)
    plain = outputs_of(model.unload(), classifier.tokenizer_)
    assert np.abs(plain - logits).max() > 1e-3  # the adapter matters


def test_layers_that_are_stored_the_other_way_around(tmp_path):
    base = save_tiny_model(tmp_path / "base", "gpt2")
    model = save_adapter(
        tmp_path / "adapter", base, task_type="SEQ_CLS", target_modules=["c_attn"]
    )
    classifier = TransformerClassifier.from_pretrained(tmp_path / "adapter")
    logits = outputs_of(model, classifier.tokenizer_)
    expected = torch.from_numpy(logits).softmax(dim=1).numpy()
    assert_close(classifier.predict_proba(X[:4]), expected)


def test_numbers_tags_and_texts(base, tmp_path):
    model = save_adapter(tmp_path / "r", base, n_labels=1, task_type="SEQ_CLS")
    regressor = TransformerRegressor.from_pretrained(tmp_path / "r")
    expected = outputs_of(model, regressor.tokenizer_).ravel()
    assert_close(regressor.predict(X[:4]), expected)

    tokens = transformers.AutoModelForTokenClassification
    options = {"task_type": "TOKEN_CLS", "target_modules": ["query", "value"]}
    model = save_adapter(tmp_path / "t", base, tokens, 4, **options)
    tagger = TransformerTagger.from_pretrained(tmp_path / "t")
    assert tagger.classes_.tolist() == [f"LABEL_{i}" for i in range(4)]
    ids = tagger.tokenizer_(WORDS[0], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**ids).logits[0, 1:-1].softmax(dim=1).numpy()
    assert_close(tagger.predict_proba(WORDS[:1])[0], expected)

    writer = save_writer(tmp_path / "writer", "gpt2")
    auto = transformers.AutoModelForCausalLM
    options = {"task_type": "CAUSAL_LM", "target_modules": ["c_attn", "c_proj"]}
    model = save_adapter(tmp_path / "w", writer, auto, None, **options)
    generator = TransformerGenerator.from_pretrained(tmp_path / "w")
    found = outputs_of(generator.model_.model, generator.tokenizer_)
    assert_close(found, outputs_of(model, generator.tokenizer_))


@pytest.mark.parametrize("pooling", ["mean", "head", "auto"])
def test_an_adapter_is_fine_tuned_further(pooling, base, tmp_path):
    model = save_adapter(tmp_path / "adapter", base, n_labels=2, task_type="SEQ_CLS")
    classifier = TransformerClassifier(
        tmp_path / "adapter", pooling=pooling, trainable="head", device="cpu"
    ).fit(X, Y)
    hidden = outputs_of(
        classifier.model_.encoder, classifier.tokenizer_, "last_hidden_state"
    )
    expected = outputs_of(
        model.base_model.model.base_model, classifier.tokenizer_, "last_hidden_state"
    )
    assert_close(hidden, expected)
    assert classifier.model_.kind == ("pooled" if pooling == "mean" else "architecture")


def test_an_adapter_of_an_encoder_serves_an_estimator_with_any_head(base, tmp_path):
    model = save_adapter(tmp_path / "adapter", base, transformers.AutoModel, None)
    for pooling in ("mean", "head"):
        classifier = TransformerClassifier(
            tmp_path / "adapter", pooling=pooling, trainable="head", device="cpu"
        ).fit(X, Y)
        args = classifier.tokenizer_, "last_hidden_state"
        found = outputs_of(classifier.model_.encoder, *args)
        assert_close(found, outputs_of(model, *args))


def test_it_is_saved_and_pickled_as_any_other(base, tmp_path):
    save_adapter(tmp_path / "adapter", base, task_type="SEQ_CLS")
    classifier = TransformerClassifier.from_pretrained(tmp_path / "adapter")
    expected = classifier.predict_proba(X)
    classifier.set_params(store_backbone=False)
    pickled = pickle.dumps(classifier)
    assert np.array_equal(pickle.loads(pickled).predict_proba(X), expected)
    classifier.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "adapter")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict_proba(X), expected)


def test_names_of_labels_of_a_trained_base_are_kept(tmp_path):
    base = save_head(tmp_path / "base", "SequenceClassification", ["no", "so", "yes"])
    save_adapter(tmp_path / "adapter", base, task_type="SEQ_CLS")
    classifier = TransformerClassifier.from_pretrained(tmp_path / "adapter")
    assert classifier.classes_.tolist() == ["no", "so", "yes"]


def test_the_tokenizer_beside_the_adapter_is_taken(base, tmp_path):
    save_adapter(tmp_path / "adapter", base, task_type="SEQ_CLS")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, model_max_length=7)
    tokenizer.save_pretrained(tmp_path / "adapter")
    classifier = TransformerClassifier.from_pretrained(tmp_path / "adapter")
    assert classifier.tokenizer_.model_max_length == 7


def test_an_adapter_from_the_hub_is_found_in_its_cache(base, tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--adapter"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    save_adapter(repository / "snapshots" / "abc", base, task_type="SEQ_CLS")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)
    classifier = TransformerClassifier.from_pretrained("someone/adapter")
    assert classifier.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"init_lora_weights": "olora"}, "init_lora_weights='olora'"),
        ({"lora_bias": True}, r"lora_B\.bias"),
    ],
    ids=["dora", "olora", "bias"],
)
def test_other_kinds_are_refused(options, message, base, tmp_path):
    save_adapter(tmp_path / "adapter", base, task_type="SEQ_CLS", **options)
    for load in (
        lambda: TransformerClassifier.from_pretrained(tmp_path / "adapter"),
        lambda: TransformerClassifier(tmp_path / "adapter").fit(X, Y),
    ):
        with pytest.raises(ModelFormatError, match=rf"{message}.*merge_and_unload"):
            load()


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_does_not_fit_is_refused(base, tmp_path):
    folder = tmp_path / "adapter"
    save_adapter(folder, base, task_type="SEQ_CLS")
    read = TransformerClassifier.from_pretrained
    edit(folder, peft_type="IA3")
    with pytest.raises(ModelFormatError, match="peft_type='IA3'"):
        read(folder)
    edit(folder, peft_type="LORA", base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(ModelNotFoundError, match=r"base model of the adapter.*gone"):
        read(folder)
    wider = save_tiny_model(tmp_path / "wider", hidden_size=48)
    edit(folder, base_model_name_or_path=wider)
    with pytest.raises(ModelFormatError, match="does not match its base model"):
        read(folder)
    other = save_tiny_model(tmp_path / "other", "gpt2")
    edit(folder, base_model_name_or_path=other)
    with pytest.raises(ModelFormatError, match=r"no trained head|lacks"):
        read(folder)
    edit(folder, base_model_name_or_path=None)
    with pytest.raises(ModelFormatError, match="cannot be read: Expected `str`"):
        read(folder)


def test_weights_that_are_shared_are_refused(tmp_path):
    writer = save_writer(tmp_path / "writer", "gpt2")
    options = {"task_type": "CAUSAL_LM", "target_modules": ["wte"]}
    auto = transformers.AutoModelForCausalLM
    save_adapter(tmp_path / "adapter", writer, auto, None, **options)
    with pytest.raises(ModelFormatError, match=r"wte, whose weights another layer"):
        TransformerGenerator.from_pretrained(tmp_path / "adapter")
