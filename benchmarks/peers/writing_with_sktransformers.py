"""TransformerGenerator: translation learned from nothing, and writing on."""

from typing import Any

from common import clock, main


def translate(task: dict) -> dict:
    """Time the fit and the writing of the test texts."""
    generator = make(
        task["model"],
        max_epochs=task["epochs"],
        batch_size=task["batch_size"],
        learning_rate=task["learning_rate"],
        max_new_tokens=task["max_new_tokens"],
        random_state=task["seed"],
        **task["options"],
    )
    started = clock()
    generator.fit(task["X"], task["y"])
    seconds = clock() - started
    started = clock()
    written = generator.predict(task["X_test"]).tolist()
    n_tokens = sum(
        record["tokens_per_second"] * record["seconds"] for record in generator.history_
    )
    return {
        "seconds": seconds,
        "tokens_per_second": n_tokens / seconds,
        "predict_seconds": clock() - started,
        "written": written,
    }


def write(task: dict) -> dict:
    """Time the writing of the test texts by the model as it is."""
    generator = make(
        task["model"],
        max_epochs=0,
        use_chat_template=False,
        max_new_tokens=task["max_new_tokens"],
        **task["options"],
    )
    generator.fit(task["X_test"][:2])
    generator.predict(task["X_test"][:2])
    started = clock()
    written = generator.predict(task["X_test"]).tolist()
    return {"seconds": clock() - started, "written": written}


def make(model: str, **options: Any) -> Any:
    """Return the unfitted generator, with everything imported that fitting needs."""
    from sktransformers import TransformerGenerator

    return TransformerGenerator(model, **options)


if __name__ == "__main__":
    main(translate=translate, write=write)
