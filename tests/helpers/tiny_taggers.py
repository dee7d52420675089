"""Make tagged texts, and taggers that train quickly on them."""

import random

import numpy as np
from tiny_models import NEGATIVE, POSITIVE, VOCABULARY

from sktransformers import TransformerTagger

TYPES = {**dict.fromkeys(POSITIVE, "POS"), **dict.fromkeys(NEGATIVE, "NEG")}
# Parameters of a fit that is long enough to learn the tags.
ENOUGH = {"max_epochs": 20, "learning_rate": 2e-2, "batch_size": 32}
SCHEMES = ["plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", "BMEWO"]
# The letters of the words inside, of the last one, and of an entity of a single word.
CLOSED = {"BIOES": "IES", "BILOU": "ILU", "BMES": "MES", "BMEWO": "MEW"}


def tag(words, scheme="BIO"):
    """Return the tags of words; adjacent words of one type form an entity."""
    # But "good" and "bad" always begin a new one.
    types = [TYPES.get(word) for word in words]
    if scheme == "plain":
        return [entity_type or "X" for entity_type in types]
    tags = []
    for i, entity_type in enumerate(types):
        if entity_type is None:
            tags.append("O")
            continue
        is_same = i > 0 and types[i - 1] == entity_type
        starts = words[i] in ("good", "bad") or not is_same
        is_last = types[i + 1 : i + 2] != [entity_type] or words[i + 1] in "good bad"
        letter = "B" if starts else "I"
        if scheme == "IO" or (scheme == "IOB1" and not is_same):
            letter = "I"
        if scheme in CLOSED:
            inside, last, single = CLOSED[scheme]
            letter = "B" if starts else inside
            if is_last:
                letter = single if starts else last
        tags.append(f"{letter}-{entity_type}")
    return tags


def make_tagged(n, *, seed=0, longest=9, scheme="BIO"):
    """Return lists of random words, and their tags."""
    rng = random.Random(seed)
    X = [rng.choices(VOCABULARY, k=rng.randint(1, longest)) for _ in range(n)]
    return X, [tag(words, scheme) for words in X]


def make_tagger(model, **params):
    """Return an unfitted tagger that trains quickly."""
    params = {"max_epochs": 3, "batch_size": 16, "learning_rate": 3e-3, **params}
    params = {"head_learning_rate": 1e-2, "random_state": 0, **params}
    return TransformerTagger(model, device="cpu", **{"precision": "float32", **params})


def equal(a, b, X):
    """Return whether the probabilities of two taggers are equal."""
    pairs = zip(a.predict_proba(X), b.predict_proba(X), strict=True)
    return all(np.array_equal(p, q) for p, q in pairs)


def assert_close(got, expected, atol=1e-5):
    """Check that the arrays of each text are equal up to rounding errors."""
    assert [len(g) for g in got] == [len(e) for e in expected]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=atol)


def ragged(rows):
    """Return rows of different lengths as an object array."""
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array
