"""Measure the overhead of a grid search and the private memory of its workers.

- head: three candidates and three folds with ``trainable="head"``, compared with one
  pass of all texts through the frozen layers plus the time to fit the heads;
- all: the same with all layers trained, compared with the same fits and scores in a
  loop;
- memory: private memory of two workers after a fit::

    python -m benchmarks.search --n 1000
"""

import argparse
import csv
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate

from sktransformers import TransformerClassifier
from sktransformers._training import fit as _fitting
from sktransformers.datasets import load_docstrings

from .running import say

GRIDS: dict[str, dict[str, list]] = {
    "head": {"class_weight": [None, "balanced", {}]},
    "all": {"learning_rate": [3e-5, 1e-4, 3e-4]},
}
N_FOLDS = 3
COLUMNS = ("work", "repeat", "search", "bare", "ratio", "detail")


def main() -> None:
    """Run the measurements and write them to a CSV file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000, help="number of texts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--out", type=pathlib.Path, default="build/search.csv")
    options = parser.parse_args()
    X, y = draw_texts(options.n)
    for trainable in GRIDS:  # warm-up: lazy imports and kernel compilation
        make_classifier(trainable).fit(X, y)
    rows = []
    for work in options.only:
        for repeat in range(options.repeats if work != "memory" else 1):
            found = WORKS[work](X, y, by_hand_first=repeat % 2 == 1)
            rows.append({"work": work, "repeat": repeat, **found})
            say(" ".join(f"{name}={value}" for name, value in rows[-1].items()))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def draw_texts(n: int) -> tuple[list[str], np.ndarray]:
    """Return n docstrings and their packages."""
    X, y = load_docstrings(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:n]
    return [X[row] for row in rows], np.asarray(y)[rows]


def make_classifier(trainable: str) -> TransformerClassifier:
    """Return an unfitted classifier."""
    epochs = {"head": 0, "all": 1}[trainable]
    return TransformerClassifier(
        trainable=trainable, max_epochs=epochs, max_length=128, random_state=0
    )


def make_search(trainable: str, y: np.ndarray) -> GridSearchCV:
    """Return the grid search to measure."""
    grid = dict(GRIDS[trainable])
    if trainable == "head":
        weights = {label: 1.0 + number % 2 for number, label in enumerate(np.unique(y))}
        grid["class_weight"] = [*grid["class_weight"][:2], weights]
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    return GridSearchCV(make_classifier(trainable), grid, cv=folds)


def timed(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[float]]:
    """Wrap a function to record the duration of its calls."""
    seconds: list[float] = []

    def run(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds.append(time.perf_counter() - started)

    return run, seconds


def measure_head(
    X: list[str],
    y: np.ndarray,
    *,
    by_hand_first: bool,  # noqa: ARG001
) -> dict[str, Any]:
    """Compare a search of heads with embedding the texts once and fitting the heads."""
    from sktransformers._inference import embedding_cache as vector_cache

    embed, embedding = timed(make_classifier("head").fit(X[:64], y[:64]).transform)
    vector_cache._CACHES.clear()
    embed(X)
    vector_cache._CACHES.clear()
    search, searching = timed(make_search("head", y).fit)
    init_head = _fitting.init_head
    _fitting.init_head, heads = timed(init_head)
    try:
        search(X, y)
    finally:
        _fitting.init_head = init_head
    bare = embedding[0] + sum(heads)
    return {
        "search": round(searching[0], 2),
        "bare": round(bare, 2),
        "ratio": round(searching[0] / bare, 3),
        "detail": f"texts {embedding[0]:.1f} s, {len(heads)} heads {sum(heads):.1f} s",
    }


def measure_all(X: list[str], y: np.ndarray, *, by_hand_first: bool) -> dict[str, Any]:
    """Compare a search with the same fits and scores in a loop."""
    search, searching = timed(make_search("all", y).fit)
    by_hand, bare = timed(fit_by_hand)
    for run in (by_hand, search) if by_hand_first else (search, by_hand):
        run(X, y)
    ratio = round(searching[0] / bare[0], 3)
    return {"search": round(searching[0], 2), "bare": round(bare[0], 2), "ratio": ratio}


def fit_by_hand(X: list[str], y: np.ndarray) -> None:
    """Run all fits and scores of the search in a loop."""
    search = make_search("all", y)
    estimators = [
        clone(search.estimator).set_params(learning_rate=rate)
        for rate in search.param_grid["learning_rate"]
    ]
    for estimator in estimators:
        for train, test in search.cv.split(X, y):
            clone(estimator).fit([X[i] for i in train], y[train]).score(
                [X[i] for i in test], y[test]
            )
    estimators[1].fit(X, y)


def measure_memory(
    X: list[str],
    y: np.ndarray,
    *,
    by_hand_first: bool,  # noqa: ARG001
) -> dict[str, Any]:
    """Return the private memory of two workers after a fit each."""
    found = {}
    for trainable in ("head", "all"):
        scores = cross_validate(
            make_classifier(trainable), X, y, cv=2, n_jobs=2, scoring=score_memory
        )
        found[trainable] = scores
    weights = int(np.mean(found["head"]["test_weights"]))
    details = [
        f"{trainable}: {np.mean(scores['test_model']):.0f} MB of its weights, "
        f"{np.mean(scores['test_worker']):.0f} MB in all"
        for trainable, scores in found.items()
    ]
    return {"detail": f"of {weights} MB of weights, unshared with {'; '.join(details)}"}


def score_memory(estimator: Any, _X: Any, _y: Any) -> dict[str, float]:
    """Return private memory of the process and the model, and the model size, in MB."""
    parameters = list(estimator.model_.parameters())
    addresses = [p.data_ptr() for p in parameters]
    private = 0.0
    for start, end, kilobytes in private_mappings():
        inside = [
            p for p, at in zip(parameters, addresses, strict=True) if start <= at < end
        ]
        size = sum(p.nbytes for p in inside) / 1e6
        private += min(size, kilobytes / 1e3)
    return {
        "worker": sum(kilobytes for *_, kilobytes in private_mappings()) / 1e3,
        "model": private,
        "weights": sum(p.nbytes for p in parameters) / 1e6,
    }


def private_mappings() -> list[tuple[int, int, int]]:
    """Return the address range and private kilobytes of each memory mapping."""
    mappings: list[tuple[int, int, int]] = []
    for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            mappings.append((start, end, 0))
        elif first == "Private_Dirty:":
            start, end, kilobytes = mappings[-1]
            mappings[-1] = (start, end, kilobytes + int(rest[0]))
    return mappings


WORKS = {"head": measure_head, "all": measure_all, "memory": measure_memory}


if __name__ == "__main__":
    main()
