"""Callbacks below searches and pipelines, of several jobs, and of every estimator."""

import json
from pathlib import Path

import joblib
import numpy as np
import pytest
from recorders import PropagatedRecorder, Recorder
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.callback._callback_context import get_context_path
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tiny_generators import save_writer
from tiny_models import assert_close, make_sentences

from sktransformers import TransformerGenerator, TransformerRegressor, TransformerTagger


class Tree:
    """Writes each task's path from the root into a file, which other processes can."""

    max_propagation_depth = None

    def __init__(self, path):
        self.path = path

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.write("begin", context)

    def on_fit_task_end(self, estimator, context):
        self.write("end", context)

    def write(self, when, context):
        path = [(task.task_name, task.task_id) for task in get_context_path(context)]
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([when, path]) + "\n")

    def read(self):
        """Return the paths of tasks that began, and of those that ended."""
        lines = Path(self.path).read_text(encoding="utf-8").splitlines()
        events = [
            (when, tuple(map(tuple, path))) for when, path in map(json.loads, lines)
        ]
        return [[path for when, path in events if when == w] for w in ("begin", "end")]


def expected_tree(n_evaluations, max_epochs, n_steps, n_refit_steps):
    """Return the paths of all tasks of a search over one candidate per epoch count."""
    root = (("fit", 0),)
    search = (*root, ("search", 0))
    leaves = [(*search, ("fit", i)) for i in range(n_evaluations)]
    tasks = {root, search}
    for leaf, steps in [
        *((leaf, n_steps) for leaf in leaves),
        ((*root, ("fit", 1)), n_refit_steps),
    ]:
        tasks.add(leaf)
        for epoch in range(max_epochs):
            tasks.add((*leaf, ("epoch", epoch)))
            tasks |= {(*leaf, ("epoch", epoch), ("step", i)) for i in range(steps)}
    return tasks


JOBS = [
    (1, "threading"),
    (2, "threading"),
    pytest.param(2, "loky", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("n_jobs", "backend"), JOBS)
def test_a_search_is_one_tree_down_to_the_steps(
    n_jobs, backend, tiny_classifier, sentences, tmp_path
):
    tree = Tree(str(tmp_path / "tree"))
    search = GridSearchCV(
        tiny_classifier.set_params(max_epochs=2),
        {"learning_rate": [1e-3, 1e-4]},
        cv=2,
        n_jobs=n_jobs,
    )
    with joblib.parallel_config(backend):
        search.set_callbacks(tree).fit(*sentences)
    began, ended = tree.read()
    assert len(began) == len(set(began))
    expected = expected_tree(4, max_epochs=2, n_steps=2, n_refit_steps=4)
    assert set(began) == set(ended) == expected


@pytest.mark.parametrize(("n_jobs", "backend"), JOBS)
def test_the_scoring_monitor_sees_every_job(
    n_jobs, backend, tiny_classifier, sentences
):
    monitor = ScoringMonitor(scoring="neg_log_loss")
    # In float32, as processes of other numbers of threads round otherwise.
    tiny_classifier.set_params(max_epochs=2, precision="float32")
    tiny_classifier.set_callbacks(monitor)
    grid = {"learning_rate": [1e-3, 1e-4]}
    search = GridSearchCV(tiny_classifier, grid, cv=2, n_jobs=n_jobs)
    with joblib.parallel_config(backend):
        search.fit(*sentences)
    log = monitor.get_logs().data_as_pandas
    curves = log[log["task_name"] == "epoch"]
    curves = curves.groupby("parent_task_id_path")["neg_log_loss"].agg(list)
    alone = ScoringMonitor(scoring="neg_log_loss")
    X, y = sentences
    for path, rate, train in [
        (
            (0, 0, 0),
            1e-3,
            slice(32, 64),
        ),  # the first candidate, tested on the first half
        ((0, 0, 3), 1e-4, slice(0, 32)),
    ]:
        by_hand = clone(tiny_classifier).set_params(learning_rate=rate)
        by_hand.set_callbacks(alone).fit(X[train], y[train])
        rows = [row for row in alone.get_logs().data if row["task_name"] == "epoch"]
        assert_close(curves[path], [row["neg_log_loss"] for row in rows], rtol=1e-4)
    assert len(curves) == 5


@pytest.mark.slow  # what is drawn last depends on how busy the machine is
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_bars_of_a_search(n_jobs, tiny_classifier, sentences, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    tiny_classifier.set_params(max_epochs=2)
    grid = {"learning_rate": [1e-3, 1e-4]}
    search = GridSearchCV(tiny_classifier, grid, cv=2, n_jobs=n_jobs)
    with joblib.parallel_config("threading"):
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*sentences)
    lines = capfd.readouterr().out.rstrip().splitlines()
    assert all("100%" in line for line in lines)
    names = [line.split(" - ")[1].split("#")[0].split()[0] for line in lines]
    assert names[:2] == ["fit", "search"]
    assert names.count("epoch") == 2 * 5
    assert len(lines) == 2 + 5 + 2 * 5


class GoodEnough(PropagatedRecorder):
    """Ends a fit as soon as the training texts are predicted well enough."""

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        if context.task_name != "epoch":
            return False
        return fitted_estimator.score(X, y) > 0.8


@pytest.mark.parametrize("inside", ["alone", "pipeline", "search"])
def test_a_fit_ends_when_it_is_good_enough(inside, tiny_classifier, sentences):
    estimator = tiny_classifier.set_params(max_epochs=8)
    if inside == "pipeline":
        estimator = make_pipeline(tiny_classifier)
    elif inside == "search":
        estimator = GridSearchCV(tiny_classifier, {"batch_size": [16]}, cv=2)
    estimator.set_callbacks(GoodEnough()).fit(*sentences)
    if inside == "pipeline":
        estimator = estimator[-1]
    elif inside == "search":
        estimator = estimator.best_estimator_
    assert 1 <= estimator.n_epochs_ < 8
    assert estimator.score(*sentences) > 0.8


# Held-out texts


def both_scores(estimator, X, y):
    """Return the score on X, and that on the texts held out by early_stopping."""
    held_out = estimator.history_[-1]["valid_score"]
    return {"train": estimator.score(X, y), "held out": held_out}


def test_the_fitted_estimator_of_an_epoch_has_its_history(tiny_classifier, sentences):
    seen = []

    class Reader(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                n_epochs = fitted_estimator.n_epochs_
                seen.append((n_epochs, fitted_estimator.history_[:]))

    tiny_classifier.fit(
        *sentences
    )  # whose history must not be taken for the next one's
    tiny_classifier.set_callbacks(Reader()).set_params(early_stopping=True)
    history = tiny_classifier.fit(*sentences).history_
    expected = [(n, history[:n]) for n in range(1, len(history) + 1)]
    assert seen == expected
    assert "valid_score" in seen[0][1][0]


@pytest.mark.parametrize("inside", ["alone", "search"])
def test_curves_of_training_and_held_out_texts(inside, tiny_classifier, sentences):
    monitor = ScoringMonitor(scoring=both_scores)
    tiny_classifier.set_params(early_stopping=True, validation_fraction=0.25)
    tiny_classifier.set_callbacks(monitor)
    estimator = tiny_classifier
    if inside == "search":
        estimator = GridSearchCV(tiny_classifier, {"batch_size": [16]}, cv=2)
    estimator.fit(*sentences)
    best = getattr(estimator, "best_estimator_", estimator)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    rows = [
        row for row in rows if inside == "alone" or row["parent_task_id_path"] == (0, 1)
    ]
    expected = [record["valid_score"] for record in best.history_]
    assert [row["held out"] for row in rows] == expected
    assert all(0 <= row["train"] <= 1 for row in rows)


@pytest.mark.parametrize("weights", [None, "half"])
def test_callbacks_see_the_texts_that_are_trained_on(
    weights, tiny_classifier, sentences
):
    X, y = sentences
    weights = None if weights is None else [float(i % 4 < 2) for i in range(64)]
    seen = []

    class Reader(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, metadata):
            seen.append((X, y, metadata and metadata["sample_weight"]))

    tiny_classifier.set_params(early_stopping=True, validation_fraction=0.25)
    tiny_classifier.set_params(max_epochs=1).set_callbacks(Reader())
    tiny_classifier.fit(X, y, sample_weight=weights)
    n_trained = 48 if weights is None else 24
    labels = dict(zip(X, y, strict=True))
    for texts, targets, own in seen:
        assert len(texts) == len(targets) == n_trained
        assert [labels[text] for text in texts] == list(targets)
        assert own is None if weights is None else np.all(np.asarray(own) == 1)


# The other estimators


@pytest.fixture(params=["regressor", "tagger", "generator"])
def other(request, tiny_model, tmp_path):
    """Return another estimator, unfitted, with something to learn."""
    options = {"max_epochs": 2, "batch_size": 16, "device": "cpu", "random_state": 0}
    X, y = make_sentences(32)
    if request.param == "regressor":
        return TransformerRegressor(tiny_model, **options), X, [len(x) for x in X]
    if request.param == "tagger":
        words = [text.split() for text in X]
        tags = [[label] * len(row) for label, row in zip(y, words, strict=True)]
        return TransformerTagger(tiny_model, **options), words, tags
    return TransformerGenerator(save_writer(tmp_path, "llama"), **options), X, y


def test_every_estimator_has_epochs_of_steps(other):
    estimator, X, y = other
    recorder = Recorder()
    estimator.set_callbacks(recorder).fit(X, y)
    step = [("begin", "step", 0), ("end", "step", 0)]
    epoch = [("begin", "epoch", 2), *2 * step, ("end", "epoch", 2)]
    assert recorder.calls == [("begin", "fit", 2), *2 * epoch, ("end", "fit", 2)]


def test_every_estimator_is_stopped_by_a_callback_of_a_search(other):
    estimator, X, y = other
    recorder = PropagatedRecorder(lambda task, n: task == "epoch")
    search = GridSearchCV(estimator, {"max_epochs": [2]}, cv=2)
    search.set_callbacks(recorder).fit(X, y)
    assert search.best_estimator_.n_epochs_ == 1
    assert recorder.count("end", "epoch") == 3


def own_score(estimator, X, y):
    return {"own": estimator.score(X, y)}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_estimator_has_curves_below_a_search(n_jobs, other):
    estimator, X, y = other
    monitor = ScoringMonitor(scoring=own_score)
    search = GridSearchCV(
        estimator.set_callbacks(monitor), {"max_epochs": [2, 3]}, cv=2, n_jobs=n_jobs
    )
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log["task_name"] == "epoch"]
    curves = epochs.groupby("parent_task_id_path")["own"].agg(list)
    n_epochs = search.best_estimator_.n_epochs_
    assert sorted(map(len, curves)) == sorted([2, 2, 3, 3, n_epochs])
    final = search.best_estimator_.score(X, y)
    assert curves[(0, 1)][-1] == pytest.approx(final, abs=1e-5)


def test_every_estimator_tells_callbacks_its_held_out_score(other):
    estimator, X, y = other
    seen = []

    class Reader(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator, X):
            if context.task_name == "epoch":
                seen.append((fitted_estimator.history_[-1]["valid_loss"], len(X)))

    estimator.set_params(early_stopping=True, validation_fraction=0.25)
    history = estimator.set_callbacks(Reader()).fit(X, y).history_
    assert seen == [(record["valid_loss"], 24) for record in history]
