"""Fitted estimators of every kind, tiny, and what they predict; for tests of saving."""

import json

import numpy as np
import transformers
from conftest import POSITIVE, make_sentences, make_word_tokenizer, save_tiny_model
from generation_models import make_generative

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers.models.files import quiet
from sktransformers.persistence._manifest import write_manifest

X, Y = make_sentences(24)
WORDS = [text.split() for text in X]
TAGS = [["B-GOOD" if w in POSITIVE else "O" for w in words] for words in WORDS]
NUMBERS = [100.0 * len(text) for text in X]
INDICATORS = np.array(
    [[y == "pos", "film" in x, "plot" in x] for x, y in zip(X, Y, strict=True)]
)
PARAMS = {
    "max_epochs": 1,
    "learning_rate": 1e-2,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}


def save_writer(directory, kind):
    """Save a tiny model that writes, with its tokenizer; return the directory."""
    tokenizer, model = make_word_tokenizer("gpt2"), make_generative(kind)
    with quiet():
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


def save_head(directory, task, labels, **options):
    """Save a tiny BERT with a head that gives the labels; return the directory."""
    save_tiny_model(directory)
    auto = getattr(transformers, f"AutoModelFor{task}")
    names = dict(enumerate(labels))
    with quiet():
        config = transformers.AutoConfig.from_pretrained(
            directory, id2label=names, label2id={n: i for i, n in names.items()}
        )
        for name, value in options.items():
            setattr(config, name, value)
        auto.from_config(config).save_pretrained(directory)
    return str(directory)


def _classifier(folder, **params):
    return TransformerClassifier(save_tiny_model(folder), **(PARAMS | params))


def _writer(folder, kind, **params):
    params = PARAMS | {"max_new_tokens": 4} | params
    return TransformerGenerator(save_writer(folder, kind), **params).fit(X, Y)


def _tagger(folder):
    model = save_head(folder, "TokenClassification", ["O", "B-GOOD"])
    return TransformerTagger(model, **PARAMS).fit(WORDS, TAGS)


MAKERS = {
    "pooled": lambda f: _classifier(f, early_stopping=True).fit(X, Y),
    "head": lambda f: _classifier(f, pooling="head").fit(X, Y),
    "labels": lambda f: _classifier(f, pooling="head").fit(X, INDICATORS.astype(int)),
    "decoder": lambda f: TransformerClassifier(
        save_tiny_model(f, "gpt2"), **PARAMS
    ).fit(X, Y),
    "half": lambda f: TransformerClassifier(
        save_writer(f, "t5"), **PARAMS, pooling="mean"
    ).fit(X, Y),
    "float64": lambda f: _classifier(f, precision="float64").fit(X, Y),
    "numbers": lambda f: TransformerRegressor(save_tiny_model(f), **PARAMS).fit(
        X, NUMBERS
    ),
    "numbers-head": lambda f: TransformerRegressor(
        save_tiny_model(f), **PARAMS, pooling="head"
    ).fit(X, np.stack([NUMBERS, np.negative(NUMBERS)], axis=1)),
    "numbers-decoder": lambda f: TransformerRegressor(
        save_tiny_model(f, "gpt2"), **PARAMS, pooling="head"
    ).fit(X, NUMBERS),
    "tagger": lambda f: TransformerTagger(save_tiny_model(f), **PARAMS).fit(
        WORDS, TAGS
    ),
    "tagger-head": _tagger,
    "writer": lambda f: _writer(f, "gpt2"),
    "pair-writer": lambda f: _writer(f, "bart", do_sample=True, top_k=5),
    "adapter": lambda f: _classifier(f, lora_rank=2).fit(X, Y),
    "adapter-head": lambda f: _classifier(f, lora_rank=2, pooling="head").fit(X, Y),
    "adapter-writer": lambda f: _writer(f, "gpt2", lora_rank=2),
}


def predictions(estimator):
    """Return one array of all that an estimator predicts."""
    if isinstance(estimator, TransformerGenerator):
        return estimator.predict(X[:6])
    if isinstance(estimator, TransformerTagger):
        return np.concatenate(estimator.predict_proba(WORDS))
    if isinstance(estimator, TransformerRegressor):
        return estimator.predict(X)
    return estimator.predict_proba(X)


def edit(path, change):
    """Change the JSON of a file in place, and the manifest with it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content = change(content) or content
    path.write_text(json.dumps(content), encoding="utf-8")
    seal(path.parent)


def seal(folder):
    """Write the manifest anew, as somebody who means harm would."""
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    write_manifest(folder)
