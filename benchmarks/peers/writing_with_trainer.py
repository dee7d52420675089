"""The Seq2SeqTrainer of transformers, as its guide to translation has it.

https://huggingface.co/docs/transformers/tasks/translation
"""

import tempfile
from typing import Any

from common import clock, main


def translate(task: dict) -> dict:
    """Time loading, tokenization and training; write the test texts."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
    )

    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        tokenizer = AutoTokenizer.from_pretrained(task["model"])
        model = AutoModelForSeq2SeqLM.from_pretrained(task["model"])
        settings = {**task, **task["options"]}
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            num_train_epochs=settings["epochs"],
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            weight_decay=0.01,
            warmup_steps=0.1,  # a share of all
            seed=settings["seed"],
            bf16=settings.get("bf16", False),
            predict_with_generate=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.accelerator.is_available(),
        )
        trainer = Seq2SeqTrainer(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer=tokenizer, model=model),
        )
        columns = {"text": task["X"], "target": task["y"]}
        trainer.train_dataset = Dataset.from_dict(columns).map(
            lambda batch: encode(tokenizer, batch),
            batched=True,
            remove_columns=["text", "target"],
        )
        trainer.train()
        seconds = clock() - started
        started = clock()
        written = write_all(trainer, tokenizer, task)
        return {
            "seconds": seconds,
            "predict_seconds": clock() - started,
            "written": written,
        }


def encode(tokenizer: Any, batch: dict) -> Any:
    """Return the ids of sources and targets, ends included."""
    encoded = tokenizer(batch["text"], truncation=True)
    encoded["labels"] = tokenizer(text_target=batch["target"], truncation=True)[
        "input_ids"
    ]
    return encoded


def write_all(trainer: Any, tokenizer: Any, task: dict) -> list[str]:
    """Return what the model writes for the test texts."""
    from datasets import Dataset

    # It cannot predict without targets; they are not looked at.
    columns = {"text": task["X_test"], "target": task["X_test"]}
    test = Dataset.from_dict(columns).map(
        lambda batch: encode(tokenizer, batch),
        batched=True,
        remove_columns=["text", "target"],
    )
    ids = trainer.predict(
        test, max_new_tokens=task["max_new_tokens"], num_beams=1
    ).predictions
    ids[ids < 0] = tokenizer.pad_token_id
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


if __name__ == "__main__":
    main(translate=translate)
