"""Few-shot learning: compare the default parameters with SetFit on a hundred texts.

Both fine-tune the same encoder on the same texts. Runs alternate, so that varying load
on the machine affects both::

    python -m benchmarks.few_shot path/to/data --peer .venv-peers/bin/python

Times include loading and fitting, without imports.
"""

import argparse
import pathlib

import pandas as pd

from sktransformers._models.bundled import find_embedded

from .contestants import ours
from .running import MODEL, Contestant, measure
from .texts import load_set, task_of

MOST_TEST_TEXTS = 1000
OURS = ours("")
THEIRS = Contestant("SetFit", "with_setfit.py")


def main() -> None:
    """Run all tasks and print accuracies and speed-ups."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument(
        "--peer", required=True, help="Python executable of an environment with SetFit"
    )
    parser.add_argument("--sets", nargs="+", default=["sst2", "ag_news"])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name in options.sets if options.data else ["docstrings"]:
        data = load_set(options.data, name)
        for seed in range(options.seeds):
            texts = task_of(
                data, name, size=options.size, n_test=MOST_TEST_TEXTS, seed=seed
            )
            task = {"model": str(find_embedded(MODEL)), "seed": seed, **texts}
            own = measure(OURS, task)
            theirs = measure(THEIRS, task, options.peer)
            rows.append(
                {
                    "set": name,
                    "seed": seed,
                    "accuracy": own["accuracy"],
                    "SetFit's": theirs["accuracy"],
                    "seconds": own["seconds"],
                    "SetFit's seconds": theirs["seconds"],
                    "times faster": theirs["seconds"] / own["seconds"],
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
    frame = pd.DataFrame(rows).drop(columns="seed")
    print(frame.groupby("set").agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
