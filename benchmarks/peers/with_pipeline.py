"""The pipeline of transformers: texts in, labels and scores out.

https://huggingface.co/docs/transformers/main_classes/pipelines

Its head is new, which is as fast as a trained one.
"""

from typing import Any

from common import clock, import_backbone, latencies, main

N_WARM_UP = 16


def predict(task: dict) -> dict:
    """Time the labels of all test texts."""
    pipe = make(task)
    pipe(task["X_test"][:N_WARM_UP], **task["options"])
    started = clock()
    pipe(task["X_test"], **task["options"])
    return {"seconds": clock() - started}


def one(task: dict) -> dict:
    """Time one short text."""
    pipe = make(task)
    return {"seconds": latencies(lambda: pipe(task["text"]))[0]}


def make(task: dict) -> Any:
    """Return the pipeline; it must be told to cut texts, or long ones fail."""
    import_backbone(task["model"])
    import torch
    from transformers import pipeline

    return pipeline(
        "text-classification",
        model=task["model"],
        device=0 if torch.cuda.is_available() else -1,
        truncation=True,
        max_length=task["max_length"],
    )


if __name__ == "__main__":
    main(predict=predict, one=one)
