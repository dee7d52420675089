"""Fixtures that all tests share."""

import socket

import pytest
from tiny_models import TOKENIZER_OF, make_sentences, save_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Return the directory of a tiny BERT."""
    return save_tiny_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Return the directory of a tiny model of each architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp(name), name)
        for name in TOKENIZER_OF
    }


@pytest.fixture(scope="session")
def two_layer_models(tmp_path_factory):
    """Return the directory of a model of two layers, of each architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp(name), name, layers=2)
        for name in TOKENIZER_OF
    }


@pytest.fixture(scope="session")
def sentences():
    """Return 64 sentences and their labels, half "neg" and half "pos"."""
    return make_sentences(64)


@pytest.fixture
def n_threads():
    """Return a number of threads for a process that is to compute the same bits."""
    import torch

    number = torch.get_num_threads()
    torch.set_num_threads(number)  # else MKL may use fewer, in one of the two
    return number


@pytest.fixture
def tiny_classifier(tiny_model):
    """Return an unfitted classifier that trains in a fraction of a second."""
    from sktransformers import TransformerClassifier

    return TransformerClassifier(
        tiny_model,
        max_epochs=2,
        batch_size=16,
        learning_rate=1e-3,
        device="cpu",
        precision="float32",
        random_state=0,
    )


@pytest.fixture(scope="session")
def fitted_classifier(tiny_model, sentences):
    """Return a classifier fitted on the sentences; not to be changed."""
    from sktransformers import TransformerClassifier

    X, y = sentences
    return TransformerClassifier(
        tiny_model,
        max_epochs=8,
        batch_size=16,
        learning_rate=3e-3,
        device="cpu",
        precision="float32",
        random_state=0,
    ).fit(X, y)


@pytest.fixture
def offline(monkeypatch):
    """Cut the network; return the list of what was tried all the same."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("no network in this test")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tried
