"""Texts with special tokens, without any token, and too long, in the estimators."""

import numpy as np
import pytest
import torch
import transformers
from tiny_generators import save_writer
from tiny_models import assert_close, make_sentences, make_word_tokenizer
from tiny_models import save_tiny_model as save
from tiny_taggers import make_tagger
from tiny_tokenizers import make_bpe_of, save_with

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
)
from sktransformers.exceptions import DroppedTextWarning

QUICK = {"max_epochs": 1, "device": "cpu", "precision": "float32", "random_state": 0}


@pytest.fixture(scope="module")
def pair_models(tmp_path_factory):
    """Return encoder-decoders that find the end of a text by its token."""
    made = {}
    for kind, auto in (("bart", "Bart"), ("t5", "T5")):
        directory = tmp_path_factory.mktemp(kind)
        save_writer(directory, kind)
        cls = getattr(transformers, f"{auto}ForSequenceClassification")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = transformers.AutoConfig.from_pretrained(
                directory, id2label={0: "neg", 1: "pos"}
            )
            cls(config).save_pretrained(directory)
        made[kind] = str(directory)
    return made


SPECIAL = ["a </s> film", "</s>", "so good<s>", "<pad> </s></s> bad", "<mask> <unk> a"]


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_ends_written_in_a_text_are_text(kind, pair_models):
    X, y = make_sentences(16)
    X, y = [*SPECIAL, *X], [*["pos"] * len(SPECIAL), *y]
    classifier = TransformerClassifier(pair_models[kind], pooling="head", **QUICK)
    found = classifier.fit(X, y).predict_proba(X)
    tokenizer = transformers.AutoTokenizer.from_pretrained(pair_models[kind])
    rows = tokenizer(X, split_special_tokens=True)["input_ids"]
    assert {row.count(tokenizer.eos_token_id) for row in rows} == {1}
    with torch.no_grad():
        logits = [classifier.model_.module(torch.tensor([row])).logits for row in rows]
    assert_close(found, torch.softmax(torch.cat(logits), dim=1), rtol=1e-4)
    alone = [classifier.predict_proba([text])[0] for text in X]
    assert_close(found, alone, rtol=1e-4)
    regressor = TransformerRegressor(pair_models[kind], pooling="mean", **QUICK)
    assert regressor.fit(X, np.arange(len(X))).predict(X).shape == (len(X),)


def test_special_tokens_are_words_and_targets_like_others(tmp_path):
    tagger = make_tagger(save(tmp_path / "bert"), max_epochs=1)
    X = [["a", "[SEP]", "film"], ["[CLS]"], ["so", "[PAD]", "[MASK]"]]
    tagger.fit(X, [["X", "Y", "X"], ["Y"], ["X", "Y", "Y"]])
    assert [len(tags) for tags in tagger.predict(X)] == [3, 1, 3]
    generator = TransformerGenerator(save_writer(tmp_path / "t5", "t5"), **QUICK)
    generator.fit(["a film", "so"], ["good </s> plot", "bad"])
    with_end, without = generator.perplexity(["a"] * 2, ["good </s> plot", "good"])
    assert np.isfinite([with_end, without]).all()


@pytest.mark.parametrize("affixes", [True, False])
def test_a_text_that_the_tokenizer_drops_is_predicted_as_the_empty_one(
    affixes, tmp_path
):
    names = {"pad_token": "[PAD]", "eos_token": "</s>"}
    if affixes:
        names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    directory = save_with(tmp_path, make_bpe_of("bcd ", **names))
    X, y = ["b c", "c", "d b", "c c"] * 4, [0, 1, 0, 1] * 4
    for pooling in ("mean", "cls", "last"):
        classifier = TransformerClassifier(directory, pooling=pooling, **QUICK)
        classifier.fit(X, y)
        expected = classifier.predict_proba(["", "b"])
        message = "drops all characters of 2 texts, which are predicted like empty"
        with pytest.warns(DroppedTextWarning, match=message):
            found = classifier.predict_proba(["中文", "b", "xyz", ""])
        assert_close(found, expected[[0, 1, 0, 0]])


def test_a_fit_tells_of_texts_that_the_tokenizer_drops(tmp_path):
    tokenizer = make_bpe_of("bcd ", pad_token="[PAD]", eos_token="</s>")
    directory = save_with(tmp_path, tokenizer)
    with pytest.warns(DroppedTextWarning, match="characters of 1 texts") as record:
        TransformerRegressor(directory, **QUICK).fit(["b", "é", ""], [1.0, 2.0, 3.0])
    assert record[0].filename == __file__
    with pytest.warns(DroppedTextWarning, match="characters of 3 words"):
        tagger = make_tagger(directory, max_epochs=1).fit(
            [["b", "é"], ["x", "c", "é"]], [["A", "B"], ["A", "B", "A"]]
        )
    with pytest.warns(DroppedTextWarning, match="characters of 1 words"):
        assert [len(row) for row in tagger.predict([["é", "b"], []])] == [2, 0]


@pytest.mark.parametrize("n_columns", [1, 2])
def test_a_tokenizer_that_truncates_on_the_left(n_columns, tmp_path):
    directory = save(tmp_path / "model")
    tokenizer = make_word_tokenizer("bert")
    tokenizer.truncation_side = "left"
    tokenizer.init_kwargs["truncation_side"] = "left"  # else it is not saved
    tokenizer.save_pretrained(directory)
    X, y = make_sentences(16)
    long = "a b c d e f good", "x y z so very bad"
    if n_columns == 2:
        X, long = [(text, text) for text in X], (long, long)
    params = {"max_length": 6 * n_columns - n_columns // 2, **QUICK}
    classifier = TransformerClassifier(directory, **params)
    with pytest.warns(match="truncated"):
        classifier.fit(X, y)
    found = classifier.transform(list(long))
    columns = zip(*long, strict=True) if n_columns == 2 else [long]
    inputs = classifier.tokenizer_(
        *map(list, columns),
        truncation=True,
        max_length=params["max_length"],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = classifier.model_.encoder(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    assert_close(found, (hidden * mask).sum(1) / mask.sum(1))
    saved = TransformerClassifier.from_pretrained(
        classifier.save_pretrained(tmp_path / "saved") and tmp_path / "saved"
    )
    assert_close(saved.transform(list(long)), found)
    assert saved.tokenizer_.truncation_side == "left"
