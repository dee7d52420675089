"""TransformerClassifier on a few texts, with its defaults."""

import json
import sys
import time


def main() -> None:
    """Fit and score on the task given on standard input."""
    task = json.load(sys.stdin)
    import torch
    import transformers

    from sktransformers import TransformerClassifier

    # The peers' imports are not timed either.
    _ = torch.Tensor, transformers.AutoModel, transformers.AutoTokenizer
    started = time.perf_counter()
    model = TransformerClassifier(task["model"], random_state=task["seed"])
    model.fit(task["X"], task["y"])
    seconds = time.perf_counter() - started
    accuracy = model.score(task["X_test"], task["y_test"])
    json.dump({"seconds": seconds, "accuracy": accuracy}, sys.stdout)


if __name__ == "__main__":
    main()
