"""Predictions by other runtimes: torch's answers, and torch's again when undone."""

import copy
import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktransformers import TransformerClassifier
from sktransformers._inference import backends as runtimes

TEXTS = ["a good film", "", "bad " * 50, "so sad", "this plot is rather dull", "one"]
CLOSE = {"rtol": 0, "atol": 1e-4}
PACKAGE = {"openvino": "openvino", "onnx": "onnxruntime"}


LIMIT = os.environ.get("ONEDNN_MAX_CPU_ISA")


def needs(backend):
    """Skip where a runtime is not installed; importing it here would report its use."""
    is_there = importlib.util.find_spec(PACKAGE[backend]) is not None
    # OpenVINO has a oneDNN of its own, and fails where only that is limited.
    is_limited = backend == "openvino" and LIMIT == "SSE41"
    return pytest.mark.skipif(
        not is_there or is_limited, reason=f"the extra {backend!r}, unlimited"
    )


needs_openvino = needs("openvino")
BACKENDS = [pytest.param(backend, marks=needs(backend)) for backend in PACKAGE]


@pytest.fixture
def classifier(fitted_classifier):
    """Return a fitted classifier that a test may change."""
    return copy.deepcopy(fitted_classifier)


@pytest.fixture
def fake(monkeypatch):
    """Put a runtime that is always there in OpenVINO's place; return its calls."""
    calls = []

    def by_torch(module, inputs, precision):
        def run(arrays):
            calls.append(arrays[0].shape)
            outputs = module(*[torch.from_numpy(array) for array in arrays])
            return outputs.detach().numpy() + np.float32([1e-5, 0])

        return run

    install(monkeypatch, packages=(), compile=by_torch)
    return calls


def install(monkeypatch, **changes):
    runtime = dataclasses.replace(runtimes._RUNTIMES["openvino"], **changes)
    monkeypatch.setitem(runtimes._RUNTIMES, "openvino", runtime)


def fit(model, X, y, **params):
    params = {"max_epochs": 1, "learning_rate": 1e-2, "batch_size": 16, **params}
    return TransformerClassifier(model, device="cpu", random_state=0, **params).fit(
        X, y
    )


@needs_openvino
def test_openvino_answers_as_torch_does(classifier, monkeypatch, capfd):
    expected = copy.deepcopy(classifier)
    assert classifier.accelerate_inference("openvino") is classifier
    np.testing.assert_array_equal(classifier.predict(TEXTS), expected.predict(TEXTS))
    for params in ({}, {"long_text": "window", "max_length": 12}):
        for estimator in (classifier, expected):
            estimator.set_params(**params)
        for method in ("predict_proba", "decision_function", "transform"):
            answers = getattr(classifier, method)(TEXTS)
            wanted = getattr(expected, method)(TEXTS)
            np.testing.assert_allclose(answers, wanted, **CLOSE)
    together = classifier.predict_proba(TEXTS)
    alone = [classifier.predict_proba([text])[0] for text in TEXTS]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)

    texts = [TEXTS[i:] + ["good " * i] for i in range(6)]
    wanted = [expected.transform(X) for X in texts]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            found = pool.map(classifier.transform, texts)
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, **CLOSE)

    monkeypatch.setattr(classifier.model_, "forward", None)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), together)
    assert capfd.readouterr() == ("", "")


@needs("onnx")
@pytest.mark.parametrize(
    "method", ["predict_proba", pytest.param("transform", marks=pytest.mark.slow)]
)
def test_onnx_runtime_answers_as_torch_does(method, classifier):
    expected = getattr(classifier, method)(TEXTS)
    classifier.accelerate_inference("onnx")
    np.testing.assert_allclose(getattr(classifier, method)(TEXTS), expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["roberta", "distilbert", "gpt2", "modernbert"])
def test_other_architectures(kind, backend, tiny_models, sentences):
    classifier = fit(tiny_models[kind], *sentences)
    expected = classifier.decision_function(TEXTS)
    classifier.accelerate_inference(backend)
    np.testing.assert_allclose(classifier.decision_function(TEXTS), expected, **CLOSE)


@needs_openvino
def test_pairs_with_several_labels(tiny_model, sentences):
    texts = sentences[0]
    X = list(zip(texts, reversed(texts), strict=True))
    y = np.array([["good" in a, "bad" in a or "bad" in b] for a, b in X], dtype=int)
    classifier = fit(tiny_model, X, y)
    pairs = [*X[:5], ("good plot", "bad"), ("", "")]
    expected = classifier.predict_proba(pairs)
    classifier.accelerate_inference("openvino")
    np.testing.assert_allclose(classifier.predict_proba(pairs), expected, **CLOSE)
    swapped = classifier.predict_proba([(b, a) for a, b in pairs])
    assert not np.allclose(swapped, expected, **CLOSE)


@needs_openvino
@pytest.mark.skipif(LIMIT is not None, reason="OpenVINO's bfloat16, unlimited")
def test_bfloat16_is_near_and_float32_is_nearer(classifier):
    expected = classifier.predict_proba(TEXTS)
    classifier.accelerate_inference("openvino")
    exact = abs(classifier.predict_proba(TEXTS) - expected).max()
    classifier.set_params(inference_precision="bfloat16")
    near = abs(
        classifier.accelerate_inference("openvino").predict_proba(TEXTS) - expected
    ).max()
    assert exact < 1e-5
    assert near < 0.05
    import openvino  # which is known by now

    # Elsewhere it computes in float32 all the same.
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert exact < near


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("openvino", marks=needs_openvino),
        pytest.param("onnx", marks=needs("onnx")),
    ],
)
@pytest.mark.slow
def test_nothing_is_written_or_reported(backend, tmp_path):
    """Both libraries would leave the files of their telemetry."""
    program = """
import sys, torch
from sktransformers._inference.backends import AcceleratedModel

class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x

model = AcceleratedModel(Double(), sys.argv[1], "float32", [{"x": torch.ones(2, 3)}])
assert model(x=torch.ones(4, 5)).tolist() == [[2.0] * 5] * 4
"""
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, backend],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(runtimes.__file__).parents[2]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path / "temporary"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    # PyTorch itself makes an empty folder there.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
@needs_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_can_discard_a_conversion_and_convert_again():
    program = """
import os, torch
from sktransformers._inference.backends import AcceleratedModel

class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x

def convert():
    return AcceleratedModel(Double(), "openvino", "float32", [{"x": torch.ones(2, 3)}])

model = convert()
process = os.fork()
if process == 0:
    model = None
    model = convert()
    os._exit(model(x=torch.ones(4, 5)).tolist() != [[2.0] * 5] * 4)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), model(x=torch.ones(1, 1)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(runtimes.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0 tensor([[2.]])\n"), done.stderr


def test_none_undoes_it(classifier, fake):
    before = classifier.predict_proba(TEXTS)
    assert not (
        classifier.accelerate_inference("openvino").predict_proba(TEXTS) == before
    ).all()
    classifier.accelerate_inference(None)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), before)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda estimator: pickle.loads(pickle.dumps(estimator))]
)
def test_copies_and_pickles_keep_it(classifier, fake, copied):
    other = copied(classifier.accelerate_inference("openvino"))
    fake.clear()
    answers = other.predict_proba(TEXTS)
    assert fake
    np.testing.assert_array_equal(answers, classifier.predict_proba(TEXTS))


def test_a_pickle_holds_the_weights_once(classifier, fake):
    size = len(pickle.dumps(classifier))
    weights = sum(p.nbytes for p in classifier.model_.parameters())
    classifier.accelerate_inference("openvino")
    assert len(pickle.dumps(classifier)) - size < weights / 2


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_fit_drops_it(classifier, fake, sentences, method):
    getattr(classifier.accelerate_inference("openvino"), method)(*sentences)
    fake.clear()
    classifier.predict(TEXTS)
    assert fake == []
    assert not hasattr(clone(classifier), "_accelerated")


def test_torch_predicts_where_the_parameters_are_others(classifier, fake):
    classifier.accelerate_inference("openvino")
    fake.clear()
    classifier.set_params(inference_precision="bfloat16").predict(TEXTS)
    assert fake == []
    classifier.set_params(inference_precision=None).predict(TEXTS)
    assert fake


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_missing_package_is_named(classifier, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, PACKAGE[backend], None)
    with pytest.raises(ImportError, match=rf"sktransformers-text\[{backend}\]"):
        classifier.accelerate_inference(backend)
    assert not hasattr(classifier, "_accelerated")


def fail(module, inputs, precision):
    raise KeyError("no such operation")


def lie(module, inputs, precision):
    return lambda arrays: module(*inputs).numpy()[: len(arrays[0])]


@pytest.mark.parametrize(
    ("compile", "message"), [(fail, "no such operation"), (lie, "are off by")]
)
def test_a_model_that_is_not_understood_stays_with_torch(
    classifier, monkeypatch, compile, message
):
    before = classifier.predict_proba(TEXTS)
    install(monkeypatch, packages=(), compile=compile)
    with pytest.raises(RuntimeError, match=message) as caught:
        classifier.accelerate_inference("openvino")
    assert caught.value.__cause__ is not None
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), before)


@pytest.mark.parametrize(
    ("backend", "params", "message"),
    [
        ("tensorrt", {}, "'onnx', 'openvino'.*Got 'tensorrt'"),
        ("onnx", {"inference_precision": "bfloat16"}, "float32, not in bfloat16"),
        ("openvino", {"inference_precision": "float16"}, "not in float16"),
        ("openvino", {"precision": "float64"}, "not in float64"),
    ],
)
def test_what_no_runtime_can_do_is_refused(classifier, backend, params, message):
    with pytest.raises(ValueError, match=message):
        classifier.set_params(**params).accelerate_inference(backend)


def test_it_is_for_the_cpu():
    with pytest.raises(ValueError, match=r"set_params\(device='cpu'\)"):
        runtimes.check("openvino", torch.device("cuda"), "float32")


def test_it_needs_a_fit(tiny_classifier):
    with pytest.raises(NotFittedError):
        tiny_classifier.accelerate_inference("openvino")
