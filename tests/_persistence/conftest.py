"""Fixtures shared by the tests of saving and loading."""

import shutil
from pathlib import Path

import pytest
from saved_models import MAKERS, X, Y
from tiny_models import save_tiny_model

from sktransformers import TransformerClassifier


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Return what makes a fitted estimator of a kind, and the directory it is in."""
    found = {}

    def get(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            estimator = MAKERS[kind](folder / "base")
            estimator.save_pretrained(folder / "saved")
            found[kind] = estimator, folder / "saved"
        return found[kind]

    return get


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Return a fitted classifier; not to be changed."""
    return MAKERS["pooled"](tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Return another one, that predicts something else."""
    folder = tmp_path_factory.mktemp("other")
    return TransformerClassifier(
        save_tiny_model(folder, initializer_range=0.1), device="cpu", trainable="head"
    ).fit(X, Y)


@pytest.fixture(scope="session")
def original(classifier, tmp_path_factory):
    """Return the directory that the classifier was saved to; not to be changed."""
    folder = tmp_path_factory.mktemp("original") / "saved"
    classifier.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """Return a directory that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "saved"))
