"""Threads that share estimators and tokenizers, and processes that are forked."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_models import MAKERS, PARAMS, TAGS, WORDS, save_writer
from sklearn.base import clone
from tiny_models import VOCABULARY, make_sentences

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerTagger,
)
from sktransformers.exceptions import TruncationWarning

X, Y = make_sentences(24)
LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55)


def mixed_texts(n=90, *, seed=0):
    """Return texts of 1 to 55 words."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(VOCABULARY, k=LENGTHS[i % len(LENGTHS)])) for i in range(n)
    ]


def run_in_threads(work, n_threads):
    """Call ``work(0)``, ``work(1)`` ... at once, each in a thread; raise what fails."""
    start, errors = threading.Barrier(n_threads), []

    def watched(number):
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=watched, args=(n,)) for n in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return a function from a kind of estimator to a fitted one."""
    known = {}

    def get(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            known[kind] = _fit(kind, folder)
        return known[kind]

    return get


def _fit(kind, folder):
    if kind == "frozen":
        pooled = MAKERS["pooled"](folder)
        return pooled.set_params(trainable="head", early_stopping=False).fit(X, Y)
    return MAKERS[kind](folder)


METHODS = {
    "pooled": "predict_proba",
    "head": "predict_proba",
    "frozen": "transform",  # whose vectors are kept for all threads
    "numbers": "predict",
    "tagger": "predict_proba",
    "writer": "predict",
}
QUICK = ("pooled", "tagger", "writer")


def judge_alone(estimator, method, inputs):
    """Return what the method gives for each input, in one thread."""
    return list(getattr(estimator, method)(inputs))


def require_same(found, expected, *, rtol=1e-5, largest=None):
    """Require equal texts, or numbers that differ by rounding at most.

    What rounding changes goes with the largest of all numbers; the expected ones may
    be a part of them.
    """
    assert len(found) == len(expected)
    if isinstance(expected[0], str):
        assert list(found) == list(expected)
        return
    atol = rtol * (largest or largest_of(expected))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def largest_of(predictions):
    """Return the largest absolute number in predictions; None for texts."""
    if isinstance(predictions[0], str):
        return None
    return max(np.abs(row).max(initial=0) for row in predictions)


def hammer(estimator, method, inputs, *, n_threads, n_calls):
    """Predict random parts of the inputs in threads; each must be as if alone."""
    expected = judge_alone(estimator, method, inputs)
    largest = largest_of(expected)

    def work(number):
        rng = random.Random(number)
        for _ in range(n_calls):
            chosen = rng.sample(range(len(inputs)), rng.randint(1, 6))
            found = getattr(estimator, method)([inputs[i] for i in chosen])
            part = [expected[i] for i in chosen]
            require_same(found, part, largest=largest)

    run_in_threads(work, n_threads)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow])
        for kind in METHODS
    ],
)
def test_threads_get_what_one_gets(kind, fitted):
    texts = mixed_texts()
    inputs = [text.split() for text in texts] if kind == "tagger" else texts
    many = (4, 3) if kind == "writer" else (16, 20)
    if kind == "writer":
        inputs = [text for text in texts if len(text.split()) < 30]
    n_threads, n_calls = many
    hammer(fitted(kind), METHODS[kind], inputs, n_threads=n_threads, n_calls=n_calls)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pooled", "frozen", "tagger"])
def test_sixteen_threads_five_hundred_times(kind, fitted):
    texts = mixed_texts(900, seed=1)
    inputs = [text.split() for text in texts] if kind == "tagger" else texts
    hammer(fitted(kind), METHODS[kind], inputs, n_threads=16, n_calls=500)


def fit_two_that_share_a_tokenizer(model):
    """Return two classifiers that read 5 and 30 tokens of a text."""
    both = []
    for max_length in (5, 30):
        classifier = TransformerClassifier(model, max_length=max_length, **PARAMS)
        with pytest.warns(TruncationWarning):  # the next ones stay untold
            classifier.fit([*X, *mixed_texts(9)], [*Y, *"abababaab"])
        both.append(classifier)
    assert both[0].tokenizer_ is both[1].tokenizer_
    return both


def alternate(both, *, n_calls):
    """Predict with two classifiers in 16 threads, as if each were alone."""
    texts = mixed_texts()
    expected = [classifier.predict_proba(texts) for classifier in both]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # so a wrong length shows

    def work(number):
        rng = random.Random(number)
        for call in range(n_calls):
            which = (number + call) % 2
            chosen = rng.sample(range(len(texts)), 5)
            found = both[which].predict_proba([texts[i] for i in chosen])
            require_same(found, expected[which][chosen])

    run_in_threads(work, 16)


def test_a_shared_tokenizer_serves_two_lengths(tiny_model):
    alternate(fit_two_that_share_a_tokenizer(tiny_model), n_calls=20)


@pytest.mark.slow
def test_a_shared_tokenizer_serves_two_lengths_for_long(tiny_model):
    alternate(fit_two_that_share_a_tokenizer(tiny_model), n_calls=500)


def make_estimators(tiny_model, tmp_path):
    """Return unfitted estimators, each with what it learns and what it predicts."""
    writer = save_writer(tmp_path / "writer", "gpt2")
    params = PARAMS | {"max_epochs": 2}
    return [
        (TransformerClassifier(tiny_model, **params), X, Y, "predict_proba"),
        (TransformerTagger(tiny_model, **params), WORDS, TAGS, "predict_proba"),
        (TransformerGenerator(writer, max_new_tokens=3, **params), X, Y, "predict"),
        (
            TransformerClassifier(tiny_model, early_stopping=True, **params),
            X,
            Y,
            "predict_proba",
        ),
    ]


def test_fits_at_once_are_the_fits_they_would_be_alone(tiny_model, tmp_path):
    jobs = make_estimators(tiny_model, tmp_path)
    alone = [list(getattr(e.fit(A, B), m)(A[:8])) for e, A, B, m in jobs]
    found = {}

    def work(number):
        estimator, A, B, method = jobs[number % 4]
        estimator = clone(estimator).fit(A, B)
        found[number] = list(getattr(estimator, method)(A[:8]))

    run_in_threads(work, 8)
    for number, predictions in found.items():
        require_same(predictions, alone[number % 4], rtol=1e-4)


def test_predictions_and_a_fit_do_not_disturb_one_another(tiny_model, fitted):
    learner = TransformerClassifier(tiny_model, **(PARAMS | {"max_epochs": 12}))
    alone = learner.fit(X, Y).predict_proba(X)
    judge, texts = fitted("pooled"), mixed_texts()
    expected, is_over = judge.predict_proba(texts), threading.Event()
    state = torch.get_rng_state()

    def work(number):
        if number == 0:
            learner.fit(X, Y)
            is_over.set()
            return
        is_last = False
        while not is_last:
            is_last = is_over.is_set()
            require_same(judge.predict_proba(texts), expected)

    run_in_threads(work, 3)
    require_same(learner.predict_proba(X), alone, rtol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)


FORKING = """
import multiprocessing, os, sys, threading, time, warnings
import numpy as np, torch
from sktransformers import TransformerClassifier

warnings.simplefilter("ignore")  # of Python 3.12: this process has threads
assert torch.get_num_threads() == 2
model, saved = sys.argv[1:]
texts = ["good film " * (1 + i % 9) for i in range(300)]
labels = [i % 2 for i in range(300)]
params = dict(max_epochs=1, batch_size=100, device="cpu", random_state=0)
params["precision"] = "float32"  # in bfloat16 rounding would change a fit too much
classifier = TransformerClassifier(model, **params).fit(texts, labels)
classifier.save_pretrained(saved)
threads = [threading.Thread(target=classifier.predict, args=(texts,)) for _ in "ab"]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
expected = classifier.predict_proba(texts)

def predict():
    return classifier.predict_proba(texts)

def learn():
    return classifier.fit(texts, labels).predict_proba(texts)

def load():
    return TransformerClassifier.from_pretrained(saved).predict_proba(texts)

def child(work, pipe):
    # One thread rounds otherwise than two, and a fit enlarges that.
    tolerance = 1e-3 if work is learn else 1e-5
    pipe.send(bool(np.abs(work() - expected).max() < tolerance))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    classifier.predict(texts)
    pipe.send("done")

fork = multiprocessing.get_context("fork")
for work in (predict, learn, load):
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=child, args=(work, sender))
    process.start()
    answer = receiver.recv() if receiver.poll(10) else "it hangs"
    done = receiver.recv() if receiver.poll(10) else "it hangs"
    process.kill()
    process.join()
    print(work.__name__, done, answer)
print(torch.get_num_threads(), np.array_equal(predict(), expected))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_answers(tiny_model, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, tiny_model, str(tmp_path / "saved")],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines == ["predict done True", "learn done True", "load done True", "2 True"]
