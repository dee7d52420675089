"""Explanations name the words that a prediction depends on, and change nothing."""

import sys
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_generators import make_generator, make_pairs, save_writer
from tiny_models import NEGATIVE, POSITIVE
from tiny_taggers import ENOUGH, make_tagged, make_tagger

from sktransformers import TransformerClassifier, TransformerRegressor
from sktransformers.exceptions import ExplanationWarning, TextValueError
from sktransformers.inspection import (
    explain,
    explain_corpus,
    explanation_fidelity,
)

QUICK = {
    "max_epochs": 8,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}


def fit(kind, model, sentences):
    """Return a fitted estimator of a kind, and texts."""
    X, y = sentences
    codes = np.array([label == "pos" for label in y], dtype=int)
    if kind == "regressor":
        return TransformerRegressor(model, **QUICK).fit(X, codes * 3.0), X
    if kind == "multilabel":
        Y = np.stack([codes, 1 - codes, np.arange(len(y)) % 2], axis=1)
        return TransformerClassifier(model, **QUICK).fit(X, Y), X
    if kind == "three classes":
        labels = [f"{label}{len(x.split()) > 6}" for x, label in zip(X, y, strict=True)]
        return TransformerClassifier(model, **QUICK).fit(X, labels), X
    if kind == "pairs":
        pairs = list(zip(X[::-1], X, strict=True))
        return TransformerClassifier(model, **QUICK).fit(pairs, y), pairs
    if kind == "windows":
        params = {"long_text": "window", "max_length": 12}
        classifier = TransformerClassifier(model, **QUICK, **params).fit(X, y)
        return classifier, [" ".join(X[i : i + 4]) for i in range(8)]
    params = {
        "binary": {},
        "head": {"pooling": "head"},
        "lora": {"lora_rank": 2, "learning_rate": 1e-2},
        "bfloat16": {"inference_precision": "bfloat16"},
        "frozen": {"trainable": "head"},
    }[kind]
    return TransformerClassifier(model, **{**QUICK, **params}).fit(X, y), X


def scores(estimator, X, target):
    """Return the log-odds of a target, or the numbers, by the public methods."""
    if not hasattr(estimator, "classes_"):
        return np.ravel(estimator.predict(X))
    p = estimator.predict_proba(X)[:, list(estimator.classes_).index(target)]
    return np.log(p) - np.log1p(-p)


@pytest.mark.parametrize(
    "kind",
    [
        *("binary", "three classes", "multilabel", "regressor", "pairs", "windows"),
        *("head", "lora", "bfloat16", "frozen"),
    ],
)
def test_integrated_gradients_add_up_to_the_score(kind, tiny_model, sentences):
    estimator, X = fit(kind, tiny_model, sentences)
    for row, found in enumerate(explain(estimator, X[:6])):
        assert found.method == "integrated_gradients"
        assert found.sample_index == row
        rtol = 0.2 if kind == "bfloat16" else 1e-3
        expected = scores(estimator, X[row : row + 1], found.target)[0]
        assert found.score == pytest.approx(expected, rel=rtol, abs=rtol)
        difference = found.score - found.baseline_score
        total = found.attributions.sum()
        assert total == pytest.approx(difference, rel=0.021, abs=1e-5)
        tokens = sum(token["attribution"] for token in found.tokens)
        assert tokens == pytest.approx(total, rel=1e-6, abs=1e-9)
        texts = X[row] if isinstance(X[row], tuple) else (X[row],)
        assert found.texts == texts
        for word in [*found.words, *found.tokens]:
            assert texts[word["column"]][word["start"] : word["end"]] == word["text"]
        words = [word["text"] for word in found.words]
        assert words == " ".join(texts).split()
    if kind == "binary":
        assert found.target == estimator.predict(X[5:6])[0]
        top = found.words[int(found.attributions.argmax())]["text"]
        assert top in POSITIVE + NEGATIVE


@pytest.mark.parametrize("kind", ["binary", "multilabel", "regressor", "pairs"])
def test_occlusion_is_the_change_of_the_score_without_a_word(
    kind, tiny_model, sentences
):
    estimator, X = fit(kind, tiny_model, sentences)
    target = {"binary": "pos", "multilabel": 2}.get(kind)
    (found,) = explain(estimator, X[:1], target, method="occlusion")
    texts = list(X[0]) if isinstance(X[0], tuple) else [X[0]]
    for i, word in enumerate(found.words[-3:], start=len(found.words) - 3):
        rest = [w["text"] for w in found.words if w["column"] == word["column"]]
        before = sum(w["column"] < word["column"] for w in found.words)
        del rest[i - before]
        without = [*texts]
        without[word["column"]] = " ".join(rest)
        row = tuple(without) if len(texts) > 1 else without[0]
        both = scores(estimator, [X[0], row], found.target)
        assert word["attribution"] == pytest.approx(both[0] - both[1], abs=1e-3)


def test_occlusion_of_a_linear_model_finds_its_coefficients():
    texts = ["good film", "bad film", "a good one", "a bad one", "film"]
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    model.fit(texts, ["pos", "neg", "pos", "neg", "pos"])
    names = model[0].get_feature_names_out()
    weights = dict(zip(names, model[1].coef_[0], strict=True))
    frame = pd.DataFrame({"length": [1, 2], "text": ["bad good film", "one"]})
    columns = make_pipeline(FunctionTransformer(lambda X: X["text"]), model)
    columns.fit(frame, ["neg", "pos"])
    columns.steps[-1] = ("model", model.fit(texts, ["pos", "neg", "pos", "neg", "pos"]))
    for estimator, X in ((model, list(frame["text"])), (columns, frame)):
        first, second = explain(estimator, X, "pos")
        got = {word["text"]: word["attribution"] for word in first.words}
        assert got == pytest.approx({name: weights[name] for name in got})
        assert second.words[0]["attribution"] == pytest.approx(weights["one"])


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients"])
def test_truncated_words_are_marked_as_unread(method, tiny_model, sentences):
    estimator, X = fit("binary", tiny_model, sentences)
    estimator.set_params(max_length=6)
    with pytest.warns(match="truncated"):
        (found,) = explain(estimator, [" ".join(X[:3])], method=method)
    assert [word["is_read"] for word in found.words[:5]] == [True] * 4 + [False]
    assert not any(word["is_read"] for word in found.words[4:])
    assert not found.attributions[4:].any()


def test_nothing_of_the_estimator_changes(tiny_model, sentences):
    estimator, X = fit("binary", tiny_model, sentences)
    before = estimator.predict_proba(X)
    state = [(p, p._version, p.grad) for p in estimator.model_.parameters()]
    embedding = estimator.model_.encoder.get_input_embeddings()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    results = []

    def predict():
        for _ in range(20):
            results.append(estimator.predict_proba(X))

    thread = threading.Thread(target=predict)
    thread.start()
    explain(estimator, X[:8])
    thread.join()
    results.append(estimator.predict_proba(X))
    np.testing.assert_allclose(results, [before] * 21, atol=1e-6)
    assert not estimator.model_.training
    assert estimator.model_.encoder.get_input_embeddings() is embedding
    for (p, version, grad), now in zip(
        state, estimator.model_.parameters(), strict=True
    ):
        assert now is p
        assert now._version == version
        assert grad is None
        assert now.grad is None
        assert now.requires_grad
    now = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(now, numbers)


def test_steps_are_doubled_until_the_attributions_add_up(tiny_model, sentences):
    estimator, X = fit("binary", tiny_model, sentences)
    for found in explain(estimator, X[:4], method="integrated_gradients", n_steps=1):
        difference = found.score - found.baseline_score
        assert found.attributions.sum() == pytest.approx(difference, rel=0.021)


@pytest.mark.parametrize("as_text", [False, True])
def test_entities_of_a_tagger(as_text, tiny_model):
    tagger = make_tagger(tiny_model, **ENOUGH).fit(*make_tagged(64))
    X = [["the", "film", "was", "good"], ["a", "table"], ["bad", "service"]]
    X = [" ".join(words) for words in X] if as_text else X
    found = explain(tagger, X)
    entities = tagger.predict_entities(X)
    assert [e.target for e in found] == [e for row in entities for e in row]
    assert {"good", "bad"} <= {e.target["text"] for e in found}
    for explanation in found:
        if explanation.target["text"] not in ("good", "bad"):
            continue  # one that the small model makes up
        top = explanation.words[int(explanation.attributions.argmax())]
        assert top["text"] == explanation.target["text"]
        text = explanation.texts[0]
        assert text[top["start"] : top["end"]] == top["text"]
    labels = {e.target["label"] for e in explain(tagger, X, "POS")}
    assert labels == {"POS"}
    with pytest.raises(ValueError, match=r"target='X' is not among the entity types"):
        explain(tagger, X, "X")
    with pytest.raises(ValueError, match="occlusion"):
        explain(tagger, X, method="integrated_gradients")


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_output_tokens_of_a_generator(family, tmp_path):
    X, y = make_pairs(84)
    path = save_writer(tmp_path, family)
    generator = make_generator(path, max_epochs=12).fit(X, y)
    text = next(x for x in X if len(x) > 1 and x[0] != x[2])
    (found,) = explain(generator, [text])
    assert found.target == generator.predict([text])[0]
    assert [word["text"] for word in found.words] == text.split()
    n_tokens = len(found.output_tokens)
    assert found.output_attributions.shape == (2, n_tokens)
    np.testing.assert_allclose(
        found.output_attributions.sum(axis=1), found.attributions
    )
    perplexity = generator.perplexity([text], [found.target])[0]
    assert found.score == pytest.approx(-np.log(perplexity) * n_tokens, rel=1e-4)
    without = explain(generator, [text.split()[1]], found.target)[0]
    expected = found.score - without.score
    assert found.words[0]["attribution"] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="one output text for each of the 1 texts"):
        explain(generator, [text], ["a", "b"])
    with pytest.raises(ValueError, match="tagger or generator"):
        explain(generator, [text], method="integrated_gradients")
    with pytest.raises(TextValueError, match=r"X\[0\] and its output text are longer"):
        explain(generator.set_params(max_length=4), [text + " a b c"], "a")


def test_without_captum_or_embeddings(tiny_model, sentences, monkeypatch):
    estimator, X = fit("binary", tiny_model, sentences)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "captum.attr", None)
        with pytest.warns(ExplanationWarning, match=r"sktransformers-text\[explain\]"):
            (found,) = explain(estimator, X[:1])
        assert found.method == "occlusion"
        with pytest.raises(ImportError, match=r"sktransformers-text\[explain\]"):
            explain(estimator, X[:1], method="integrated_gradients")

    def missing(_):
        raise NotImplementedError

    monkeypatch.setattr(type(estimator.model_.encoder), "get_input_embeddings", missing)
    with pytest.warns(ExplanationWarning, match="cannot be reached"):
        (found,) = explain(estimator, X[:1])
    assert found.method == "occlusion"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, r"target='x' is not among .*\['neg', 'pos'\]", {"target": "x"}),
        (ValueError, "method must be one of", {"method": "x"}),
        (ValueError, "n_steps must be an int of at least 1. Got 0", {"n_steps": 0}),
        (TextValueError, r"X\[1\]", {"X": ["a", None]}),
        (TextValueError, "single str", {"X": "text"}),
    ],
)
def test_invalid_input(error, message, kwargs, fitted_classifier):
    with pytest.raises(error, match=message):
        explain(fitted_classifier, **{"X": ["a"], **kwargs})


def test_unfitted_and_unsuitable_estimators(tiny_model):
    with pytest.raises(NotFittedError):
        explain(TransformerClassifier(tiny_model), ["a"])
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    with pytest.raises(ValueError, match="classifier or regressor of this package"):
        explain(
            model.fit(["an ox", "my cow"], [0, 1]),
            ["ox"],
            method="integrated_gradients",
        )
    single = TransformerClassifier(tiny_model, max_epochs=0).fit(["a", "b"], [1, 1])
    with pytest.raises(ValueError, match="single class"):
        explain(single, ["a"])


def test_a_text_without_words_has_no_attributions(fitted_classifier):
    for method in ("occlusion", "integrated_gradients"):
        empty, blank = explain(fitted_classifier, ["", "  \n"], method=method)
        assert empty.words == blank.words == []
        assert empty.score == pytest.approx(empty.baseline_score)


def test_fidelity_prefers_true_explanations(fitted_classifier, sentences):
    X, _ = sentences
    true = explain(fitted_classifier, X[:20], method="occlusion")
    wrong = explain(fitted_classifier, X[:20], method="occlusion")
    for explanation in wrong:
        for word in explanation.words:
            word["attribution"] *= -1
    good = explanation_fidelity(fitted_classifier, true)
    bad = explanation_fidelity(fitted_classifier, wrong)
    assert good["comprehensiveness"] > bad["comprehensiveness"] + 0.2
    assert good["sufficiency"] < bad["sufficiency"] - 0.2
    p = fitted_classifier.predict_proba(X[:20]).max(axis=1)
    without = fitted_classifier.predict_proba([""])[0]
    columns = [list(fitted_classifier.classes_).index(e.target) for e in true]
    everything = explanation_fidelity(fitted_classifier, true, fractions=[1.0])
    expected = (p - without[columns]).mean()
    assert everything["comprehensiveness"] == pytest.approx(expected, abs=1e-5)
    assert everything["sufficiency"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="fractions"):
        explanation_fidelity(fitted_classifier, true, fractions=[0])
    with pytest.raises(ValueError, match="at least one with words"):
        explanation_fidelity(fitted_classifier, [])


def test_a_planted_artefact_leads_the_corpus(tiny_model, sentences):
    X, y = sentences
    X = [x + " table" if label == "neg" else x for x, label in zip(X, y, strict=True)]
    words = {*POSITIVE, *NEGATIVE}
    X = [" ".join("film" if w in words else w for w in x.split()) for x in X]
    classifier = TransformerClassifier(tiny_model, **QUICK).fit(X, y)
    corpus = explain_corpus(classifier, X, max_words=2)
    assert "table" in corpus[corpus["target"] == "neg"]["phrase"].iloc[0].split()
    single = explain_corpus(classifier, X, "neg", max_words=1)
    assert single["phrase"].iloc[0] == "table"
    assert single["n_texts"].iloc[0] == sum("table" in x.split() for x in X)
    np.testing.assert_allclose(single["mean"] * single["n_texts"], single["total"])
    for name in ("max_words", "min_texts"):
        with pytest.raises(ValueError, match=f"{name} must be an int of at least 1"):
            explain_corpus(classifier, X, **{name: 0})
