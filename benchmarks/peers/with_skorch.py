"""skorch, by its own recipe for Hugging Face models.

https://github.com/skorch-dev/skorch/blob/master/notebooks/Hugging_Face_Finetuning.ipynb

Its tokenizer pads every text to ``max_length``, 256 by default. Two departures: no
texts are held out for validation, so that all contestants train on the same ones, and
no progress bar.
"""

from typing import Any

from common import accuracy, clock, import_backbone, main


def fit(task: dict) -> dict:
    """Time loading, tokenization and training; score on the test texts."""
    import_backbone(task["model"])
    import numpy as np
    import torch
    from sklearn.pipeline import Pipeline
    from skorch import NeuralNetClassifier
    from skorch.callbacks import LRScheduler
    from skorch.hf import HuggingfacePretrainedTokenizer
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import AutoModelForSequenceClassification

    class Module(torch.nn.Module):
        """The model, reduced to its logits."""

        def __init__(self, name: str, num_labels: int) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=num_labels
            )

        def forward(self, **inputs: Any) -> Any:
            return self.model(**inputs).logits

    n_steps = task["epochs"] * (len(task["X"]) // task["batch_size"] + 1)
    torch.manual_seed(task["seed"])
    started = clock()
    labels, y = np.unique(task["y"], return_inverse=True)
    pipeline = Pipeline(
        [
            (
                "tokenizer",
                HuggingfacePretrainedTokenizer(
                    task["model"], max_length=task["max_length"]
                ),
            ),
            (
                "net",
                NeuralNetClassifier(
                    Module,
                    module__name=task["model"],
                    module__num_labels=len(labels),
                    optimizer=torch.optim.AdamW,
                    optimizer__weight_decay=task["weight_decay"],
                    lr=task["learning_rate"],
                    max_epochs=task["epochs"],
                    criterion=torch.nn.CrossEntropyLoss,
                    batch_size=task["batch_size"],
                    iterator_train__shuffle=True,
                    train_split=None,
                    device="cuda" if torch.cuda.is_available() else "cpu",
                    callbacks=[
                        LRScheduler(
                            LambdaLR,
                            lr_lambda=lambda step: 1 - step / n_steps,
                            step_every="batch",
                        )
                    ],
                    verbose=0,
                ),
            ),
        ]
    )
    pipeline.fit(task["X"], y)
    seconds = clock() - started
    predicted = labels[pipeline.predict(task["X_test"])]
    return {
        "seconds": seconds,
        "accuracy": accuracy(task, predicted),
        "epochs": task["epochs"],
    }


if __name__ == "__main__":
    main(fit=fit)
