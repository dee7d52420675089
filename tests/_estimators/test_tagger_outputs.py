"""Tests of the outputs of TransformerTagger: probabilities, entities, long texts."""

import copy
import itertools
import random
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import NEGATIVE, POSITIVE, VOCABULARY
from tiny_taggers import ENOUGH, assert_close, make_tagged, tag

from sktransformers._models import heads as modules
from sktransformers.metrics import entity_f1_score


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_tagged(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_tagged(64)[1]


# Outputs


def test_probabilities(fitted_tagger, X):
    probabilities = fitted_tagger.predict_proba(X)
    assert [p.shape for p in probabilities] == [(len(words), 5) for words in X]
    for p in probabilities:
        assert p.dtype == np.float64
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.fixture(scope="module")
def mixed():
    rng = random.Random(3)
    return [
        rng.choices(VOCABULARY, k=rng.choice([0, 1, 9, 70, 200])) for _ in range(80)
    ]


def test_a_texts_company_does_not_change_its_prediction(fitted_tagger, mixed):
    together = fitted_tagger.predict_proba(mixed)
    order = np.random.default_rng(0).permutation(80)
    shuffled = fitted_tagger.predict_proba([mixed[i] for i in order])
    assert_close(shuffled, [together[i] for i in order])
    for size in (1, 7):
        parts = [
            fitted_tagger.predict_proba(mixed[i : i + size]) for i in range(0, 80, size)
        ]
        assert_close(list(itertools.chain(*parts)), together)


def test_entities_of_words(fitted_tagger, X):
    n_long = 0
    probabilities = fitted_tagger.predict_proba(X)
    results = zip(
        X,
        fitted_tagger.predict(X),
        fitted_tagger.predict_entities(X),
        probabilities,
        strict=True,
    )
    for words, tags, entities, p in results:
        spelled = ["O"] * len(words)
        chosen = p[np.arange(len(words)), np.searchsorted(fitted_tagger.classes_, tags)]
        for entity in entities:
            assert list(entity) == ["text", "label", "start", "end", "score"]
            assert list(map(type, entity.values())) == [str, str, int, int, float]
            place = slice(entity["start"], entity["end"])
            assert entity["text"] == " ".join(words[place])
            n = entity["end"] - entity["start"]
            spelled[place] = [
                f"{'I' if i else 'B'}-{entity['label']}" for i in range(n)
            ]
            np.testing.assert_allclose(entity["score"], chosen[place].mean())
            n_long += n > 1
        assert spelled == tags
    assert n_long > 5


ODD = [
    "👩‍🚀",
    "👍🏽",
    "🇦🇨",
    "cafe\u0301",
    "é",
    "\u0301",
    "न\u093f",
    "می\u200cخ",
    "中",
    "กำ",
]


SPACES = ["", " ", "\n", "\u00a0", "  ", "\u3000"]


def test_entities_of_strings_are_where_they_say(fitted_tagger):
    rng = random.Random(0)
    signs = [*POSITIVE, *NEGATIVE, *ODD]
    texts = [
        "".join(f"{rng.choice(signs)}{rng.choice(SPACES)}" for _ in range(12))
        for _ in range(200)
    ]
    texts += ["👩‍🚀good ,cafe\u0301\u00a0great\u3000🇦🇨 dull!"]
    found = fitted_tagger.predict_entities(texts)
    for text, entities in zip(texts, found, strict=True):
        for entity in entities:
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"].strip() == entity["text"] != ""
    assert sum(map(len, found)) > 200
    last = {entity["text"]: entity["label"] for entity in found[-1]}
    assert last["dull"] == "NEG"


def test_plain_tags_are_entities_where_they_stand_together(tagger):
    tagger.set_params(**ENOUGH).fit(*make_tagged(64, scheme="plain"))
    words = ["the", "good", "great", "bad", "film"]
    assert tagger.predict([words]) == [["X", "POS", "POS", "NEG", "X"]]
    entities = tagger.predict_entities([words])[0]
    assert [e["label"] for e in entities] == ["X", "POS", "NEG", "X"]


def test_counts_of_entities(fitted_tagger, X):
    counts = fitted_tagger.transform(X)
    assert counts.dtype == np.int64
    entities = fitted_tagger.predict_entities(X)
    expected = [
        [sum(e["label"] == name for e in row) for name in ("NEG", "POS")]
        for row in entities
    ]
    assert counts.tolist() == expected
    tagger = copy.copy(fitted_tagger).set_output(transform="pandas")
    index = list(range(64, 0, -1))
    frame = tagger.transform(pd.Series(X, index=index))
    assert frame.columns.tolist() == ["NEG", "POS"]
    assert frame.index.tolist() == index
    assert frame.to_numpy().tolist() == expected
    polars = copy.copy(fitted_tagger).set_output(transform="polars").transform(X)
    assert polars.columns == ["NEG", "POS"]


def test_scores(fitted_tagger, tagger, X, y):
    score = fitted_tagger.score(X, y)
    assert score == entity_f1_score(y, fitted_tagger.predict(X))
    weights = np.arange(64.0)
    assert fitted_tagger.score(X, y, sample_weight=weights) == entity_f1_score(
        y, fitted_tagger.predict(X), sample_weight=weights
    )
    only = np.zeros(64)
    only[5:9] = 1
    expected = fitted_tagger.score(X[5:9], y[5:9])
    assert fitted_tagger.score(X, y, sample_weight=only) == expected
    missed = [["B-NEW" if t == "B-POS" else t for t in tags] for tags in y]
    assert 0 < fitted_tagger.score(X, missed) < score
    with pytest.raises(ValueError, match="'POS' is not a valid tag"):
        fitted_tagger.score([["good"]], [["POS"]])
    with pytest.raises(ValueError, match=r"X\[0\] has 1 words"):
        fitted_tagger.score([["good"]], [["O", "O"]])
    with pytest.raises(ValueError, match=r"sample_weight|inconsistent|shape"):
        fitted_tagger.score(X, y, sample_weight=[1.0])


def test_scores_of_plain_tags(tagger):
    X, y = make_tagged(64, scheme="plain")
    tagger.fit(X, y)
    right = [np.equal(t, p) for t, p in zip(y, tagger.predict(X), strict=True)]
    assert tagger.score(X, y) == np.concatenate(right).mean()
    weights = np.arange(64.0)
    by_word = np.repeat(weights, [len(words) for words in X])
    np.testing.assert_allclose(
        tagger.score(X, y, sample_weight=weights),
        np.average(np.concatenate(right), weights=by_word),
    )
    unknown = [["NEW"] * len(words) for words in X]
    assert tagger.score(X, unknown) == 0
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        tagger.score(X, y, sample_weight=[1.0])


# Long texts


@pytest.fixture(scope="module")
def blind(fitted_tagger):
    """Return a tagger that looks at no other word, and not at where a word stands."""
    tagger = copy.deepcopy(fitted_tagger)
    encoder = tagger.model_.encoder
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.zero_()
        for layer in encoder.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.attention.output.dense.bias.zero_()
    return tagger.set_params(decode="greedy")


def test_a_long_document_is_tagged_completely(blind):
    words = random.Random(0).choices(VOCABULARY, k=20_000)
    expected = dict(
        zip(VOCABULARY, blind.predict_proba([[w] for w in VOCABULARY]), strict=True)
    )
    probabilities = blind.predict_proba([words])[0]
    assert probabilities.shape == (20_000, 5)
    rows = np.concatenate([expected[word] for word in words])
    np.testing.assert_allclose(probabilities, rows, rtol=0, atol=1e-5)
    tags = blind.predict([words, words[:3]])
    assert len(tags[0]) == 20_000
    assert tags[1] == tags[0][:3]
    text = " ".join(words)
    assert blind.predict([text]) == tags[:1]
    entities = blind.set_params(decode="viterbi").predict_entities([text])[0]
    assert len(entities) > 1000
    assert all(text[e["start"] : e["end"]] == e["text"] for e in entities)
    blind.set_params(decode="greedy")


def test_memory_stays_flat(fitted_tagger, monkeypatch):
    words = random.Random(0).choices(VOCABULARY, k=10_000)
    sizes = []
    embed = modules.PooledModel.embed

    def watched(self, **inputs):
        sizes.append(inputs["input_ids"].numel())
        return embed(self, **inputs)

    monkeypatch.setattr(modules.PooledModel, "embed", watched)

    def measure(n):
        sizes.clear()
        tracemalloc.start()
        fitted_tagger.predict([words[:n]])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / n, max(sizes)

    measure(500)
    few, many = measure(2500), measure(10_000)
    assert many[0] < 1.25 * few[0]
    assert many[1] <= 1.5 * few[1]


def test_a_word_is_tagged_by_the_window_around_it(fitted_tagger):
    fitted_tagger = copy.copy(fitted_tagger).set_params(
        max_length=10
    )  # eight words a window
    words = random.Random(1).choices(VOCABULARY, k=20)
    # Windows begin at words 0, 6 and 12: each word belongs to the one in whose middle
    # it is.
    windows = [words[0:8], words[6:14], words[12:20]]
    first, second, third = fitted_tagger.predict_proba(windows)
    expected = np.concatenate([first[:7], second[1:7], third[1:]])
    assert_close(fitted_tagger.predict_proba([words]), [expected])


def test_windows_in_training(tagger, X, y):
    long = [list(itertools.chain(*X[i : i + 16])) for i in range(0, 64, 16)]
    tags = [tag(words) for words in long]
    tagger.set_params(max_length=16, max_epochs=10, learning_rate=2e-2)
    tagger.set_params(batch_size=8).fit(long, tags)
    assert tagger.score(long, tags) > 0.7
    assert tagger.history_[0]["n_steps"] > 1  # windows count apiece
    assert tagger.set_params(max_length=None).score(long, tags) > 0.6


# Runtimes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")]
)
def test_another_runtime_gives_the_same(backend, package, fitted_tagger, mixed):
    pytest.importorskip(package)
    tagger = copy.deepcopy(fitted_tagger)
    expected = fitted_tagger.predict_proba(mixed)
    assert tagger.accelerate_inference(backend) is tagger
    tagger.model_.forward = None
    assert_close(tagger.predict_proba(mixed), expected, 1e-4)
    # Among thousands of words some tags may nearly tie.
    found, tags = (
        list(itertools.chain(*each.predict(mixed))) for each in (tagger, fitted_tagger)
    )
    assert np.mean(np.equal(found, tags)) > 0.999
