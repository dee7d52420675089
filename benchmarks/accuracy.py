"""Compare the accuracy with the Trainer, using the same hyper-parameters.

Both use the same backbone, texts, epochs, batch size and learning rate, and several
seeds, each with a different training sample and order. By default sktransformers
initializes the head by a linear model; "random head" initializes it at random, as the
Trainer does::

    python -m benchmarks.accuracy path/to/data --peer .venv-peers/bin/python

Results that are already in the output file are not computed again, so that a run can be
resumed; ``--report`` prints the table of existing results.
"""

import argparse
import pathlib
from collections.abc import Iterator

import pandas as pd

from .contestants import TRAINER_DEFAULTS, ours
from .running import append, make_parser, measure, rows_done, say
from .speed import HYPER
from .texts import load_set, task_of

SETS = ("sst2", "ag_news", "banking77")
EPOCHS = 3
MOST_TEST_TEXTS = 1500
CONTESTANTS = (
    ours(""),
    ours("random head", random_head=True),
    ours("float32", precision="float32"),
    TRAINER_DEFAULTS,
)

KEYS = ("set", "contestant", "n", "seed")
COLUMNS = (*KEYS, "accuracy", "seconds", "versions")


def main() -> None:
    """Run the missing measurements, then print the table."""
    parser = make_parser(__doc__.splitlines()[0], out="build/accuracy.csv", size=1000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    if not options.report:
        for row in missing(options):
            append(options.out, row, COLUMNS)
    print(table(options.out))


def missing(options: argparse.Namespace) -> Iterator[dict]:
    """Yield the results that are not in the output file, seed by seed."""
    done = rows_done(options.out, KEYS)
    names = options.sets or (SETS if options.data else ["docstrings"])
    for name in names:
        data = load_set(options.data, name)
        for seed in range(options.seeds):
            for contestant in CONTESTANTS:
                key = (name, contestant.name, str(options.size), str(seed))
                if key in done or not contestant.is_wanted(options.contestants):
                    continue
                task = {
                    **HYPER,
                    **task_of(
                        data, name, size=options.size, n_test=MOST_TEST_TEXTS, seed=seed
                    ),
                    "epochs": EPOCHS,
                    "model": str(options.model),
                    "seed": seed,
                }
                result = measure(contestant, task, options.peer)
                if "skipped" in result:
                    say(f"{contestant.name}: left out, {result['skipped']}")
                    continue
                say(f"{', '.join(key)}: {result['accuracy']:.3f}")
                yield {**dict(zip(KEYS, key, strict=True)), **result}


def table(path: pathlib.Path, measure: str = "accuracy") -> str:
    """Return the results in a CSV file as a Markdown table.

    Differences from the Trainer are computed per seed, which cancels the effect of the
    training sample.
    """
    frame = pd.read_csv(path)
    header = (
        "set",
        "texts",
        "contestant",
        measure,
        "above the Trainer",
        "seconds",
        "seeds",
    )
    lines = [header, ("---",) * len(header)]
    for (name, n), group in frame.groupby(["set", "n"], sort=False):
        accuracies = group.pivot(index="seed", columns="contestant", values="accuracy")
        for contestant, rows in group.groupby("contestant", sort=False):
            difference = ""
            if TRAINER_DEFAULTS.name in accuracies.columns.drop(contestant):
                pairs = accuracies[contestant] - accuracies[TRAINER_DEFAULTS.name]
                difference = with_error(pairs, "+.3f")
            lines.append(
                (
                    name,
                    str(n),
                    contestant,
                    with_error(rows.accuracy, ".3f"),
                    difference,
                    f"{rows.seconds.median():.3g}",
                    str(len(rows)),
                )
            )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_error(values: pd.Series, form: str) -> str:
    """Format the mean and its standard error."""
    values = values.dropna()
    if values.empty:
        return ""
    error = f" ± {values.sem():.3f}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{error}"


if __name__ == "__main__":
    main()
