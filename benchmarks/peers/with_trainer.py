"""The Trainer of transformers, as its guide to text classification has it.

https://huggingface.co/docs/transformers/tasks/sequence_classification

Saving and logging are switched off in its favour. The options switch its own speed
options on, or pad every text to the longest length allowed, as many tutorials do.
"""

import tempfile
from typing import Any

from common import accuracy, clock, import_backbone, label_ids, main

N_WARM_UP = 16


def fit(task: dict) -> dict:
    """Time loading, tokenization and training; score on the test texts."""
    import_all(task)
    options = dict(task["options"])
    padding = options.pop("padding", False)
    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        labels, ids = label_ids(task)
        trainer = make_trainer(task, folder, len(labels), **options)
        trainer.train_dataset = tokenized(trainer, task, task["X"], padding, label=ids)
        trainer.train()
        seconds = clock() - started
        test = tokenized(trainer, task, task["X_test"], False)
        predicted = trainer.predict(test).predictions.argmax(axis=1)
    return {
        "seconds": seconds,
        "accuracy": accuracy(task, [labels[i] for i in predicted]),
        "epochs": task["epochs"],
    }


def predict(task: dict) -> dict:
    """Time tokenization and prediction of all test texts."""
    import_all(task)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(task, folder, len(set(task["y"])), **task["options"])
        trainer.predict(tokenized(trainer, task, task["X_test"][:N_WARM_UP], False))
        started = clock()
        trainer.predict(tokenized(trainer, task, task["X_test"], False))
        return {"seconds": clock() - started}


def import_all(task: dict) -> None:
    """Import what the functions below need: imports are not timed."""
    import_backbone(task["model"])
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    _ = Dataset, Trainer, TrainingArguments


def make_trainer(task: dict, folder: str, n_labels: int, **options: Any) -> Any:
    """Return a Trainer, with a new head on the backbone, but no data yet."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=task["epochs"],
        per_device_train_batch_size=task["batch_size"],
        learning_rate=task["learning_rate"],
        weight_decay=task["weight_decay"],
        seed=task["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),  # else it refuses bf16 there
        **options,
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        task["model"], num_labels=n_labels
    )
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    # Given a tokenizer, it pads each batch to its longest text.
    return Trainer(model=model, args=arguments, processing_class=tokenizer)


def tokenized(
    trainer: Any, task: dict, texts: list[str], padding: Any, **columns: list
) -> Any:
    """Return the texts as a tokenized data set."""
    from datasets import Dataset

    def tokenize(batch: dict) -> Any:
        return trainer.processing_class(
            batch["text"],
            truncation=True,
            max_length=task["max_length"],
            padding=padding,
        )

    return Dataset.from_dict({"text": texts, **columns}).map(tokenize, batched=True)


if __name__ == "__main__":
    main(fit=fit, predict=predict)
