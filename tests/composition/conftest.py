"""Fixtures of the tests of compatibility with scikit-learn."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_models import NEUTRAL, POSITIVE

from sktransformers import TransformerRegressor

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def quick(tiny_classifier):
    """Return an unfitted classifier that trains for a few steps."""
    return tiny_classifier.set_params(max_epochs=2)


@pytest.fixture
def quick_regressor(tiny_model):
    """Return an unfitted regressor that trains for a few steps."""
    return TransformerRegressor(
        tiny_model,
        max_epochs=2,
        batch_size=16,
        learning_rate=1e-3,
        device="cpu",
        precision="float32",
        random_state=0,
    )


@pytest.fixture
def X(sentences):  # noqa: N802
    """Return 64 sentences."""
    return sentences[0]


@pytest.fixture
def y(sentences):
    """Return their labels, "neg" or "pos", as an array."""
    return np.array(sentences[1])


@pytest.fixture
def praise(X):
    """Return the number of words of each sentence; positive words count three times."""
    words = [text.split() for text in X]
    return np.array([len(w) + 2.0 * sum(v in POSITIVE for v in w) for w in words])


@pytest.fixture
def column(X):
    """Return the sentences as a data frame with one column."""
    return pd.DataFrame({"text": X})


@pytest.fixture
def rows(X):
    """Return the row index of each sentence, as a column."""
    return np.arange(len(X))[:, None]


@pytest.fixture
def by_row(X):
    """Return a function that prepends the look-up of texts to an estimator."""

    def put_before(estimator, texts=X):
        def look_up(numbers):
            return [texts[int(i)] for i in np.ravel(numbers)]

        return make_pipeline(FunctionTransformer(look_up), estimator)

    return put_before


@pytest.fixture
def three(X, y):
    """Return texts of three classes: every third text has neutral words only."""
    texts, labels = list(X), [str(label) for label in y]
    for i in range(0, len(texts), 3):
        texts[i] = " ".join(word for word in texts[i].split() if word in NEUTRAL)
        labels[i] = "none"
    return texts, np.array(labels)
