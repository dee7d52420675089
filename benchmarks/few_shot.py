"""A hundred labelled texts: the defaults against SetFit, the few-shot specialist.

Both fine-tune the same encoder on the same texts; they take turns, so that a busy
moment of the machine hits both::

    python -m benchmarks.few_shot path/to/data --peer .venv-peers/bin/python

Seconds are those of loading and fitting, without imports.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd

from sktransformers.models.embedded import find_embedded

from .quality import Task, draw, load

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
HERE = pathlib.Path(__file__).parent / "peers"
MOST_TEST_TEXTS = 1000


def measure(python: str, script: str, task: dict) -> dict:
    """Run one contestant in a process of its own."""
    finished = subprocess.run(
        [python, str(HERE / script)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{script} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout)


def main() -> None:
    """Run all tasks and print accuracies and the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--peer", required=True, help="Python that has SetFit")
    parser.add_argument("--sets", nargs="+", default=["sst2", "ag_news"])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name in options.sets if options.data else ["docstrings"]:
        X_train, y_train, X_test, y_test = load(options.data, name)
        tested = np.random.default_rng(0).permutation(len(X_test))[:MOST_TEST_TEXTS]
        for seed in range(options.seeds):
            X, y = draw(X_train, y_train, Task(name, options.size, seed))
            task = {
                "model": str(find_embedded(MODEL)),
                "seed": seed,
                "X": list(X),
                "y": list(y),
                "X_test": [X_test[row] for row in tested],
                "y_test": [y_test[row] for row in tested],
            }
            ours = measure(sys.executable, "with_sktransformers.py", task)
            theirs = measure(options.peer, "with_setfit.py", task)
            rows.append(
                {
                    "set": name,
                    "seed": seed,
                    "accuracy": ours["accuracy"],
                    "SetFit's": theirs["accuracy"],
                    "seconds": ours["seconds"],
                    "SetFit's seconds": theirs["seconds"],
                    "times faster": theirs["seconds"] / ours["seconds"],
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
    frame = pd.DataFrame(rows).drop(columns="seed")
    print(frame.groupby("set").agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
