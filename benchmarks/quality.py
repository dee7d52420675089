"""Evaluate the default parameters: accuracy and seconds for each training set size.

Compares ``TransformerClassifier()`` with logistic regression on the frozen embeddings
of the same encoder and on TF-IDF features, over several data sets, sizes and seeds, on
the full test sets::

    python -m benchmarks.quality path/to/data --out build/quality.csv

A data set is a folder with train.tsv and test.tsv: a header, no quoting, a column
"label" and a column "text" (or "description"). Without a folder the docstrings of
the installed packages are used. Results that are already in the output file are not
computed again, so that a run can be resumed; ``--report`` prints the table of existing
results.
"""

import argparse
import csv
import dataclasses
import pathlib
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline

from sktransformers import TransformerClassifier
from sktransformers.datasets import load_docstrings

SETS = ("sst2", "ag_news", "clinc150", "sms_spam", "banking77")
SIZES = (50, 100, 1000, 0)  # 0: all
TEXTS = ("text", "description")


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, the size of the training sample, and the seed of its draw."""

    name: str
    n: int
    seed: int


def read_tsv(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Read texts and labels from a TSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    text = next(name for name in TEXTS if name in rows[0])
    return [row[text] for row in rows], np.array([row["label"] for row in rows])


def load(folder: pathlib.Path | None, name: str) -> tuple:
    """Return the training and test texts and labels of a data set."""
    if folder is not None:
        return (
            *read_tsv(folder / name / "train.tsv"),
            *read_tsv(folder / name / "test.tsv"),
        )
    X, y = load_docstrings(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )
    return X_train, y_train, X_test, y_test


def draw(X: list[str], y: np.ndarray, task: Task) -> tuple[list[str], np.ndarray]:
    """Draw the training sample of a task, stratified if it is large enough."""
    if not task.n:
        return list(X), y
    stratify = y if task.n >= len(np.unique(y)) else None
    rows, _ = train_test_split(
        np.arange(len(X)),
        train_size=task.n,
        stratify=stratify,
        random_state=task.seed,
    )
    return [X[row] for row in rows], y[rows]


def frozen_embeddings(seed: int) -> Pipeline:
    """Return logistic regression on the frozen embeddings of the encoder."""
    encoder = TransformerClassifier(
        max_epochs=0, inference_precision="float32", random_state=seed
    )
    return make_pipeline(encoder, LogisticRegression(max_iter=1000))


def contestants(seed: int) -> dict:
    """Return the unfitted models to compare."""
    return {
        "TransformerClassifier": TransformerClassifier(random_state=seed),
        "frozen + logistic regression": frozen_embeddings(seed),
        "TF-IDF + logistic regression": make_pipeline(
            TfidfVectorizer(), LogisticRegression(max_iter=1000)
        ),
    }


def run(task: Task, data: tuple) -> Iterator[dict]:
    """Fit and score every model on a task."""
    X_train, y_train, X_test, y_test = data
    X, y = draw(X_train, y_train, task)
    for name, model in contestants(task.seed).items():
        started = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - started
        accuracy = float(np.mean(model.predict(X_test) == y_test))
        yield {
            **dataclasses.asdict(task),
            "n_train": len(X),
            "model": name,
            "accuracy": accuracy,
            "seconds": seconds,
            "epochs": getattr(model, "n_epochs_", None),
        }


def report(path: pathlib.Path) -> str:
    """Return mean and standard deviation of the results as a Markdown table."""
    frame = pd.read_csv(path)
    groups = frame.groupby(["name", "n_train", "model"])
    summary = groups.agg(
        mean=("accuracy", "mean"),
        spread=("accuracy", "std"),
        seconds=("seconds", "median"),
        seeds=("seed", "nunique"),
    ).reset_index()
    summary["cell"] = [
        f"{mean:.3f} ± {spread:.3f}" if seeds > 1 else f"{mean:.3f}"
        for mean, spread, seeds in zip(
            summary["mean"], summary["spread"], summary["seeds"], strict=True
        )
    ]
    ours = summary[summary.model == "TransformerClassifier"]
    table = summary.pivot(index=["name", "n_train"], columns="model", values="cell")
    extra = ours.set_index(["name", "n_train"])[["seconds", "seeds"]]
    table = table.join(extra.round({"seconds": 0})).reset_index()
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).values]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Run the missing measurements, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default="build/quality.csv")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small-seeds", type=int, default=5)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if not options.report:
        run_missing(options)
    print(report(options.out))


def run_missing(options: argparse.Namespace) -> None:
    """Run the tasks that are not in the output file, smallest first."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if options.out.exists():
        frame = pd.read_csv(options.out)
        done = {Task(*key) for key in zip(frame.name, frame.n, frame.seed, strict=True)}
    names = options.sets if options.data else ["docstrings"]
    for n in sorted(options.sizes, key=lambda n: n or np.inf):
        seeds = options.small_seeds if 0 < n <= 100 else options.seeds
        for name in names:
            data = load(options.data, name)
            for task in [Task(name, n, seed) for seed in range(seeds)]:
                if task in done:
                    continue
                rows = pd.DataFrame(run(task, data))
                print(rows.to_string(index=False, header=False), flush=True)
                rows.to_csv(
                    options.out,
                    mode="a",
                    header=not options.out.exists(),
                    index=False,
                )


if __name__ == "__main__":
    main()
