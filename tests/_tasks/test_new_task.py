"""The example of CONTRIBUTING.md: what a new task takes, and what it gets for it."""

import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tiny_models import POSITIVE, assert_close

from sktransformers import _tasks

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def example():
    """Return a module with what the example defines."""
    section = GUIDE.read_text("utf-8").partition("## Add a task")[2]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 2
    name = "sktransformers._estimators.counter"
    module = sys.modules[name] = types.ModuleType(name)  # for pickle
    for block in blocks:
        exec(block, vars(module))
    yield module
    del sys.modules[name]


@pytest.fixture
def counter(example, tiny_model):
    """Return an unfitted estimator of counts."""
    return example.TransformerCounter(
        tiny_model,
        max_epochs=8,
        batch_size=16,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        device="cpu",
        precision="float32",
        random_state=0,
    )


@pytest.fixture
def counts(sentences):
    """Return the number of words of praise in each sentence."""
    return np.array([sum(w in POSITIVE for w in x.split()) for x in sentences[0]])


def test_counts_are_learned(counter, sentences, counts):
    X, _ = sentences
    predicted = counter.fit(X, counts).predict(X)
    assert predicted.shape == (64,)
    assert (predicted > 0).all()
    assert np.corrcoef(predicted, counts)[0, 1] > 0.8
    assert counter.transform(X).shape[0] == 64
    with pytest.raises(ValueError, match="whole number"):
        clone(counter).fit(X, counts - 0.5)


def test_it_composes(counter, sentences, counts):
    pytest.importorskip("peft")
    X, _ = sentences
    counter.set_params(early_stopping=True, max_epochs=3, long_text="window")
    search = GridSearchCV(counter.set_params(max_length=6), {"lora_rank": [None, 2]})
    search.set_params(cv=2).fit(X, counts)
    assert search.best_estimator_.history_[-1]["valid_score"] <= 1
    weighted = clone(counter).fit(X, counts, sample_weight=np.arange(64.0))
    copy = pickle.loads(pickle.dumps(weighted))
    assert np.array_equal(copy.predict(X), weighted.predict(X))


def test_it_is_saved(example, counter, sentences, counts, tmp_path, monkeypatch):
    X, _ = sentences
    monkeypatch.setattr(_tasks, "TASKS", (*_tasks.TASKS, example.CountTask))
    counter.fit(X, counts).save_pretrained(tmp_path / "saved")
    read = type(counter).from_pretrained(tmp_path / "saved")
    assert_close(read.predict(X), counter.predict(X), rtol=1e-6)
