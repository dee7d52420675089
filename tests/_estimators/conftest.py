"""Fixtures shared by the tests of the estimators."""

import random

import pytest
from checked_estimators import OURS, make_estimator, save_models
from text_checks import TextCase
from tiny_generators import (
    CHAT,
    KINDS,
    make_generator,
    make_pairs,
    save_chat,
    save_writer,
)
from tiny_models import make_sentences
from tiny_taggers import ENOUGH, make_tagged, make_tagger
from tiny_translators import LANGUAGES, save_translator

# All estimators


@pytest.fixture(scope="session")
def text_cases(tmp_path_factory):
    """Return a case of each estimator; the checks share its fitted estimator."""
    models = save_models(tmp_path_factory.mktemp)
    cases = {kind: TextCase(make_estimator(cls, models)) for kind, cls in OURS.items()}
    tagger = cases["tagger"]
    rows = [text.split() for text in tagger.texts]
    cases["tagger of token lists"] = TextCase(tagger.estimator, rows, tagger.y)
    return cases


# Classifiers


@pytest.fixture(scope="session")
def text_pairs():
    """Return pairs of texts of which the second alone tells the label, and labels."""
    X, y = make_sentences(64)
    other, _ = make_sentences(64, seed=9)
    return list(zip(random.Random(1).sample(other, 64), X, strict=True)), y


# Taggers


@pytest.fixture
def tagger(tiny_model):
    """Return an unfitted tagger that trains in a fraction of a second."""
    return make_tagger(tiny_model)


@pytest.fixture(scope="module")
def fitted_tagger(tiny_model):
    """Return a tagger fitted on 64 texts; not to be changed."""
    return make_tagger(tiny_model, **ENOUGH).fit(*make_tagged(64))


# Generators


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[] if kind in ("gpt2", "t5") else pytest.mark.slow)
        for kind in KINDS
    ]
)
def kind(request):
    """Return each kind of model that writes; a decoder and an encoder-decoder first."""
    return request.param


@pytest.fixture(scope="session")
def writers(tmp_path_factory):
    """Return the directory of a tiny model of each kind."""
    return {kind: save_writer(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="session")
def pairs():
    """Return 64 sources of one letter or two, and their targets."""
    return make_pairs(64)


@pytest.fixture(scope="session")
def fitted_generators(writers, pairs):
    """Return a fitted generator of each kind; not to be changed."""
    # Without the last word a decoder cannot know where a source ends.
    params = {"prompt_template": "{text} it", "max_epochs": 30, "learning_rate": 5e-3}
    return {kind: make_generator(writers[kind], **params).fit(*pairs) for kind in KINDS}


@pytest.fixture(scope="session")
def chat_writer(tmp_path_factory):
    """Return the directory of a tiny model with a chat template."""
    return save_chat(tmp_path_factory.mktemp("chat"), CHAT)


@pytest.fixture(scope="session")
def translators(tmp_path_factory):
    """Return the directory of a tiny model of each multilingual family."""
    return {
        family: save_translator(tmp_path_factory.mktemp(family), family)
        for family in LANGUAGES
    }
