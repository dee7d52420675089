"""SetFit on a few texts, by its own guide.

https://huggingface.co/docs/setfit/quickstart

Pairs are drawn for ``num_iterations`` rounds, the sentence encoder is trained on them
for one epoch, and logistic regression is fitted on its embeddings.
"""

from common import accuracy, clock, main


def fit(task: dict) -> dict:
    """Time loading and fitting; score on the test texts."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    started = clock()
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
    seconds = clock() - started
    predicted = list(model.predict(task["X_test"]))
    return {"seconds": seconds, "accuracy": accuracy(task, predicted)}


if __name__ == "__main__":
    main(fit=fit)
