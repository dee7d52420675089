"""Verify that time and memory grow linearly with the number of texts.

Measures fitting (one epoch), prediction, and tokenization with batching, on an
increasing number of texts of at most 32 tokens::

    python -m benchmarks.scaling --out build/scaling.csv

Each point runs in a separate process. Its memory is the increase of the resident memory
up to the peak, without the texts themselves. Results that are already in the output
file are not computed again, so that a run can be resumed; ``--report`` prints the table
and draws the figure of existing results. On two cores with AMX the points up to 10^4
texts take two minutes, the longest (a fit on 10^5) ten.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .running import append, busy_share, rows_done, say

MAX_LENGTH = 32
SIZES = {
    "tokenize": (100, 1_000, 10_000, 100_000, 1_000_000),
    "predict": (100, 1_000, 10_000, 100_000),
    "fit": (100, 1_000, 10_000, 100_000),
}
TOLERANCE = 0.1
KEYS = ("work", "n", "repeat")
UNITS = {"seconds": "s", "megabytes": "MB"}
COLUMNS = (*KEYS, "seconds", "megabytes", "busy", "threads", "versions")
MILLION = 1_000_000


def main() -> None:
    """Run the missing measurements, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default="build/scaling.csv")
    parser.add_argument("--works", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument(
        "--largest", type=int, default=MILLION, help="maximum number of texts"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        work, n = options.point
        print(json.dumps(measure(work, int(n))))
        return
    if not options.report:
        run_missing(options)
    frame = pd.read_csv(options.out)
    print(report(frame))
    draw(frame, options.out.with_suffix(".svg"))


def run_missing(options: argparse.Namespace) -> None:
    """Run the points that are not in the output file, smallest first."""
    done = rows_done(options.out, KEYS)
    points = sorted(
        (repeat, n, work)
        for repeat in range(options.repeats)
        for work in options.works
        for n in SIZES[work]
        if n <= options.largest
    )
    for repeat, n, work in points:
        if (work, str(n), str(repeat)) in done:
            continue
        busy = busy_share()
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling", "--point", work, str(n)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(finished.stdout)
        row = {"work": work, "n": n, "repeat": repeat, "busy": busy, **result}
        append(options.out, row, COLUMNS)
        note = "" if busy is None else f" ({busy:.0%} of the processors busy before)"
        say(f"{work} {n}: {row['seconds']:.3g} s, {row['megabytes']:.0f} MB{note}")


def measure(work: str, n: int) -> dict[str, Any]:
    """Run one task on n texts and return its time and memory.

    Parameters
    ----------
    work : {"tokenize", "predict", "fit"}
        Task to run.
    n : int
        Number of texts.

    Returns
    -------
    dict
        Row of the point, without its keys.
    """
    from importlib.metadata import version

    from sktransformers.exceptions import TruncationWarning

    warnings.simplefilter("ignore", TruncationWarning)
    texts, labels = draw_texts(n)
    run = PREPARE[work](texts, labels)
    memory = resident_bytes()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    import torch

    return {
        "seconds": seconds,
        "megabytes": (peak_bytes() - memory) / 1e6,
        "threads": torch.get_num_threads(),
        "versions": f"torch {version('torch')}, transformers {version('transformers')}",
    }


def draw_texts(n: int) -> tuple[list[str], np.ndarray]:
    """Return n docstrings, drawn with replacement, and their packages."""
    from sktransformers.datasets import load_docstrings

    X, y = load_docstrings(return_X_y=True)
    rows = np.random.default_rng(0).integers(len(X), size=n)
    return [f"{X[row]} {number}" for number, row in enumerate(rows)], y[rows]


def prepare_tokenize(texts: list[str], _labels: np.ndarray) -> Callable[[], object]:
    """Return a function that tokenizes the texts and pads all batches."""
    from sktransformers._estimators.base import DEFAULT_MODEL
    from sktransformers._models.loading import find_checkpoint
    from sktransformers._text.batching import inference_batches, training_batches
    from sktransformers._text.encoding import encode
    from sktransformers._text.tokenization import SpecialTokens, tokenize

    tokenizer = find_checkpoint(DEFAULT_MODEL).tokenizer

    def run(texts: list[str] = texts) -> None:
        special = SpecialTokens.of(tokenizer)
        tokens = tokenize(tokenizer, texts)
        encoding = encode([tokens], special, max_length=MAX_LENGTH, window=False)
        rng = np.random.default_rng(0)
        for rows in training_batches(encoding.lengths, 32, rng):
            encoding.pad(rows)
        for rows in inference_batches(encoding.lengths, encoding.hashes()):
            encoding.pad(rows)

    run(texts[:50])
    return run


def prepare_predict(texts: list[str], labels: np.ndarray) -> Callable[[], object]:
    """Return a function that predicts with a fitted classifier."""
    classifier = make_classifier(max_epochs=0).fit(texts[:100], labels[:100])
    classifier.predict_proba(texts[:50])
    return lambda: classifier.predict_proba(texts)


def prepare_fit(texts: list[str], labels: np.ndarray) -> Callable[[], object]:
    """Return a function that fits a classifier for one epoch."""
    make_classifier(max_epochs=1).fit(texts[:50], labels[:50])  # warm-up: lazy imports
    classifier = make_classifier(max_epochs=1)
    return lambda: classifier.fit(texts, labels)


def make_classifier(max_epochs: int) -> Any:
    """Return an unfitted classifier."""
    from sktransformers import TransformerClassifier

    return TransformerClassifier(
        max_epochs=max_epochs, max_length=MAX_LENGTH, random_state=0
    )


PREPARE = {"tokenize": prepare_tokenize, "predict": prepare_predict, "fit": prepare_fit}


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes() -> int:
    """Return the current resident memory; if unavailable, the peak so far."""
    import resource

    path = pathlib.Path("/proc/self/statm")
    if not path.exists():
        return peak_bytes()
    return int(path.read_text().split()[1]) * resource.getpagesize()


def lines_through(n: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the constant cost, and the cost per text up to each further point.

    The slopes are relative to the smallest point, which is dominated by the constant.
    """
    slopes = (values[1:] - values[0]) / (n[1:] - n[0])
    return float(values[0] - slopes[-1] * n[0]), slopes


def report(frame: pd.DataFrame) -> str:
    """Return Markdown tables of all points and of the fitted lines."""
    middle = frame.groupby(["work", "n"], sort=False).median(numeric_only=True)
    lines = ["| work | texts | seconds | MB |", "| --- | --- | --- | --- |"]
    for (work, n), row in middle.sort_index().iterrows():
        lines.append(f"| {work} | {n:,} | {row.seconds:.3g} | {row.megabytes:.0f} |")
    lines += [
        "",
        "| work | constant | a million texts | a text, last point to the one before |",
        "| --- | --- | --- | --- |",
    ]
    for work, n, values in curves(middle):
        for name, unit in UNITS.items():
            constant, slopes = lines_through(n, values[name])
            more = slopes[-1] / slopes[-2] - 1
            lines.append(
                f"| {work}, {unit} | {constant:.3g} | {MILLION * slopes[-1]:,.0f} | "
                f"{more:+.1%}{'' if more <= TOLERANCE else ', not linear'} |"
            )
    return "\n".join(lines)


def curves(
    middle: pd.DataFrame,
) -> list[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """Return the sizes of each task, with the seconds and megabytes."""
    found = []
    for work, points in middle.sort_index().groupby(level="work"):
        n = points.index.get_level_values("n").to_numpy()
        values = {name: points[name].to_numpy() for name in UNITS}
        found.append((str(work), n, values))
    return found


def draw(frame: pd.DataFrame, path: pathlib.Path) -> None:
    """Plot time and memory against the number of texts, with the fitted lines."""
    import matplotlib
    from matplotlib.figure import Figure

    middle = frame.groupby(["work", "n"]).median(numeric_only=True)
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for work, n, values in curves(middle):
        for ax, (name, measured) in zip(panels, values.items(), strict=True):
            constant, slopes = lines_through(n, measured)
            points = ax.loglog(n, measured, "o", label=work)
            fine = np.geomspace(n[0], n[-1])
            ax.plot(fine, constant + slopes[-1] * fine, color=points[0].get_color())
            ax.set_xlabel("texts")
            ax.set_title(f"{name.replace('mega', 'peak memory, mega')}")
    panels[0].legend()
    with matplotlib.rc_context({"svg.hashsalt": "scaling"}):
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
