"""What a fit and a prediction leave as it was, whatever happens to them."""

import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from saved_models import NUMBERS, PARAMS, TAGS, WORDS, X, Y, save_writer
from sklearn.base import clone
from tiny_models import save_tiny_model

import sktransformers
from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)

PACKAGE = str(Path(sktransformers.__file__).parent)
N_POINTS = 20


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Return an unfitted estimator of each kind with what it learns and predicts."""
    model = save_tiny_model(tmp_path_factory.mktemp("bert"))
    writer = save_writer(tmp_path_factory.mktemp("writer"), "gpt2")
    params = PARAMS | {"early_stopping": True, "validation_fraction": 0.25}
    generator = TransformerGenerator(writer, max_new_tokens=3, do_sample=True, **params)
    return {
        "classifier": (TransformerClassifier(model, **params), X, Y),
        "regressor": (TransformerRegressor(model, **params), X, NUMBERS),
        "tagger": (TransformerTagger(model, **params), WORDS, TAGS),
        "generator": (generator, X, Y),
    }


KINDS = ["classifier", "regressor", "tagger", "generator"]


def global_state():
    """Return all that a library might change behind its user's back."""
    loggers = ["", "transformers", "huggingface_hub", "torch", "sktransformers"]
    numbers = np.random.get_state()  # noqa: NPY002
    return {
        "random": random.getstate(),
        "numpy": (numbers[1].tolist(), *numbers[2:]),
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(n) for n in signal.valid_signals()],
        "warnings": list(warnings.filters),
        "logging": [logging.getLogger(name).level for name in loggers],
        "handlers": [list(logging.getLogger(name).handlers) for name in loggers],
        "bars": (
            transformers.utils.logging.is_progress_bar_enabled(),
            huggingface_hub.utils.are_progress_bars_disabled(),
        ),
        "hooks": (sys.excepthook, sys.gettrace(), sys.getprofile()),
        "path": list(sys.path),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_global_changes_and_nothing_is_said(kind, jobs, caplog, capfd):
    estimator, A, B = jobs[kind]
    before = global_state()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        clone(estimator).fit(A, B).predict(A)
    after = global_state()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


class Interrupt:
    """Raise KeyboardInterrupt when a function of ours is called for the first time.

    Parameters
    ----------
    at : int or None
        Which function, in the order of their first calls. None: only count them.
    """

    def __init__(self, at=None):
        self.at = at
        self.known = []

    def __call__(self, frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        name = code.co_filename, code.co_qualname
        if name not in self.known:
            self.known.append(name)
            if self.at == len(self.known):
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *_error):
        sys.setprofile(None)


def predictions(estimator, A):
    """Return what is to stay the same to the bit."""
    name = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    return [np.asarray(row).tolist() for row in getattr(estimator, name)(A)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_anywhere_propagates_and_changes_nothing(kind, jobs):
    estimator, A, B = jobs[kind]
    fitted = clone(estimator).fit(A, B)
    expected, before = predictions(fitted, A), global_state()
    del before["warnings"]  # Python's own catch_warnings may be what is interrupted
    with Interrupt() as counter:
        fitted.fit(A, B)
    n_functions = len(counter.known)
    assert n_functions > 4 * N_POINTS
    parts = {Path(file).parent.name for file, _ in counter.known}
    assert {"_text", "_models", "_training", "_inference"} <= parts
    fitted.set_params(learning_rate=1e-1)  # so that another fit shows
    for at in np.linspace(2, n_functions - 1, N_POINTS).astype(int):
        with pytest.raises(KeyboardInterrupt), Interrupt(int(at)):
            fitted.fit(A, B)
        assert predictions(fitted, A) == expected
    after = global_state()
    assert [name for name in before if before[name] != after[name]] == []
    fitted.fit(A, B)  # and no lock is held
    assert predictions(fitted, A) != expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3])
def test_another_error_is_raised_once(kind, step, jobs, monkeypatch):
    estimator, A, B = jobs[kind]
    fitted = clone(estimator).fit(A, B)
    expected, calls = predictions(fitted, A), []
    original = torch.optim.AdamW.step

    def fail(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == step:
            raise RuntimeError("something else went wrong")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    fitted.set_params(batch_size=4)
    with pytest.raises(RuntimeError, match=r"^something else went wrong$"):
        fitted.fit(A, B)
    assert len(calls) == step
    assert predictions(fitted, A) == expected
