"""The loss curve shows what the history says."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_generators import save_writer
from tiny_models import make_sentences

from sktransformers import TransformerGenerator, TransformerRegressor, TransformerTagger
from sktransformers.inspection import LossCurveDisplay

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(display):
    """Return the drawn points by the label of their line."""
    return {line.get_label(): line.get_xydata() for line in display.ax_.get_lines()}


def test_loss_curve_of_training_and_held_out_texts(tiny_classifier, sentences):
    tiny_classifier.set_params(early_stopping=True, validation_fraction=0.25)
    tiny_classifier.fit(*sentences)
    lines = drawn(LossCurveDisplay.from_estimator(tiny_classifier))
    history = tiny_classifier.history_
    assert lines["training texts"][:, 1].tolist() == [r["train_loss"] for r in history]
    assert lines["held-out texts"][:, 1].tolist() == [r["valid_loss"] for r in history]
    assert lines["held-out texts"][-1, 0] == sum(r["n_steps"] for r in history)


def test_loss_curve_without_held_out_texts_draws_on_given_axes(fitted_classifier):
    ax = matplotlib.figure.Figure().subplots()
    display = LossCurveDisplay.from_estimator(fitted_classifier, ax=ax)
    assert display.ax_ is ax
    assert list(drawn(display)) == ["training texts"]


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("task", ["regressor", "tagger", "generator"])
def test_loss_curve_of_every_estimator(task, early_stopping, tiny_model, tmp_path):
    X, y = make_sentences(32)
    options = {"max_epochs": 2, "batch_size": 16, "device": "cpu", "random_state": 0}
    options["early_stopping"] = early_stopping
    if task == "regressor":
        estimator, y = TransformerRegressor(tiny_model, **options), [len(x) for x in X]
    elif task == "tagger":
        estimator, X = TransformerTagger(tiny_model, **options), [x.split() for x in X]
        y = [[label] * len(words) for label, words in zip(y, X, strict=True)]
    else:
        estimator = TransformerGenerator(save_writer(tmp_path, "llama"), **options)
    lines = drawn(LossCurveDisplay.from_estimator(estimator.fit(X, y)))
    names = {"training texts": "train_loss"}
    if early_stopping:
        names["held-out texts"] = "valid_loss"
    for label, name in names.items():
        expected = [record[name] for record in estimator.history_]
        assert lines.pop(label)[:, 1].tolist() == expected
    assert lines == {}


def test_loss_curve_needs_a_trained_estimator(tiny_classifier, sentences):
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(clone(tiny_classifier))
    untrained = tiny_classifier.set_params(max_epochs=0).fit(*sentences)
    with pytest.raises(ValueError, match="trained for 0 epochs"):
        LossCurveDisplay.from_estimator(untrained)


def test_loss_curve_of_what_is_around_the_estimator(fitted_classifier):
    pipeline = make_pipeline(FunctionTransformer(), fitted_classifier)
    with pytest.raises(TypeError, match=r"no `history_`.*pipeline\[-1\]"):
        LossCurveDisplay.from_estimator(pipeline)
    assert LossCurveDisplay.from_estimator(pipeline[-1]).valid_loss is None
