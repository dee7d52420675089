"""Compare the speed with other libraries, with the same model and hyper-parameters.

Each run is a separate process; the libraries alternate within each repeat, so that
varying load on the machine affects all alike. Times include loading and tokenization,
but not imports::

    python -m benchmarks.speed path/to/data --peer .venv-peers/bin/python

Tasks: "fit"; "predict" (probabilities of many texts); "one" (of a single short text);
"embed"; "race" (time to the accuracy of the Trainer after three epochs); "roofline"
(peak rate of the hardware). Results that are already in the output file are not
computed again, so that a run can be resumed and repeats can be added; ``--report``
prints the table of existing results.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from .contestants import WORKS, ours
from .report import drawing, table
from .running import (
    Contestant,
    append,
    busy_share,
    make_parser,
    measure,
    rows_done,
    say,
)
from .texts import load_set, task_of

HYPER = {
    "epochs": 1,
    "max_length": 256,
    "batch_size": 16,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
}
RACE_EPOCHS = 3
MOST_TEST_TEXTS = 500
# 29 tokens.
ONE_TEXT = (
    "A slow start, but the last half hour more than makes up for it, and the young "
    "lead is a find worth the ticket."
)

# Trained for several epochs, as the probabilities of a new head are nearly uniform.
PREPARED = ours("", max_epochs=3, max_length=HYPER["max_length"])
SAME_FOR_ALL_SETS = ("one", "roofline")
ANY_SET = "any"

KEYS = ("set", "work", "contestant", "n", "repeat")
COLUMNS = (
    *KEYS,
    "seconds",
    "accuracy",
    "epochs",
    "agreement",
    "difference",
    "precision",
    "flops",
    "train_seconds",
    "bare_seconds",
    "busy",
    "device",
    "threads",
    "versions",
)


def main() -> None:
    """Run the missing measurements, then print the table and draw the figure."""
    options = parse()
    failures = [] if options.report else run_missing(options)
    if options.out.exists():
        print(table(options.out))
        drawing(options.out).savefig(options.out.with_suffix(".png"), dpi=150)
    if failures:
        sys.exit("\n\n".join(failures))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__.splitlines()[0], out="build/speed.csv", size=320)
    parser.add_argument("--predict-size", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--short", action="store_true", help="takes five minutes")
    options = parser.parse_args()
    if options.sets is None:
        options.sets = ["mixed", "sst2"] if options.data else ["mixed"]
    if options.short:
        options.sets, options.repeats = options.sets[:1], 1
        options.size, options.predict_size = 96, 300
        options.only = [work for work in options.only if work != "race"]
    return options


def run_missing(options: argparse.Namespace) -> list[str]:
    """Run the missing measurements; return the error messages of failed ones."""
    failures = []
    done = rows_done(options.out, KEYS)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            tasks = Tasks(options, name, pathlib.Path(folder))
            for repeat, work, contestant in turns(options):
                key = tasks.key(work, contestant, repeat)
                if key in done:
                    continue
                done.add(key)
                try:
                    row = run(tasks, work, contestant, repeat, options.peer)
                except RuntimeError as error:
                    say(f"failed: {contestant.name}")
                    failures.append(str(error))
                else:
                    if row is not None:
                        append(options.out, row, COLUMNS)
    return failures


def turns(options: argparse.Namespace) -> Iterator[tuple[int, str, Contestant]]:
    """Yield the runs in order; each configuration runs once per repeat."""
    for repeat in range(options.repeats):
        for work in options.only:
            for contestant in WORKS[work]:
                is_long = options.short and not contestant.is_short
                if contestant.is_wanted(options.contestants) and not is_long:
                    yield repeat, work, contestant


def run(
    tasks: "Tasks", work: str, contestant: Contestant, repeat: int, peer: str
) -> dict | None:
    """Run a configuration; return its row, or None if it cannot run here."""
    task = tasks.make(work, seed=repeat)
    busy = busy_share()
    result = measure(contestant, task, peer)
    key = tasks.key(work, contestant, repeat)
    where = f"{key[0]} {work}, {contestant.name}, repeat {repeat + 1}"
    if "skipped" in result:
        say(f"{where}: left out, {result['skipped']}")
        return None
    if "probabilities" in result:
        result |= compare(tasks.prepared[1], np.array(result.pop("probabilities")))
    note = "" if busy is None else f" ({busy:.0%} of the processors busy before)"
    say(f"{where}: {result['seconds']:.4g} s{note}")
    return {**dict(zip(KEYS, key, strict=True)), **result, "busy": busy}


def compare(exact: np.ndarray, fast: np.ndarray) -> dict:
    """Return label agreement with, and maximum difference from, float32."""
    same = exact.argmax(axis=1) == fast.argmax(axis=1)
    return {
        "agreement": float(same.mean()),
        "difference": float(np.abs(exact - fast).max()),
    }


@dataclasses.dataclass
class Tasks:
    """The tasks of a data set; texts and the fitted classifier are created lazily.

    Attributes
    ----------
    options : Namespace
        Parsed command line.
    name : str
        Name of the data set.
    folder : Path
        Directory of the fitted classifier.
    """

    options: argparse.Namespace
    name: str
    folder: pathlib.Path

    def key(self, work: str, contestant: Contestant, repeat: int) -> tuple[str, ...]:
        """Return the unique key of a row."""
        n = {
            "fit": self.options.size,
            "race": self.options.size,
            "predict": self.options.predict_size,
            "embed": self.options.predict_size,
        }.get(work, 1)
        name = ANY_SET if work in SAME_FOR_ALL_SETS else self.name
        return name, work, contestant.name, str(n), str(repeat)

    def make(self, work: str, seed: int) -> dict:
        """Return the input of a script for a task."""
        task = {"work": work, "model": str(self.options.model), "seed": seed, **HYPER}
        if work == "roofline":
            return task
        if work in ("fit", "race"):
            epochs = RACE_EPOCHS if work == "race" else HYPER["epochs"]
            return {
                **task,
                **self.texts(MOST_TEST_TEXTS),
                "work": "fit",
                "epochs": epochs,
            }
        task |= {"text": ONE_TEXT, "fitted": self.prepared[0]}
        return task | self.texts(self.options.predict_size)

    def texts(self, n_test: int) -> dict:
        """Return training and test texts and labels."""
        return task_of(self.data, self.name, size=self.options.size, n_test=n_test)

    @functools.cached_property
    def data(self) -> tuple:
        """The full data set."""
        say(f"reading {self.name}")
        return load_set(self.options.data, self.name)

    @functools.cached_property
    def prepared(self) -> tuple[str, np.ndarray]:
        """Path of a fitted classifier, and its probabilities in float32."""
        say(f"fitting the classifier that predicts {self.name}")
        path = str(self.folder / f"{self.name}.joblib")
        task = {
            "work": "prepare",
            "model": str(self.options.model),
            "seed": 0,
            "fitted": path,
            **self.texts(self.options.predict_size),
        }
        result = measure(PREPARED, task)
        return path, np.array(result["probabilities"])


if __name__ == "__main__":
    main()
