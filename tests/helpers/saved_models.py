"""Make tiny fitted estimators of every kind, and compare what they predict."""

import json

import numpy as np
import torch
import transformers
from generation_models import make_generative
from tiny_models import POSITIVE, make_sentences, make_word_tokenizer, save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._models.files import quiet
from sktransformers._persistence.manifest import write_manifest

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
# The files of a saved classifier that are read.
FILES = [
    *("MANIFEST.json", "config.json", "head.safetensors"),
    *("model.safetensors", "modules.json", "sentence_bert_config.json"),
    *("sktransformers.json", "tokenizer.json", "tokenizer_config.json"),
    "1_Pooling/config.json",
]


def save_writer(directory, kind):
    """Save a tiny generative model with its tokenizer; return the directory."""
    tokenizer, model = make_word_tokenizer("gpt2"), make_generative(kind)
    with quiet():
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


def save_head(directory, task, labels, **options):
    """Save a tiny BERT with a head for the labels; return the directory."""
    save_tiny_model(directory)
    auto = getattr(transformers, f"AutoModelFor{task}")
    names = dict(enumerate(labels))
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
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
    """Return the predictions of an estimator as one array."""
    if isinstance(estimator, TransformerGenerator):
        return estimator.predict(X[:6])
    if isinstance(estimator, TransformerTagger):
        return np.concatenate(estimator.predict_proba(WORDS))
    if isinstance(estimator, TransformerRegressor):
        return estimator.predict(X)
    return estimator.predict_proba(X)


def is_same(first, second):
    """Return whether the predictions of two estimators are equal."""
    return np.array_equal(predictions(first), predictions(second))


def read_again(estimator, folder, **options):
    """Load an estimator of the same class from a folder."""
    return type(estimator).from_pretrained(folder, **options)


def plain_logits(auto_class, folder, texts, **options):
    """Return the model as transformers loads it, and its logits for each text."""
    with quiet():
        model = auto_class.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [tokenizer(t, return_tensors="pt", **options) for t in texts]
        return model, [model(**row).logits[0].numpy() for row in rows]


def tree(folder):
    """Return the modification time and size of each file in a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
    }


def edit(path, change):
    """Change the content of a JSON file, and update the manifest."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content = change(content) or content
    path.write_text(json.dumps(content), encoding="utf-8")
    seal(path.parent)


def seal(folder):
    """Rewrite the manifest to match the files, as an attacker could."""
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    write_manifest(folder)
