"""Compare TransformerTagger with the Trainer and a linear model of word features.

Entities are scored by F1, parts of speech by accuracy, on the same texts and seeds::

    python -m benchmarks.tagging path/to/data --peer .venv-peers/bin/python

A data set is a folder with train.conll and test.conll: one word and its tag per line,
separated by a tab, and a blank line between texts. Results that are already in the
output file are not computed again; ``--report`` prints the table of existing results.
"""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np

from sktransformers.metrics import entity_f1_score

from .accuracy import table
from .running import Contestant, append, make_parser, measure, rows_done, say

SETS = ("twitter_ner", "ud_ewt")
# Hyper-parameters of the token classification guide of transformers.
RECIPE = {"epochs": 3, "batch_size": 16, "learning_rate": 2e-5, "weight_decay": 0.01}
OURS, TRAINER = "tagging_with_sktransformers.py", "tagging_with_trainer.py"
CONTESTANTS = (
    Contestant("sktransformers, defaults", OURS, is_peer=False),
    Contestant(
        "sktransformers, as the Trainer", OURS, {"as_trainer": True}, is_peer=False
    ),
    Contestant("sktransformers, 3 epochs", OURS, {"max_epochs": 3}, is_peer=False),
    Contestant("Trainer, defaults", TRAINER),
    Contestant("Trainer, learning rate 1e-4", TRAINER, {"learning_rate": 1e-4}),
    Contestant("linear model of words", "tagging_with_words.py", is_peer=False),
)

KEYS = ("set", "contestant", "n", "seed")
COLUMNS = (*KEYS, "accuracy", "seconds", "epochs", "versions")


def main() -> None:
    """Run the missing measurements, then print the table."""
    parser = make_parser(__doc__.splitlines()[0], out="build/tagging.csv", size=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=1000)
    options = parser.parse_args()
    if not options.report:
        if options.data is None:
            parser.error("the folder of the data sets is needed")
        for row in missing(options):
            append(options.out, row, COLUMNS)
    print(table(options.out, measure="F1 or accuracy"))


def missing(options: argparse.Namespace) -> Iterator[dict]:
    """Yield the results that are not in the output file, seed by seed."""
    done = rows_done(options.out, KEYS)
    for name in options.sets or SETS:
        train, test = (
            read_conll(options.data / name / f"{part}.conll")
            for part in ("train", "test")
        )
        X_test, y_test = (part[: options.n_test] for part in test)
        for seed in range(options.seeds):
            rows = np.random.default_rng(seed).permutation(len(train[0]))
            X, y = ([part[row] for row in rows[: options.size]] for part in train)
            for contestant in CONTESTANTS:
                key = (name, contestant.name, str(options.size), str(seed))
                if key in done or not contestant.is_wanted(options.contestants):
                    continue
                task = {
                    **RECIPE,
                    "X": X,
                    "y": y,
                    "X_test": X_test,
                    "seed": seed,
                    "model": str(options.model),
                }
                result = measure(contestant, task, options.peer)
                if "skipped" in result:
                    say(f"{contestant.name}: left out, {result['skipped']}")
                    continue
                score = score_of(y_test, result.pop("predicted"))
                say(f"{', '.join(key)}: {score:.3f} in {result['seconds']:.0f} s")
                row = {**dict(zip(KEYS, key, strict=True)), "accuracy": score}
                yield {**row, **result}


def read_conll(path: pathlib.Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the words and tags of each text in a file."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    texts = [
        [line.split("\t") for line in block.splitlines() if line] for block in blocks
    ]
    texts = [text for text in texts if text]
    words = [[word for word, _ in text] for text in texts]
    return words, [[tag for _, tag in text] for text in texts]


def score_of(true: list[list[str]], predicted: list[list[str]]) -> float:
    """Return the F1 of entities, or the accuracy of plain tags."""
    if any(tag.startswith("B-") for tags in true for tag in tags):
        return float(entity_f1_score(true, predicted))
    pairs = zip(true, predicted, strict=True)
    right = [a == b for row in pairs for a, b in zip(*row, strict=True)]
    return sum(right) / len(right)


if __name__ == "__main__":
    main()
