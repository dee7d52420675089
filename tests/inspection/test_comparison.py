"""Models are compared on the user's data; those that fail are rows with a reason."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score

from sktransformers import TransformerClassifier
from sktransformers.exceptions import TextValueError
from sktransformers.inspection import compare_models


@pytest.fixture(scope="module")
def data(sentences):
    """Return texts with a word that the tokenizer does not know."""
    X, y = sentences
    return [f"{x} zebra" for x in X], y


def test_scores_are_those_of_cross_validation(tiny_models, data, tmp_path):
    X, y = data
    params = {"device": "cpu", "precision": "float32"}
    models = [tiny_models["bert"], str(tmp_path / "none"), tiny_models["gpt2"]]
    card = "---\nlicense: mit\nlanguage:\n- en\n- zh\n---\n"
    with open(f"{models[0]}/README.md", "w") as file:
        file.write(card)
    estimator = TransformerClassifier(**params)
    frame = compare_models(models, X, y, estimator=estimator, cv=3)
    assert set(frame["model"][:2]) == {models[0], models[2]}
    assert frame["frozen_score"][0] >= frame["frozen_score"][1]
    assert frame["model"][2] == models[1]
    assert frame["error"][2].startswith("ModelNotFoundError")
    assert frame["error"][:2].isna().all()
    row = frame.set_index("model").loc[models[0]]
    frozen = TransformerClassifier(
        models[0], trainable="head", random_state=0, **params
    )
    expected = cross_val_score(frozen, X, y, cv=3)
    assert row["frozen_score"] == pytest.approx(expected.mean())
    assert row["frozen_std"] == pytest.approx(expected.std())
    lengths = [len(x.split()) + 2 for x in X]
    assert row["tokens_per_text"] == pytest.approx(np.mean(lengths))
    assert row["unknown_tokens"] == pytest.approx(len(X) / sum(lengths))
    assert row["embedding_size"] == frozen.fit(X, y).transform(X[:1]).shape[1]
    assert row["license"] == "mit"
    assert row["languages"] == "en, zh"
    assert pd.isna(row["fine_tuned_score"])
    assert frame["model"][0] in frame.attrs["advice"]
    assert "unknown" in frame.attrs["advice"]


def test_fine_tuning_takes_as_many_texts_as_time_allows(tiny_model, data):
    X, y = data
    options = {"learning_rate": 1e-3, "device": "cpu", "precision": "float32"}
    estimator = TransformerClassifier(max_epochs=2, **options)
    frame = compare_models(
        [tiny_model], X, y, estimator=estimator, cv=2, fine_tune_seconds=1000
    )
    assert frame["fine_tuned_texts"][0] == math.floor(len(X) * 0.8)
    assert 0 <= frame["fine_tuned_score"][0] <= 1
    frame = compare_models(
        [tiny_model], X, y, estimator=estimator, cv=2, fine_tune_seconds=1e-9
    )
    assert frame["fine_tuned_texts"][0] == 2
    frame = compare_models([tiny_model], X, np.arange(64) / 7, cv=2)
    assert frame["frozen_score"][0] <= 1


def test_invalid_input(tiny_model, data, tmp_path):
    X, y = data
    with pytest.raises(ValueError, match="at least one model"):
        compare_models([], X, y)
    with pytest.raises(ValueError, match="fine_tune_seconds must be above 0"):
        compare_models([tiny_model], X, y, fine_tune_seconds=0)
    with pytest.raises(TextValueError, match=r"X\[1\]"):
        compare_models([tiny_model], ["a", None], [0, 1])
    frame = compare_models([str(tmp_path)], X, y)
    assert frame.attrs["advice"].startswith("None of the models could be used")
