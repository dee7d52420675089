"""Tests of TransformerClassifier: reproducibility, side effects and errors."""

import copy
import os
import random
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from tiny_models import bit_equal

from sktransformers import TransformerClassifier
from sktransformers._tasks.labels import LabelTask
from sktransformers.exceptions import (
    DivergenceError,
    ModelFormatError,
    ModelNotFoundError,
    TextTypeError,
    TextValueError,
)

NAN = float("nan")


@pytest.fixture(scope="module")
def X(sentences):  # noqa: N802
    return sentences[0]


@pytest.fixture(scope="module")
def y(sentences):
    return sentences[1]


# Reproducibility and hidden effects


@pytest.mark.parametrize("seed", [0, np.random.RandomState(5)], ids=["int", "instance"])
def test_a_random_state_makes_a_fit_repeatable(seed, tiny_classifier, X, y):
    a, b = (
        clone(tiny_classifier).set_params(random_state=copy.deepcopy(seed)).fit(X, y)
        for _ in range(2)
    )
    assert bit_equal(a, b, X)
    assert all(
        torch.equal(p, q)
        for p, q in zip(a.model_.parameters(), b.model_.parameters(), strict=True)
    )
    assert not bit_equal(
        a, clone(tiny_classifier).set_params(random_state=1).fit(X, y), X
    )


def global_state():
    from transformers.utils import logging

    return {
        "random": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state())),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "verbosity": (logging.get_verbosity(), logging.is_progress_bar_enabled()),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "directory": os.listdir(),
    }


@pytest.mark.parametrize("ending", ["success", "error"])
def test_no_global_state_changes(
    ending, tiny_classifier, tiny_model, X, y, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model_files = {f.name: f.stat().st_mtime_ns for f in Path(tiny_model).iterdir()}
    before = global_state()
    if ending == "success":
        tiny_classifier.set_params(early_stopping=True).fit(X, y).predict(X)
        tiny_classifier.partial_fit(X, y).transform(X)
    else:
        with pytest.raises(DivergenceError):
            tiny_classifier.set_params(learning_rate=1e30).fit(X, y)
    after = global_state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert model_files == {
        f.name: f.stat().st_mtime_ns for f in Path(tiny_model).iterdir()
    }
    assert capfd.readouterr() == ("", "")


def test_the_inputs_are_left_alone(tiny_classifier, X, y):
    frame = pd.DataFrame({"text": X})
    labels, weights = np.array(y), np.arange(64, dtype=float)
    copies = frame.copy(), labels.copy(), weights.copy()
    class_weight = {"pos": 2}
    tiny_classifier.set_params(class_weight=class_weight)
    tiny_classifier.fit(frame, labels, sample_weight=weights).predict(frame)
    pd.testing.assert_frame_equal(frame, copies[0])
    assert np.array_equal(labels, copies[1])
    assert np.array_equal(weights, copies[2])
    assert class_weight == {"pos": 2}


def test_a_model_in_training_mode_predicts_without_dropout(tiny_classifier, X, y):
    classifier = tiny_classifier.fit(X, y)
    expected = classifier.predict_proba(X)
    classifier.model_.encoder.train()
    assert np.array_equal(classifier.predict_proba(X), expected)


def test_a_fitted_classifier_keeps_no_gradients(fitted_classifier):
    assert all(p.grad is None for p in fitted_classifier.model_.parameters())
    assert not fitted_classifier.model_.training


# Failures


@pytest.fixture
def earlier(tiny_classifier, X, y):
    """Return a fitted classifier, a check that it is intact, and a fit that fails."""
    tiny_classifier.fit(X, y)
    state = dict(vars(tiny_classifier))
    probabilities = tiny_classifier.predict_proba(X)

    def is_intact():
        fitted = {k: v for k, v in vars(tiny_classifier).items() if k.endswith("_")}
        unchanged = all(state[name] is value for name, value in fitted.items())
        return unchanged and np.array_equal(
            tiny_classifier.predict_proba(X), probabilities
        )

    assert is_intact()
    return tiny_classifier, is_intact


@pytest.mark.parametrize("step", [1, 2, 9])
@pytest.mark.parametrize("params", [{"warm_start": True}, {"pooling": "head"}], ids=str)
def test_a_loss_that_becomes_nan(step, params, earlier, X, y, monkeypatch):
    classifier, is_intact = earlier
    calls = []
    true_loss = LabelTask.loss

    def loss(self, outputs, targets):
        calls.append(1)
        return true_loss(self, outputs, targets) * (NAN if len(calls) == step else 1)

    monkeypatch.setattr(LabelTask, "loss", loss)
    with pytest.raises(DivergenceError, match=r"became nan.*Lower learning_rate"):
        classifier.set_params(max_epochs=4, **params).fit(X, y)
    assert len(calls) == step
    assert is_intact()


@pytest.mark.parametrize("rate", [1e3, 1e30, 3e38])
@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("max_epochs", [1, 4])
def test_a_huge_learning_rate_never_looks_like_success(
    rate, batch_size, max_epochs, earlier, X, y
):
    classifier, is_intact = earlier
    classifier.set_params(
        learning_rate=rate,
        head_learning_rate=rate,
        batch_size=batch_size,
        max_epochs=max_epochs,
        warmup_ratio=0,
    )
    try:
        classifier.fit(X, y)
    except DivergenceError:
        assert is_intact()
    else:
        assert np.isfinite(classifier.predict_proba(X)).all()


class Interrupt:
    """A callback that raises at a given call."""

    def __init__(self, at, error):
        self.at, self.error, self.calls = at, error, 0

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context):
        self.calls += 1
        if self.calls == self.at:
            raise self.error

    on_fit_task_end = on_fit_task_begin


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupt_leaves_the_earlier_fit_intact(warm_start, earlier, X, y):
    classifier, is_intact = earlier
    classifier.set_params(max_epochs=2, warm_start=warm_start)
    n_calls = 2 * (1 + 2 + 8)  # the fit, its epochs and its steps begin and end
    for at in range(1, n_calls + 1, 2):
        classifier.set_callbacks(Interrupt(at, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(X, y)
        assert is_intact()
    last = Interrupt(n_calls + 1, KeyboardInterrupt())
    classifier.set_callbacks(last).fit(X, y)
    assert last.calls == n_calls


BAD_X = [
    ("a text", TextValueError, "single str"),
    (b"a text", TextValueError, "single bytes"),
    ([], TextValueError, "0 sample"),
    (["good", None], TextValueError, r"X\[1\].*None"),
    (["good", NAN], TextValueError, r"X\[1\].*nan"),
    (pd.Series(["good", pd.NA], dtype="string"), TextValueError, r"X\[1\].*NA"),
    (["good", b"bad"], TextValueError, r"X\[1\].*decode"),
    (["good", 3], TextValueError, r"X\[1\].*3"),
    ([1.5, 2.5], TextValueError, r"X\[0\]"),
    (np.zeros((2, 3)), TextValueError, "shape"),
    (np.array([["a", "b", "c"]]), TextValueError, "shape"),
    (sparse.eye_array(2), TextTypeError, "[Ss]parse"),
    ((text for text in ["good", "bad"]), TextTypeError, "list"),
    ({"good": "bad"}, TextTypeError, "dict"),
    (None, TextTypeError, "NoneType"),
    (7, TextTypeError, "int"),
    ([("good", "bad"), "dull"], TextValueError, r"X\[1\].*pair"),
    (pd.DataFrame({"a": ["good", None]}), TextValueError, r"X\[1\].*'a'"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_X)
def test_bad_texts(bad, error, message, fitted_classifier):
    classifier = copy.copy(fitted_classifier)
    model = classifier.model_
    with pytest.raises(error, match=message):
        classifier.fit(bad, ["neg", "pos"])
    if not hasattr(bad, "__next__"):
        for method in (classifier.predict, classifier.predict_proba):
            with pytest.raises(error, match=message):
                method(bad)
    assert classifier.model_ is model


@pytest.mark.parametrize(
    ("change", "params", "error", "message"),
    [
        ({"y": None}, {}, ValueError, "requires y to be passed"),
        ({"y": [1.5, 2.5] * 32}, {}, ValueError, "continuous"),
        ({"y": ["a", None] * 32}, {}, ValueError, r"y\[1\] is None"),
        ({"y": ["a"] * 63}, {}, ValueError, "inconsistent numbers of samples"),
        ({"sample_weight": [-1.0] * 64}, {}, ValueError, "[Nn]egative"),
        ({}, {"model": "./no/such/model"}, ModelNotFoundError, "no such directory"),
        ({}, {"model": "."}, ModelFormatError, "no config.json"),
        ({}, {"max_length": 2}, ValueError, "max_length"),
        ({}, {"device": "cuda:99"}, ValueError, "0 CUDA devices|no MPS|CUDA"),
        ({}, {"device": "toaster"}, ValueError, "device must be"),
        ({}, {"trainable": 3}, ValueError, "has 1 layers"),
        ({}, {"max_epochs": -1}, ValueError, "max_epochs"),
    ],
)
def test_bad_arguments_leave_the_earlier_fit_intact(
    change, params, error, message, earlier, X, y, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    classifier, is_intact = earlier
    original = classifier.get_params()
    with pytest.raises(error, match=message):
        classifier.set_params(**params).fit(**{"X": X, "y": y, **change})
    classifier.set_params(**original)
    assert is_intact()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model", [None, 3]),
        ("revision", [1]),
        ("max_length", [0, -1, 1.5, "long"]),
        ("long_text", ["cut", None]),
        ("max_epochs", [-1, 1.5, "many"]),
        ("batch_size", [0, 2.5, None]),
        ("gradient_accumulation_steps", [0, 1.5]),
        ("learning_rate", [0, -1, "fast", None]),
        ("head_learning_rate", [0, -1]),
        ("weight_decay", [-0.1]),
        ("warmup_ratio", [-0.1, 1.1]),
        ("lr_scheduler_type", ["sine"]),
        ("max_grad_norm", [0, -1]),
        ("pooling", ["max", None]),
        ("trainable", [0, "none", 1.5]),
        ("early_stopping", ["yes"]),
        ("validation_fraction", [0, 1, 2]),
        ("n_iter_no_change", [0]),
        ("class_weight", ["even", 2]),
        ("warm_start", ["yes"]),
        ("device", [0, None]),
        ("precision", ["int8", None]),
        ("inference_precision", ["auto"]),
        ("gradient_checkpointing", ["yes"]),
        ("compile", ["yes"]),
        ("random_state", ["lucky", -1]),
        ("verbose", [-1, "very"]),
    ],
)
def test_parameters_out_of_range(name, values, tiny_classifier, X, y):
    message = f"The '{name}' parameter of TransformerClassifier must be "
    for value in values:
        classifier = clone(tiny_classifier).set_params(**{name: value})
        for fit in (classifier.fit, classifier.partial_fit):
            with pytest.raises(InvalidParameterError, match=message):
                fit(X, y)


def test_every_parameter_has_a_constraint(tiny_classifier):
    constraints = TransformerClassifier._parameter_constraints
    assert constraints.keys() == tiny_classifier.get_params().keys()
