"""Evaluate the defaults of TransformerRegressor: R² for several training set sizes.

Compares it with ridge regression on the frozen embeddings of the same encoder and on
TF-IDF features. Targets: the valence of the emotions of a text (goemotions), the
sentiment of a sentence (sst2), the length of its translation (multi30k)::

    python -m benchmarks.regression path/to/data

Without a folder, the target is the logarithm of the length of docstrings.
``--penalties`` evaluates other penalties for the initialization of the head, which is
how the default was chosen. Results that are already in the output file are not computed
again.
"""

import argparse
import csv
import pathlib
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sktransformers import TransformerRegressor
from sktransformers._tasks import numbers
from sktransformers.datasets import load_docstrings

from .running import append, rows_done, say

SETS = ("goemotions", "sst2", "multi30k")
KEYS = ("name", "n_train", "seed", "model")
COLUMNS = (*KEYS, "r2", "seconds")
PLEASANT = frozenset(
    "admiration amusement approval caring desire excitement gratitude joy love "
    "optimism pride relief".split()
)
UNPLEASANT = frozenset(
    "anger annoyance disappointment disapproval disgust embarrassment fear grief "
    "nervousness remorse sadness".split()
)


def main() -> None:
    """Run the missing measurements, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=800)
    parser.add_argument("--penalties", nargs="+", type=float, default=[])
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("build/regression.csv")
    )
    parser.add_argument(
        "--report", action="store_true", help="only print existing results"
    )
    options = parser.parse_args()
    if not options.report:
        run_missing(options)
    print(report(pd.read_csv(options.out)))


def run_missing(options: argparse.Namespace) -> None:
    """Fit and score the models that are not in the output file."""
    done = rows_done(options.out, KEYS)
    for seed in range(options.seeds):
        for n in options.sizes:
            for name in options.sets if options.data else ("docstrings",):
                data = draw(load(options.data, name), n, options.n_test, seed)
                for model, estimator in contestants(seed, options.penalties):
                    key = {"name": name, "n_train": n, "seed": seed, "model": model}
                    if tuple(map(str, key.values())) in done:
                        continue
                    row = {**key, **score(estimator, *data)}
                    append(options.out, row, COLUMNS)
                    say(" ".join(f"{k}={v}" for k, v in row.items()))


def load(folder: pathlib.Path | None, name: str) -> tuple[list[str], np.ndarray]:
    """Return the texts and targets of the training and test files of a data set."""
    if folder is None:
        X = list(load_docstrings(return_X_y=True)[0])
        return X, np.log([len(text) for text in X])
    rows: list[dict[str, str]] = []
    for part in ("train.tsv", "test.tsv"):
        with (folder / name / part).open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    if name == "goemotions":
        return [row["text"] for row in rows], np.array([pleasure(r) for r in rows])
    if name == "sst2":
        is_positive = [float(row["label"] == "positive") for row in rows]
        return [row["text"] for row in rows], np.array(is_positive)
    return [row["en"] for row in rows], np.array(
        [float(len(row["de"])) for row in rows]
    )


def pleasure(row: dict[str, str]) -> float:
    """Return the mean valence of the emotions of a row, from -1 to 1."""
    labels = row["labels"].split(",")
    return float(np.mean([(x in PLEASANT) - (x in UNPLEASANT) for x in labels]))


def draw(
    data: tuple[list[str], np.ndarray], n: int, n_test: int, seed: int
) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Draw a training and a test sample."""
    X, y = data
    train, test = train_test_split(
        np.arange(len(X)), train_size=n, test_size=n_test, random_state=seed
    )
    return [X[i] for i in train], y[train], [X[i] for i in test], y[test]


def contestants(seed: int, penalties: list[float]) -> Iterator[tuple[str, object]]:
    """Yield the unfitted models to compare."""
    alphas = np.logspace(-3, 3, 13)
    encoder = TransformerRegressor(trainable="head", random_state=seed)
    yield "TF-IDF + ridge", make_pipeline(TfidfVectorizer(), RidgeCV(alphas))
    yield "frozen + ridge", make_pipeline(encoder, RidgeCV(alphas))
    default = numbers._RIDGE_PENALTY
    for penalty in penalties or [default]:
        is_default = penalty == default
        name = "" if is_default else f", penalty {penalty:g}"
        numbers._RIDGE_PENALTY = penalty
        try:
            yield f"TransformerRegressor{name}", TransformerRegressor(random_state=seed)
        finally:
            numbers._RIDGE_PENALTY = default


def score(
    estimator: object,
    X: list[str],
    y: np.ndarray,
    X_test: list[str],
    y_test: np.ndarray,
) -> dict[str, float]:
    """Fit an estimator and return its R² and fit time."""
    started = time.perf_counter()
    estimator.fit(X, y)
    seconds = time.perf_counter() - started
    r2 = r2_score(y_test, estimator.predict(X_test))
    return {"r2": round(r2, 4), "seconds": round(seconds, 1)}


def report(frame: pd.DataFrame) -> str:
    """Return mean and standard deviation of the results as a Markdown table."""
    rows = ["| set | texts | model | R² | seconds | seeds |", "| --- " * 6 + "|"]
    for (name, n, model), group in frame.groupby(["name", "n_train", "model"]):
        spread = f" ± {group.r2.std():.3f}" if len(group) > 1 else ""
        rows.append(
            f"| {name} | {n:,} | {model} | {group.r2.mean():.3f}{spread} | "
            f"{group.seconds.median():.0f} | {len(group)} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
