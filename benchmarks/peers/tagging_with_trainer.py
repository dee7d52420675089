"""The Trainer of transformers, as its guide to token classification has it.

https://huggingface.co/docs/transformers/tasks/token_classification

The loss is on the first token of each word. Texts are cut at the model's limit; words
beyond it get the tag O, or else the first one.
"""

import tempfile
from typing import Any

from common import clock, import_backbone, main


def fit(task: dict) -> dict:
    """Time loading, tokenization and training; tag the test texts."""
    import_all(task)
    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        tags = sorted({tag for row in task["y"] for tag in row})
        trainer = make_trainer(task, folder, tags)
        trainer.train_dataset = tokenized(trainer, task["X"], task["y"], tags)
        trainer.train()
        seconds = clock() - started
        return {
            "seconds": seconds,
            "epochs": task["epochs"],
            "predicted": predict(trainer, task["X_test"], tags),
        }


def import_all(task: dict) -> None:
    """Import what the functions below need: imports are not timed."""
    import_backbone(task["model"])
    from datasets import Dataset
    from transformers import (
        AutoModelForTokenClassification,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    _ = Dataset, AutoModelForTokenClassification
    _ = DataCollatorForTokenClassification, Trainer, TrainingArguments


def make_trainer(task: dict, folder: str, tags: list[str]) -> Any:
    """Return a Trainer, with a new head on the backbone, but no data yet."""
    import torch
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    settings = {**task, **task["options"]}
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        seed=settings["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),
    )
    model = AutoModelForTokenClassification.from_pretrained(
        task["model"],
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    return Trainer(
        model=model,
        args=arguments,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer=tokenizer),
    )


def tokenized(trainer: Any, X: list, y: list | None, tags: list[str]) -> Any:
    """Return the texts as a tokenized data set, with labels where y is given."""
    from datasets import Dataset

    codes = {tag: number for number, tag in enumerate(tags)}

    def tokenize(batch: dict) -> Any:
        encoded = trainer.processing_class(
            batch["words"], truncation=True, is_split_into_words=True
        )
        encoded["labels"] = [
            labels_of(encoded.word_ids(row), batch["tags"][row], codes)
            for row in range(len(batch["words"]))
        ]
        return encoded

    y = [[tags[0]] * len(words) for words in X] if y is None else y
    return Dataset.from_dict({"words": X, "tags": y}).map(
        tokenize, batched=True, remove_columns=["words", "tags"]
    )


def labels_of(words: list, tags: list[str], codes: dict[str, int]) -> list[int]:
    """Return the label of each token: -100 where it is not the first of a word."""
    labels, last = [], None
    for word in words:
        is_first = word is not None and word != last
        labels.append(codes[tags[word]] if is_first else -100)
        last = word
    return labels


def predict(trainer: Any, X: list, tags: list[str]) -> list[list[str]]:
    """Return the tag of each word."""
    result = trainer.predict(tokenized(trainer, X, None, tags))
    fallback = "O" if "O" in tags else tags[0]
    predicted = []
    rows = zip(X, result.predictions.argmax(axis=2), result.label_ids, strict=True)
    for words, codes, labels in rows:
        found = [tags[code] for code in codes[labels != -100]]
        predicted.append(found + [fallback] * (len(words) - len(found)))
    return predicted


if __name__ == "__main__":
    main(fit=fit)
