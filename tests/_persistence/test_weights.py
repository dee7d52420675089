"""Tests that other libraries can load the saved weights."""

import json
import logging
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from saved_models import PARAMS, WORDS, X, Y, plain_logits, seal
from tiny_models import assert_close

from sktransformers import TransformerClassifier, TransformerGenerator
from sktransformers._models.files import quiet
from sktransformers.exceptions import ModelFormatError

read = TransformerClassifier.from_pretrained


@pytest.fixture
def load_reports(caplog):
    """Return what transformers says while it loads."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("kind", ["pooled", "decoder", "float64", "numbers", "tagger"])
def test_transformers_loads_the_encoder_without_a_word(kind, saved, load_reports):
    estimator, folder = saved(kind)
    encoder, report = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values())
    assert not [r for r in load_reports.records if r.levelno >= logging.WARNING]
    expected = estimator.model_.encoder.state_dict()
    assert encoder.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in encoder.state_dict().items())
    assert encoder.dtype == estimator.model_.encoder.dtype


def test_transformers_loads_the_half_of_an_encoder_decoder(saved):
    estimator, folder = saved("half")
    with quiet():
        whole = transformers.AutoModel.from_pretrained(folder)
        half = transformers.T5EncoderModel.from_pretrained(folder)
    expected = estimator.model_.encoder.state_dict()
    for encoder in (whole.get_encoder(), half.get_encoder()):
        found = encoder.state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize(
    ("kind", "pooling"), [("pooled", "mean_tokens"), ("decoder", "lasttoken")]
)
def test_sentence_transformers_is_told_how_to_pool(kind, pooling, saved):
    estimator, folder = saved(kind)
    settings = json.loads((folder / "1_Pooling/config.json").read_text())
    width = settings.pop("word_embedding_dimension")
    assert width == estimator.transform(X[:1]).shape[1]
    assert [k for k, v in settings.items() if v] == [f"pooling_mode_{pooling}"]
    modules = json.loads((folder / "modules.json").read_text())
    assert [m["path"] for m in modules] == ["", "1_Pooling"]
    assert [m["type"].rsplit(".")[-1] for m in modules] == ["Transformer", "Pooling"]
    length = json.loads((folder / "sentence_bert_config.json").read_text())
    assert length["max_seq_length"] == 64
    with quiet():
        assert transformers.AutoTokenizer.from_pretrained(folder).pad_token


@pytest.mark.parametrize("kind", ["pooled", "decoder", "half"])
def test_sentence_transformers_gives_the_same_embeddings(kind, saved):
    package = pytest.importorskip("sentence_transformers")
    estimator, folder = saved(kind)
    found = package.SentenceTransformer(str(folder), device="cpu").encode(X)
    assert_close(found, estimator.transform(X))


def test_plain_transformers_gives_the_same_numbers_and_labels(saved):
    auto = transformers.AutoModelForSequenceClassification
    estimator, folder = saved("head")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.id2label == {0: "neg", 1: "pos"}
    found = torch.from_numpy(np.stack(logits)).softmax(-1).numpy()
    assert_close(found, estimator.predict_proba(X))
    estimator, folder = saved("labels")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.problem_type == "multi_label_classification"
    found = torch.from_numpy(np.stack(logits)).sigmoid().numpy()
    assert_close(found, estimator.predict_proba(X))
    estimator, folder = saved("numbers-head")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.problem_type == "regression"
    assert_close(np.stack(logits), estimator.predict(X))


def test_a_pipeline_gives_the_same_labels(saved):
    estimator, folder = saved("head")
    with quiet():
        pipe = transformers.pipeline("text-classification", str(folder), device="cpu")
        found = pipe(X)
    assert [row["label"] for row in found] == estimator.predict(X).tolist()
    top = estimator.predict_proba(X).max(axis=1)
    assert_close([row["score"] for row in found], top)


def test_a_pipeline_gives_the_same_tags(saved):
    estimator, folder = saved("tagger-head")
    auto = transformers.AutoModelForTokenClassification
    model, logits = plain_logits(auto, folder, WORDS, is_split_into_words=True)
    assert model.config.id2label == {0: "B-GOOD", 1: "O"}
    for row, expected in zip(logits, estimator.predict_proba(WORDS), strict=True):
        found = torch.from_numpy(row[1:-1]).softmax(-1).numpy()
        assert_close(found, expected)
    with quiet():
        pipe = transformers.pipeline("token-classification", str(folder), device="cpu")
        found = pipe(X, ignore_labels=[])
    plain = [tag for rows in found for tag in (row["entity"] for row in rows)]
    best = np.concatenate(estimator.predict_proba(WORDS)).argmax(axis=1)
    assert plain == estimator.classes_[best].tolist()


def test_plain_transformers_writes_the_same(saved):
    estimator, folder = saved("writer")
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, expected in zip(X[:6], estimator.predict(X[:6]), strict=True):
        ids = tokenizer(text, return_tensors="pt")
        written = model.generate(**ids)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True) == expected


def test_how_a_pair_samples_is_saved(saved):
    _, folder = saved("pair-writer")
    with quiet():
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    found = model.generation_config
    assert (found.do_sample, found.top_k, found.max_new_tokens) == (True, 5, 4)


def test_a_saved_model_can_be_fine_tuned_by_its_directory(saved):
    _, folder = saved("pooled")
    again = TransformerClassifier(folder, **PARAMS).fit(X, Y)
    assert again.model_.pooling == "mean"


def test_a_gguf_file_is_saved_as_plain_weights(tmp_path):
    for package in ("gguf", "accelerate"):
        pytest.importorskip(package)
    from gguf_files import write_gguf

    write_gguf(tmp_path / "tiny.gguf")
    texts = ["ab abc", "abcd"]
    generator = TransformerGenerator(tmp_path / "tiny.gguf", **PARAMS, max_new_tokens=4)
    generator.fit(texts, texts).save_pretrained(tmp_path / "saved")
    again = TransformerGenerator.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict(texts), generator.predict(texts))
    with quiet():
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    foreign = TransformerGenerator.from_pretrained(tmp_path / "tiny.gguf")
    assert foreign.predict(texts).shape == (2,)


@pytest.mark.parametrize("name", ["model.safetensors", "head.safetensors"])
def test_weights_must_be_all_and_no_others(name, folder):
    tensors = load_file(folder / name)
    first = next(iter(tensors))
    for changed in (
        {k: v for k, v in tensors.items() if k != first},
        {**tensors, "more.weight": torch.zeros(1)},
        {**tensors, first: torch.zeros(1)},
    ):
        save_file(changed, folder / name, metadata={"format": "pt"})
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(name)):
            read(folder)
