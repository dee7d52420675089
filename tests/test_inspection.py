"""The loss curve shows what the history says."""

import matplotlib
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktransformers.inspection import LossCurveDisplay

matplotlib.use("Agg")


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


def test_loss_curve_needs_a_trained_estimator(tiny_classifier, sentences):
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(clone(tiny_classifier))
    untrained = tiny_classifier.set_params(max_epochs=0).fit(*sentences)
    with pytest.raises(ValueError, match="trained for 0 epochs"):
        LossCurveDisplay.from_estimator(untrained)
