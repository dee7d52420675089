"""A tokenizer to which tokens were added, and the model's table was not resized."""

import pickle

import numpy as np
import pytest
import transformers
from saved_models import PARAMS, TAGS, WORDS, X, Y, save_head, save_writer
from tiny_models import assert_close, save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers.exceptions import ModelFormatError

MARKED = [f"{text} <new>" for text in X]


def _add_tokens(folder):
    """Add two tokens to a saved tokenizer, and return the folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>", "<other>"])
    tokenizer.save_pretrained(folder)
    return folder


def _table(estimator):
    return estimator.model_.module.get_input_embeddings().weight.detach()


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Return tiny models by kind, each with a tokenizer of two more tokens."""
    root = tmp_path_factory.mktemp("extended")
    folders = {kind: save_tiny_model(root / kind, kind) for kind in ("bert", "gpt2")}
    folders |= {kind: save_writer(root / kind, kind) for kind in ("bart", "t5")}
    folders["writer"] = save_writer(root / "writer", "gpt2")
    return {kind: _add_tokens(folder) for kind, folder in folders.items()}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"pooling": "head"},
        {"trainable": "head"},
        {"trainable": 1},
        {"lora_rank": 2},
        {"store_backbone": False},
        {"early_stopping": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bert", "gpt2", "bart", "t5"])
def test_added_tokens_are_trained(kind, params, extended, tmp_path):
    if kind in ("bart", "t5") and params == {"pooling": "head"}:
        pytest.skip("the tokenizer puts nothing at the end that the head could read")
    params = PARAMS | {"pooling": "mean"} | params
    classifier = TransformerClassifier(extended[kind], **params).fit(MARKED, Y)
    table = _table(classifier)
    n_known = len(table) - 2
    mean = table[:n_known].mean(dim=0)
    assert classifier.tokenizer_.convert_tokens_to_ids("<new>") == n_known
    is_frozen = "lora_rank" in params or "trainable" in params
    assert np.allclose(table[n_known], mean, atol=1e-4) == is_frozen
    expected = classifier.predict_proba(MARKED)
    copy = pickle.loads(pickle.dumps(classifier))
    assert_close(copy.predict_proba(MARKED), expected)
    classifier.save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert_close(again.predict_proba(MARKED), expected)


def test_every_estimator_trains_added_tokens(extended):
    words = [[*row, "<new>"] for row in WORDS]
    tags = [[*row, "O"] for row in TAGS]
    tagger = TransformerTagger(extended["bert"], **PARAMS).fit(words, tags)
    assert [len(row) for row in tagger.predict(words)] == [len(row) for row in tags]
    numbers = [float(len(text)) for text in X]
    regressor = TransformerRegressor(extended["bert"], **PARAMS).fit(MARKED, numbers)
    assert np.isfinite(regressor.predict(MARKED)).all()
    for kind in ("writer", "bart", "t5"):
        params = PARAMS | {"max_new_tokens": 3}
        generator = TransformerGenerator(extended[kind], **params).fit(MARKED, MARKED)
        assert len(generator.predict(MARKED[:2])) == 2
        assert np.isfinite(generator.perplexity(MARKED[:2], MARKED[:2])).all()
        output = generator.model_.module.get_output_embeddings().weight
        assert len(output) == len(_table(generator))


def test_partial_fit_adds_them_too(extended):
    classifier = TransformerClassifier(extended["bert"], **PARAMS)
    for _ in range(2):
        classifier.partial_fit(MARKED, Y, classes=["neg", "pos"])
    assert len(_table(classifier)) == len(classifier.tokenizer_)


def test_without_training_the_token_is_named(extended, tmp_path):
    classifier = TransformerClassifier(extended["bert"], **PARAMS | {"max_epochs": 0})
    with pytest.raises(ModelFormatError, match=r"no embedding of the token '<new>'"):
        classifier.fit(MARKED, Y)
    classifier.fit(X, Y)
    with pytest.raises(ModelFormatError, match=r"max_epochs of 1 or more"):
        classifier.predict(MARKED)
    head = save_head(tmp_path, "SequenceClassification", ["a", "b"])
    trained = TransformerClassifier.from_pretrained(_add_tokens(head))
    with pytest.raises(ModelFormatError, match=r"resize_token_embeddings"):
        trained.predict(MARKED)
    generator = TransformerGenerator.from_pretrained(extended["writer"])
    with pytest.raises(ModelFormatError, match=r"no embedding of the token '<new>'"):
        generator.predict(MARKED)
    trained.set_params(warm_start=True, max_epochs=1).fit(MARKED, ["a", "b"] * 12)
    assert len(_table(trained)) == len(trained.tokenizer_)


def test_a_table_of_more_rows_than_tokens_is_kept(tmp_path):
    folder = save_tiny_model(tmp_path, vocab_size=99)
    classifier = TransformerClassifier(folder, **PARAMS).fit(X, Y)
    assert len(_table(classifier)) == 99
