"""Several jobs give what one gives, share no state and take turns on the processors."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_generators import save_writer
from tiny_models import make_sentences

from sktransformers import TransformerGenerator, TransformerRegressor, TransformerTagger

GRID = {"learning_rate": [1e-3, 1e-5]}


@pytest.fixture(autouse=True)
def _one_thread():
    """Give each fit one thread: the last bits of sums depend on their number."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@contextlib.contextmanager
def dask_cluster():
    """Hand the jobs of joblib to two processes of a cluster on this machine."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@pytest.fixture(
    params=[
        "threading",
        pytest.param("loky", marks=pytest.mark.slow),
        pytest.param("dask", marks=pytest.mark.slow),
    ]
)
def backend(request):
    """Run the jobs by each of joblib's backends in turn."""
    context = {
        "threading": lambda: joblib.parallel_config("threading"),
        "loky": lambda: joblib.parallel_config("loky", inner_max_num_threads=1),
        "dask": dask_cluster,
    }[request.param]
    with context():
        yield request.param


@pytest.fixture
def quick(tiny_classifier):
    """Return an unfitted classifier that makes a handful of steps."""
    return tiny_classifier.set_params(max_epochs=2)


def strip(texts):
    return [text.strip() for text in texts]


# The same with two jobs


def test_a_search_gives_the_same_with_two_jobs(backend, quick, sentences):
    pipeline = make_pipeline(FunctionTransformer(strip), quick)
    grid = {f"transformerclassifier__{name}": rates for name, rates in GRID.items()}
    searches = [
        GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", n_jobs=n_jobs)
        for n_jobs in (1, 2)
    ]
    one, two = (search.fit(*sentences) for search in searches)
    scores = [search.cv_results_["mean_test_score"] for search in (one, two)]
    assert np.isfinite(scores[0]).all()
    assert np.array_equal(*scores)
    assert one.best_params_ == two.best_params_ == dict.fromkeys(grid, 1e-3)
    X, _ = sentences
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))


def test_cross_validation_gives_the_same_with_two_jobs(backend, quick, sentences):
    X, y = sentences
    results = [
        cross_validate(
            quick,
            pd.Series(X),
            y,
            cv=3,
            scoring=["accuracy", "neg_log_loss"],
            return_estimator=True,
            n_jobs=n_jobs,
        )
        for n_jobs in (1, 2)
    ]
    for name in ("test_accuracy", "test_neg_log_loss"):
        assert np.array_equal(results[0][name], results[1][name])
    for one, two in zip(*(result["estimator"] for result in results), strict=True):
        assert np.array_equal(one.predict_proba(X), two.predict_proba(X))


def test_ensembles_give_the_same_with_two_jobs(quick, sentences):
    X, y = sentences
    with joblib.parallel_config("threading"):
        for make, method in [
            (lambda n: OneVsRestClassifier(quick, n_jobs=n), "predict_proba"),
            (
                lambda n: FeatureUnion([("a", quick), ("b", quick)], n_jobs=n),
                "transform",
            ),
        ]:
            one, two = (getattr(make(n).fit(X, y), method)(X) for n in (1, 2))
            assert np.array_equal(one, two)


def test_a_fitted_classifier_serves_two_jobs(fitted_classifier, sentences):
    X, _ = sentences
    embeddings = fitted_classifier.transform(X)
    jobs = (joblib.delayed(fitted_classifier.transform)(X) for _ in range(8))
    with joblib.parallel_config("threading"):
        for again in joblib.Parallel(n_jobs=2)(jobs):
            assert np.array_equal(again, embeddings)


@pytest.fixture(params=["regressor", "tagger", "generator"])
def other(request, tiny_model, tmp_path):
    """Return another estimator, unfitted, and what it learns from."""
    X, labels = make_sentences(32)
    options = {"max_epochs": 2, "batch_size": 16, "device": "cpu", "random_state": 0}
    if request.param == "regressor":
        numbers = [float(len(text)) for text in X]
        return TransformerRegressor(tiny_model, **options), X, numbers
    if request.param == "tagger":
        words = [text.split() for text in X]
        tags = [[v] * len(row) for row, v in zip(words, labels, strict=True)]
        return TransformerTagger(tiny_model, **options), words, tags
    writer = save_writer(tmp_path, "llama")
    return TransformerGenerator(writer, max_new_tokens=4, **options), X, labels


def test_every_estimator_gives_the_same_with_two_jobs(backend, other):
    estimator, X, y = other
    searches = [
        GridSearchCV(estimator, GRID, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    assert np.isfinite(scores[0]).all()
    assert np.array_equal(*scores)
    one, two = (list(search.predict(X)) for search in searches)
    assert one == two


@pytest.mark.slow
def test_jobs_may_be_handed_memory_maps(quick, sentences):
    # Loky hands large arrays to its workers as read-only memory maps.
    X, y = sentences
    weights = np.linspace(1, 2, 64)
    expected = clone(quick).fit(X, y, sample_weight=weights).predict_proba(X)
    with joblib.parallel_config("loky", inner_max_num_threads=1, max_nbytes=1):
        jobs = (
            joblib.delayed(fit_and_predict)(quick, np.array(X), np.array(y), weights)
            for _ in range(2)
        )
        for probabilities, is_map in joblib.Parallel(n_jobs=2)(jobs):
            assert is_map
            assert np.array_equal(probabilities, expected)


def fit_and_predict(classifier, X, y, weights):
    is_map = isinstance(X, np.memmap) and not X.flags.writeable
    return clone(classifier).fit(X, y, sample_weight=weights).predict_proba(X), is_map


# Threads


THREADS = """
import json, sys
import joblib
sys.path.insert(0, sys.argv[2])
from tiny_models import make_sentences
from sklearn.model_selection import cross_validate
from sktransformers import TransformerClassifier

def n_threads(estimator, X, y):
    import torch
    return torch.get_num_threads()

if __name__ == "__main__":
    X, y = make_sentences(64)
    classifier = TransformerClassifier(sys.argv[1], max_epochs=1, device="cpu")
    result = cross_validate(classifier, X, y, scoring=n_threads, cv=2, n_jobs=2)
    print(json.dumps([int(result["test_score"].max()), joblib.cpu_count()]))
"""


@pytest.mark.slow
def test_workers_share_the_processors(tiny_model, tmp_path):
    (tmp_path / "program.py").write_text(THREADS)
    tests = Path(__file__).parent / "helpers"
    environment = {k: v for k, v in os.environ.items() if "_NUM_THREADS" not in k}
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", tiny_model, tests],
        env={**environment, "PYTHONPATH": str(tests.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    most, n_processors = json.loads(done.stdout)
    assert most <= max(1, n_processors // 2)


@pytest.mark.slow
def test_workers_of_a_cluster_share_the_processors(quick, sentences):
    with dask_cluster():
        result = cross_validate(quick, *sentences, scoring=n_threads, cv=2, n_jobs=2)
    assert result["test_score"].tolist() == [1, 1]


def n_threads(estimator, X, y):
    return torch.get_num_threads()


# Memory


CYCLES = """
import gc, sys
import psutil
sys.path.insert(0, sys.argv[2])
from tiny_models import make_sentences
from sktransformers import TransformerClassifier

X, y = make_sentences(32)
process, sizes = psutil.Process(), []
for cycle in range(20 + 200):
    classifier = TransformerClassifier(
        sys.argv[1], max_epochs=1, batch_size=16, device="cpu", early_stopping=True
    )
    classifier.fit(X, y).predict_proba(X)
    classifier.transform(X)
    if cycle % 10 == 9:
        gc.collect()
    sizes.append(process.memory_info().rss)
print(sizes[19], max(sizes[20:]))
"""


@pytest.mark.slow
def test_many_fits_take_no_more_memory_than_a_few(tiny_model):
    pytest.importorskip("psutil")
    tests = Path(__file__).parent / "helpers"
    done = subprocess.run(
        [sys.executable, "-c", CYCLES, tiny_model, str(tests)],
        cwd=tests.parents[1],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many < 1.05 * few
