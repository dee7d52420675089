"""TransformerClassifier: fitting, prediction, one text, embeddings.

Without hyper-parameters in the task, its defaults.
"""

from typing import Any

from common import accuracy, clock, import_backbone, latencies, main

N_WARM_UP = 16


def fit(task: dict) -> dict:
    """Time loading and fitting; score on the test texts."""
    classifier = make(task)
    started = clock()
    classifier.fit(task["X"], task["y"])
    seconds = clock() - started
    result = {
        "seconds": seconds,
        "accuracy": accuracy(task, classifier.predict(task["X_test"])),
        "epochs": classifier.n_epochs_,
        "precision": training_precision(classifier),
    }
    # Backward takes two passes' worth. The one forward pass that starts the head is
    # not counted: it is the price of the start, not useful work of an epoch.
    flops = 3 * classifier.n_epochs_ * forward_flops(classifier, task["X"])
    if flops:
        train_seconds = sum(record["seconds"] for record in classifier.history_)
        result |= {"flops": flops, "train_seconds": train_seconds}
    return result


def prepare(task: dict) -> dict:
    """Fit the classifier that the other works use, and save it."""
    import joblib

    classifier = make(task).fit(task["X"], task["y"])
    joblib.dump(classifier, task["fitted"])
    return {"probabilities": classifier.predict_proba(task["X_test"]).tolist()}


def predict(task: dict) -> dict:
    """Time the probabilities of all test texts."""
    classifier = load(task)
    classifier.predict_proba(task["X_test"][:N_WARM_UP])
    started = clock()
    probabilities = classifier.predict_proba(task["X_test"])
    seconds = clock() - started
    labels = classifier.classes_[probabilities.argmax(axis=1)]
    return {
        "seconds": seconds,
        "accuracy": accuracy(task, labels),
        "probabilities": probabilities.tolist(),
        "flops": forward_flops(classifier, task["X_test"]),
        "precision": classifier.inference_precision or "float32",
    }


def one(task: dict) -> dict:
    """Time one short text; in float32, the bare module in turns with it."""
    import torch

    classifier = load(task)
    texts = [task["text"]]

    def ours() -> Any:
        return classifier.predict_proba(texts)

    if task["options"]:
        return {"seconds": latencies(ours)[0]}
    module = classifier.model_
    inputs = classifier.tokenizer_(texts, return_tensors="pt")
    inputs = inputs.to(next(module.parameters()).device)

    def bare() -> Any:
        with torch.inference_mode():
            return module(**inputs)

    ours()  # puts the module on its device
    inputs = inputs.to(next(module.parameters()).device)
    seconds, bare_seconds = latencies(ours, bare)
    return {"seconds": seconds, "bare_seconds": bare_seconds}


def embed(task: dict) -> dict:
    """Time the embeddings of all test texts."""
    classifier = load(task)
    classifier.transform(task["X_test"][:N_WARM_UP])
    started = clock()
    classifier.transform(task["X_test"])
    return {"seconds": clock() - started}


def make(task: dict) -> Any:
    """Return the unfitted classifier, with everything imported that fitting needs."""
    import_backbone(task["model"])
    import sktransformers._training.fit
    from sktransformers import TransformerClassifier

    options = dict(task["options"])
    if options.pop("random_head", False):
        # A head as the peers have it, to tell what the start is worth.
        sktransformers._training.fit.init_head = leave_head
    if "epochs" in task:
        options = {
            "max_epochs": task["epochs"],
            "max_length": task["max_length"],
            "batch_size": task["batch_size"],
            "learning_rate": task["learning_rate"],
            "head_learning_rate": task["learning_rate"],
            "weight_decay": task["weight_decay"],
            "warmup_ratio": 0.0,
            **options,
        }
    return TransformerClassifier(task["model"], random_state=task["seed"], **options)


def leave_head(*_args: Any, **_options: Any) -> None:
    """Stand in for the function that gives the head its start."""


def load(task: dict) -> Any:
    """Return the fitted classifier in the mode of the options."""
    import joblib

    import_backbone(task["model"])
    import sktransformers._training.fit  # noqa: F401

    options = dict(task["options"])
    backend = options.pop("backend", None)
    classifier = joblib.load(task["fitted"]).set_params(**options)
    if backend is not None:
        classifier.accelerate_inference(backend)
    return classifier


def training_precision(classifier: Any) -> str:
    """Return the number format that "auto" chose."""
    from sktransformers._hardware import devices as hardware

    device = hardware.resolve_device(classifier.device)
    return hardware.resolve_precision(classifier.precision, device)


def forward_flops(classifier: Any, texts: list[str]) -> int:
    """Count the operations of the matrix products of a forward pass, padding excluded.

    Two for each weight and token in the linear layers of a BERT, and four for each
    hidden unit and pair of tokens in the two products of attention.
    """
    config = classifier.model_.encoder.config
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    encoded = classifier.tokenizer_(
        texts, truncation=True, max_length=classifier.max_length
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return sum(2 * weights * n + 4 * layers * width * n**2 for n in lengths)


if __name__ == "__main__":
    main(fit=fit, prepare=prepare, predict=predict, one=one, embed=embed)
