"""What a search reads once: tokens, embeddings and weights."""

import pathlib
import sys
from unittest import mock

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from tiny_models import (
    assert_close,
    make_sentences,
    make_word_tokenizer,
    save_tiny_model,
)

from sktransformers import TransformerClassifier, TransformerTagger
from sktransformers._inference import embedding_cache as vector_cache
from sktransformers._inference import predict as prediction
from sktransformers._inference.embedding_cache import VectorCache, keys_of
from sktransformers._text import tokenization
from sktransformers._text.tokenization import TokenCache, state_of


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Start from empty caches."""
    monkeypatch.setattr(vector_cache, "_CACHES", {None: VectorCache()})


@pytest.fixture
def embedded():
    """Return a list that grows by the number of windows of each forward pass."""
    counts = []
    run = prediction.run_model

    def counted(forward, encoding, *args):
        counts.append(len(encoding))
        return run(forward, encoding, *args)

    with mock.patch.object(prediction, "run_model", counted):
        yield counts


@pytest.fixture
def frozen(tiny_classifier):
    """Return an unfitted classifier of which the head alone trains.

    In float32: bfloat16, where it is the default, would enlarge differences of
    rounding between vectors that were made in other company.
    """
    return tiny_classifier.set_params(
        trainable="head", max_epochs=1, precision="float32"
    )


def test_a_search_tokenizes_each_text_once(tmp_path):
    folder = save_tiny_model(tmp_path / "new")  # whose tokenizer has read nothing
    X, y = make_sentences(30)
    read = []
    read_ids = tokenization._read_ids

    def counted(tokenizer, texts, split):
        read.extend(texts)
        return read_ids(tokenizer, texts, split)

    classifier = TransformerClassifier(folder, max_epochs=1, device="cpu")
    with mock.patch.object(tokenization, "_read_ids", counted):
        GridSearchCV(classifier, {"learning_rate": [1e-3, 1e-4]}, cv=3).fit(X, y)
    assert sorted(read) == sorted(set(X))


def test_a_search_embeds_each_text_once(frozen, sentences, embedded):
    X, y = sentences
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(frozen, {"head_learning_rate": [1e-3, 1e-2, 1e-1]}, cv=folds)
    search.fit(X, y)
    assert sum(embedded) == len(set(X))
    search.fit(X[::-1], y[::-1])
    assert sum(embedded) == len(set(X))
    assert search.best_estimator_.transform(X).shape == (64, 16)
    assert sum(embedded) == len(set(X))


def test_what_is_known_changes_no_result(frozen, sentences):
    X, y = sentences
    with mock.patch.object(prediction, "source_of", return_value=None):
        expected = clone(frozen).fit(X[:40], y[:40]).predict_proba(X)
    frozen.fit(X, y).predict_proba(X[::-1])  # which embeds them in other company
    probabilities = frozen.fit(X[:40], y[:40]).predict_proba(X)
    assert_close(probabilities, expected)


@pytest.mark.parametrize(
    "change",
    [{"max_length": 5}, {"pooling": "cls"}, {"precision": "float64"}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_embed_anew(change, frozen, sentences, embedded):
    X, y = sentences
    frozen.set_params(long_text="window").fit(X, y)
    before = sum(embedded)
    frozen.set_params(**change).fit(X, y)
    assert sum(embedded) > before


def test_other_weights_embed_anew(frozen, sentences, tmp_path):
    X, y = sentences
    folder = save_tiny_model(tmp_path / "model")
    first = frozen.set_params(model=folder).fit(X, y).transform(X)
    save_tiny_model(tmp_path / "model", hidden_act="relu")
    second = frozen.fit(X, y).transform(X)
    assert not np.allclose(first, second)


def test_weights_changed_by_hand_are_noticed(frozen, sentences):
    X, y = sentences
    before = frozen.fit(X, y).transform(X)
    with torch.no_grad():
        for parameter in frozen.model_.encoder.parameters():
            parameter.mul_(1.5)
    assert not np.allclose(frozen.transform(X), before)


def test_training_what_was_frozen_is_noticed(frozen, sentences):
    X, y = sentences
    before = frozen.fit(X, y).transform(X)
    frozen.set_params(warm_start=True, trainable="all", learning_rate=1e-2).fit(X, y)
    after = frozen.transform(X)
    assert not np.allclose(after, before)
    frozen.set_params(trainable="head").fit(X, y)  # on top of the trained layers
    assert_close(frozen.transform(X), after)


def test_pairs_and_their_order_are_told_apart(tiny_model, sentences):
    X, y = sentences
    classifier = TransformerClassifier(tiny_model, trainable="head", device="cpu")
    pairs = [(a, b) for a, b in zip(X, X[::-1], strict=True)]
    classifier.fit(pairs, y)
    turned = [(b, a) for a, b in pairs]
    swapped = classifier.transform(turned)
    with mock.patch.object(prediction, "source_of", return_value=None):
        assert_close(classifier.transform(turned), swapped)


def test_a_tagger_embeds_each_text_once(tiny_model, embedded):
    X = [text.split() for text in make_sentences(24)[0]]
    y = [["A" if word < "g" else "B" for word in row] for row in X]
    tagger = TransformerTagger(tiny_model, trainable="head", device="cpu")
    GridSearchCV(tagger, {"max_epochs": [0, 1]}, cv=2).fit(X, y)
    assert sum(embedded) == len({tuple(row) for row in X})


def test_a_directory_keeps_them_for_others(frozen, sentences, embedded, tmp_path):
    X, y = sentences
    expected = frozen.set_params(memory=tmp_path).fit(X, y).predict_proba(X)
    assert sum(embedded) == len(set(X))
    vector_cache._CACHES.clear()  # as in another process
    again = clone(frozen).fit(X, y).predict_proba(X)
    assert sum(embedded) == len(set(X))
    assert np.array_equal(again, expected)


def test_a_joblib_memory_keeps_and_clears_them(frozen, sentences, embedded, tmp_path):
    X, y = sentences
    memory = joblib.Memory(tmp_path, verbose=0)
    frozen.set_params(memory=memory).fit(X, y)
    vector_cache._CACHES.clear()
    frozen.fit(X, y)
    assert sum(embedded) == len(set(X))
    memory.clear(warn=False)
    vector_cache._CACHES.clear()
    frozen.fit(X, y)
    assert sum(embedded) == 2 * len(set(X))


def test_a_memory_without_a_place_writes_nothing(frozen, sentences, tmp_path):
    with mock.patch("os.getcwd", return_value=str(tmp_path)):
        frozen.set_params(memory=joblib.Memory(None)).fit(*sentences)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [0, 20, -1], ids=["empty", "cut", "one byte short"])
def test_a_broken_file_is_made_again(left, frozen, sentences, tmp_path):
    X, y = sentences
    expected = frozen.set_params(memory=tmp_path).fit(X, y).predict_proba(X)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:left])
    vector_cache._CACHES.clear()
    probabilities = clone(frozen).fit(X, y).predict_proba(X)
    assert_close(probabilities, expected)


def test_an_estimator_without_frozen_layers_keeps_nothing(tiny_classifier, sentences):
    X, y = sentences
    tiny_classifier.set_params(max_epochs=1).fit(X, y).predict(X)
    assert not vector_cache._CACHES[None].find(
        list(vector_cache._CACHES[None]._vectors)
    )


def test_memory_is_bounded():
    row = np.zeros((1, 256), dtype=np.float32)  # 1 KiB
    cache = VectorCache(most_bytes=10 * 2**10)
    for number in range(100):
        cache.add({bytes([number]): row})
        assert len(cache._vectors) <= 10
    assert list(cache.find([bytes([99])])) == [bytes([99])]
    cache.add({bytes([n]): row for n in range(50)})  # too many for it
    assert not cache._vectors

    tokens = TokenCache(most_bytes=10_000)
    for number in range(1000):
        tokens.add(f"text {number}", bytes(8))
        assert len(tokens) < 60
    assert tokens.get("text 0") is None


def test_keys_tell_apart_how_a_row_is_divided():
    one, two = np.array([1, 2], dtype=np.int32), np.array([3], dtype=np.int32)
    rows = [[one, two], [np.append(one, two), two[:0]], [two, one]]
    assert len(set(keys_of("a", rows))) == 3
    assert not set(keys_of("a", rows)) & set(keys_of("b", rows))


def test_new_tokens_make_a_new_cache():
    tokenizer = make_word_tokenizer("bert")
    tokenization.tokenize(tokenizer, ["good brandnew film"])
    before = tokenization.tokenize(tokenizer, ["good brandnew film"]).values
    assert len(state_of(tokenizer).cache) == 1
    tokenizer.add_tokens(["brandnew"])
    after = tokenization.tokenize(tokenizer, ["good brandnew film"]).values
    assert before[1] != after[1] == len(tokenizer) - 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_frozen_weights_are_mapped_from_the_file(frozen, sentences, tiny_model):
    frozen.fit(*sentences)
    file = str((pathlib.Path(tiny_model) / "model.safetensors").resolve())
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(file)]
    mapped = [range(int(start, 16), int(end, 16)) for start, end in spans]
    for parameter in frozen.model_.encoder.parameters():
        assert any(parameter.data_ptr() in span for span in mapped)
