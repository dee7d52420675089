"""SetFit on a few texts, following its own documentation.

Pairs are drawn for ``num_iterations`` rounds, the sentence encoder is trained on them
for one epoch, and logistic regression is fitted on its embeddings.
"""

import json
import sys
import time


def main() -> None:
    """Fit and score on the task given on standard input."""
    task = json.load(sys.stdin)
    sys.stdout, results = sys.stderr, sys.stdout  # it prints as it trains
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    started = time.perf_counter()
    model = SetFitModel.from_pretrained(task["model"])
    arguments = TrainingArguments(
        batch_size=16,
        num_epochs=1,
        num_iterations=10,
        seed=task["seed"],
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
    )
    data = Dataset.from_dict({"text": task["X"], "label": task["y"]})
    Trainer(model=model, args=arguments, train_dataset=data).train()
    seconds = time.perf_counter() - started
    predicted = list(model.predict(task["X_test"]))
    right = [str(a) == b for a, b in zip(predicted, task["y_test"], strict=True)]
    json.dump({"seconds": seconds, "accuracy": sum(right) / len(right)}, results)


if __name__ == "__main__":
    main()
