"""TransformerTagger: without hyper-parameters in the task's options, its defaults."""

from typing import Any

from common import clock, import_backbone, main


def fit(task: dict) -> dict:
    """Time loading, tokenization and training; tag the test texts."""
    tagger = make(task)
    started = clock()
    tagger.fit(task["X"], task["y"])
    return {
        "seconds": clock() - started,
        "epochs": tagger.n_epochs_,
        "predicted": list(tagger.predict(task["X_test"])),
    }


def make(task: dict) -> Any:
    """Return the unfitted tagger, with everything imported that fitting needs."""
    import_backbone(task["model"])
    import sktransformers._training.fit  # noqa: F401
    from sktransformers import TransformerTagger

    options = dict(task["options"])
    if options.pop("as_trainer", False):
        options |= {
            "max_epochs": task["epochs"],
            "batch_size": task["batch_size"],
            "learning_rate": task["learning_rate"],
            "head_learning_rate": task["learning_rate"],
            "weight_decay": task["weight_decay"],
            "warmup_ratio": 0.0,
        }
    return TransformerTagger(task["model"], random_state=task["seed"], **options)


if __name__ == "__main__":
    main(fit=fit)
