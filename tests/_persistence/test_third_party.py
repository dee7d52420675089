"""Tests of loading models that were not saved by this package."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from saved_models import WORDS, X, plain_logits, save_head, save_writer
from tiny_models import assert_close

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._models.files import quiet
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError


def test_labels_become_sorted_classes(tmp_path):
    names = ["pos", "neg", "meh"]
    folder = save_head(tmp_path / "model", "SequenceClassification", names)
    classifier = TransformerClassifier.from_pretrained(folder, device="cpu")
    assert classifier.classes_.tolist() == ["meh", "neg", "pos"]
    with quiet():
        pipe = transformers.pipeline("text-classification", folder, device="cpu")
        expected = [row["label"] for row in pipe(X)]
    assert classifier.predict(X).tolist() == expected
    assert classifier.model == folder
    assert (classifier.history_, classifier.n_epochs_) == ([], 0)
    classifier.save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert again.predict(X).tolist() == expected


@pytest.mark.parametrize("numbers", [[0, 1, 2], [2, 0, 1]])
def test_labels_without_names_become_integers(numbers, tmp_path):
    labels = [f"LABEL_{number}" for number in numbers]
    folder = save_head(tmp_path / "model", "SequenceClassification", labels)
    classifier = TransformerClassifier.from_pretrained(folder, device="cpu")
    assert classifier.classes_.tolist() == [0, 1, 2]
    with quiet():
        pipe = transformers.pipeline("text-classification", folder, device="cpu")
        expected = [row["label"] for row in pipe(X)]
    assert [f"LABEL_{number}" for number in classifier.predict(X)] == expected


def test_many_labels_become_indicators(tmp_path):
    folder = save_head(
        tmp_path / "model",
        "SequenceClassification",
        ["a", "b", "c"],
        problem_type="multi_label_classification",
    )
    classifier = TransformerClassifier.from_pretrained(folder)
    assert classifier.predict(X).shape == (len(X), 3)


def test_numbers_are_told_in_their_units(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["stars"])
    regressor = TransformerRegressor.from_pretrained(folder, device="cpu")
    auto = transformers.AutoModelForSequenceClassification
    _, logits = plain_logits(auto, folder, X)
    assert_close(regressor.predict(X), np.concatenate(logits))
    with pytest.raises(
        ModelFormatError, match=r"TransformerRegressor\.from_pretrained"
    ):
        TransformerClassifier.from_pretrained(folder)


def test_pairs_are_read_where_asked_for(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["no", "yes"])
    classifier = TransformerClassifier.from_pretrained(folder, n_columns=2)
    assert len(classifier.predict(list(zip(X, X[::-1], strict=True)))) == len(X)


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (["O", "I-PER", "B-PER"], "BIO"),
        (["O", "B-A", "I-A", "E-A", "S-A"], "BIOES"),
        (["O", "B-A", "I-A", "L-A", "U-A"], "BILOU"),
        (["O", "B-A", "M-A", "E-A", "S-A"], "BMES"),
        (["O", "I-PER", "I-LOC"], "IO"),
        (["NOUN", "VERB"], "plain"),
    ],
)
def test_tags_tell_their_scheme(labels, scheme, tmp_path):
    folder = save_head(tmp_path / "model", "TokenClassification", labels)
    tagger = TransformerTagger.from_pretrained(folder, device="cpu")
    assert tagger.scheme_ == scheme
    assert tagger.classes_.tolist() == sorted(labels)
    assert list(map(len, tagger.predict(WORDS))) == list(map(len, WORDS))


def test_tags_may_follow_iob1(tmp_path):
    # As CoNLL-2003 does: "I-" begins an entity, "B-" only separates adjacent ones.
    folder = save_head(
        tmp_path / "model", "TokenClassification", ["O", "B-PER", "I-PER"]
    )
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["classifier.weight"].zero_()
    tensors["classifier.bias"] = torch.tensor([1.0, -5.0, 4.0])
    save_file(tensors, path, metadata={"format": "pt"})
    tagger = TransformerTagger.from_pretrained(folder, device="cpu")
    assert tagger.predict([["a", "film"]]) == [["I-PER", "I-PER"]]
    (entity,) = tagger.predict_entities([["a", "film"]])[0]
    assert (entity["label"], entity["start"], entity["end"]) == ("PER", 0, 2)
    assert tagger.set_params(decode="viterbi").predict([["a"]]) == [["O"]]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_model_that_writes_needs_no_fit(kind, tmp_path):
    folder = save_writer(tmp_path / "model", kind)
    generator = TransformerGenerator.from_pretrained(folder, device="cpu")
    generator.set_params(max_new_tokens=4)
    fitted = TransformerGenerator(folder, max_epochs=0, max_new_tokens=4, device="cpu")
    assert np.array_equal(generator.predict(X[:6]), fitted.fit(X).predict(X[:6]))
    generator.save_pretrained(tmp_path / "saved")
    again = TransformerGenerator.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict(X[:6]), generator.predict(X[:6]))


@pytest.mark.parametrize(
    "cls", [TransformerClassifier, TransformerRegressor, TransformerTagger]
)
def test_without_a_trained_head_it_says_to_fit(cls, tiny_model):
    with pytest.raises(ModelFormatError, match=r"no trained head.*\.fit\(X, y\)"):
        cls.from_pretrained(tiny_model)


def test_a_head_whose_weights_are_missing_is_not_drawn_at_random(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["a", "b"])
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors = {k: v for k, v in tensors.items() if "classifier" not in k}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match=r"missing.*classifier"):
        TransformerClassifier.from_pretrained(folder)


def test_a_reader_is_no_writer(tiny_model):
    with pytest.raises(ModelFormatError, match="does not generate text"):
        TransformerGenerator.from_pretrained(tiny_model)


def test_what_is_nowhere_is_not_found(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        TransformerClassifier.from_pretrained(tmp_path / "nowhere")


# Labels of the configuration


def _save_labels(folder, task, labels, id2label):
    save_head(folder, task, labels)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("label2id")
    path.write_text(json.dumps(config | {"id2label": id2label}))
    return folder


KINDS = [
    ("SequenceClassification", TransformerClassifier, X),
    ("TokenClassification", TransformerTagger, WORDS),
]


@pytest.mark.parametrize(("task", "cls", "texts"), KINDS)
def test_labels_may_be_numbered_from_1(task, cls, texts, tmp_path):
    labels = ["b", "a", "c"]
    folder = _save_labels(
        tmp_path / "model", task, labels, {"1": "b", "2": "a", "3": "c"}
    )
    auto = getattr(transformers, f"AutoModelFor{task}")
    _, logits = plain_logits(auto, folder, X)
    estimator = cls.from_pretrained(folder, device="cpu")
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    if cls is TransformerClassifier:
        expected = [labels[row.argmax()] for row in logits]
        assert estimator.predict(X).tolist() == expected
        params = {"max_epochs": 0, "device": "cpu", "precision": "float32"}
        fitted = cls(folder, **params).fit(X, ["a", "b", "c"] * 8)
        assert fitted.predict(X).tolist() == expected
    expected = estimator.predict(texts[:3])
    estimator.save_pretrained(tmp_path / "saved")
    again = cls.from_pretrained(tmp_path / "saved").predict(texts[:3])
    assert list(map(list, again)) == list(map(list, expected))


@pytest.mark.parametrize(("task", "cls", "texts"), KINDS)
@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "a", "2": "b"}, r"from 0, without gaps.*\[0, 2\]"),
        ({"0": "a", "1": "a"}, r"a name of its own.*\['a', 'a'\]"),
        # The oldest transformers validates the type of names itself.
        ({"0": "a", "1": None}, r"a name of its own|field 'id2label'"),
        ({"0": "a", "1": "b", "2": "c"}, r"\(2,\) instead of \(3,\).*correct id2label"),
        ({"0": "a"}, r"\(2,\) instead of \(1,\).*correct id2label"),
        ({}, "without gaps"),
        ({"a": "0", "b": "1"}, "numbers of the outputs as keys"),
        (["a", "b"], "numbers of the outputs as keys"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_the_head(task, cls, texts, id2label, message, tmp_path):
    folder = _save_labels(tmp_path / "model", task, ["a", "b"], id2label)
    with pytest.raises(ModelFormatError, match=message):
        cls.from_pretrained(folder)


def test_a_head_of_another_task_and_size_is_replaced(tmp_path):
    folder = save_head(tmp_path, "TokenClassification", ["a", "b", "c"])
    params = {"pooling": "head", "max_epochs": 1, "device": "cpu"}
    classifier = TransformerClassifier(folder, **params).fit(X, ["a", "b"] * 12)
    assert classifier.predict_proba(X).shape == (len(X), 2)
