"""Tests of the model card."""

from pathlib import Path

import huggingface_hub
import torch
from saved_models import PARAMS, X, Y, read_again

from sktransformers import TransformerClassifier


def test_the_card_says_what_was_done_and_nothing_of_the_texts(tiny_model, tmp_path):
    secret = "zanzibar"
    texts = [f"{secret} {text}" for text in X]
    classifier = TransformerClassifier(
        tiny_model, **(PARAMS | {"max_epochs": 2}), early_stopping=True
    ).fit(texts, Y)
    classifier.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*.*"):
        assert secret.encode() not in path.read_bytes(), path
    card = huggingface_hub.ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "sktransformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model is None  # a path of this machine
    score = classifier.history_[-1]["valid_score"]
    for expected in (
        "TransformerClassifier.from_pretrained",
        "valid_score",
        f"| texts | `{len(texts)}` |",
        f"{score:.4g}",
        '| class names | `"neg", "pos"` |',
        "| learning_rate | `0.01` |",
        f"| torch | `{torch.__version__}` |",
    ):
        assert expected in card.text


def test_a_card_has_no_paths_of_this_machine(tiny_model, tmp_path):
    classifier = TransformerClassifier(
        Path(tiny_model),
        checkpoint_dir=tmp_path / "deep" / "interrupted",
        memory=str(tmp_path / "deep" / "cache"),
        trainable="head",
        device="cpu",
    ).fit(X, Y)
    classifier.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text("utf-8")
    assert str(tmp_path.parent) not in card
    assert str(Path(tiny_model).parent) not in card
    assert f'| model | `"{Path(tiny_model).name}"` |' in card
    assert '| checkpoint_dir | `"interrupted"` |' in card
    assert '| memory | `"cache"` |' in card


def test_a_card_names_a_base_from_the_hub(saved, tmp_path):
    estimator, folder = saved("pooled")
    other = read_again(estimator, folder)
    other._checkpoint_name = ("org/model", "abc")
    other.save_pretrained(tmp_path / "saved")
    card = huggingface_hub.ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.base_model == "org/model"
    assert "| base model revision | `abc` |" in card.text
