"""simpletransformers, by its guide to classification.

https://simpletransformers.ai/docs/classification-models/

It pads every text to ``max_seq_length``. Saving is switched off in its favour.
"""

import os
import tempfile

from common import accuracy, clock, import_backbone, label_ids, main


def fit(task: dict) -> dict:
    """Time loading, tokenization and training; score on the test texts."""
    import_backbone(task["model"])
    import pandas as pd
    import torch
    from simpletransformers.classification import ClassificationModel

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it leaves folders where it runs
        started = clock()
        labels, ids = label_ids(task)
        model = ClassificationModel(
            "bert",
            task["model"],
            num_labels=len(labels),
            use_cuda=torch.cuda.is_available(),
            args={
                "max_seq_length": task["max_length"],
                "num_train_epochs": task["epochs"],
                "train_batch_size": task["batch_size"],
                "learning_rate": task["learning_rate"],
                "weight_decay": task["weight_decay"],
                "warmup_ratio": 0.0,
                "manual_seed": task["seed"],
                "no_save": True,
                "no_cache": True,
                "save_model_every_epoch": False,
                "save_eval_checkpoints": False,
                "use_multiprocessing": False,
                "use_multiprocessing_for_evaluation": False,
                "silent": True,
            },
        )
        model.train_model(pd.DataFrame({"text": task["X"], "labels": ids}))
        seconds = clock() - started
        predicted, _ = model.predict(task["X_test"])
        os.chdir("/")
    return {
        "seconds": seconds,
        "accuracy": accuracy(task, [labels[i] for i in predicted]),
        "epochs": task["epochs"],
    }


if __name__ == "__main__":
    main(fit=fit)
