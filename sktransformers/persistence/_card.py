"""The model card: what a model is, in words, with no text that it was trained on."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

CARD = "README.md"
_MOST_CLASSES = 30
_INTRODUCTION = (
    "Trained with sktransformers (`pip install sktransformers-text`): Hugging Face "
    "transformers as scikit-learn estimators."
)
_USE = """```python
from sktransformers import {name}

model = {name}.from_pretrained("path/of/this/directory")
model.predict(texts)
```"""
_TASKS = {
    "TransformerClassifier": "text-classification",
    "TransformerRegressor": "text-classification",
    "TransformerTagger": "token-classification",
    "TransformerGenerator": "text-generation",
}


def write_card(path: Path, estimator: Any, state: dict[str, Any]) -> None:
    """Write README.md.

    Parameters
    ----------
    path : Path
        The file.
    estimator : estimator
        Fitted.
    state : dict
        What sktransformers.json holds.
    """
    name, base = state["estimator"], state["base"]
    data = ModelCardData(
        library_name="sktransformers",
        pipeline_tag=_TASKS[name],
        tags=["sktransformers", "scikit-learn", "transformers"],
        base_model=base["name"] if _is_hub_id(base["name"]) else None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        _INTRODUCTION,
        _USE.format(name=name),
        "## Training",
        _table(_describe_training(estimator, state)),
        *_describe_epochs(estimator.history_),
        "## Parameters",
        _table({k: json.dumps(v) for k, v in state["parameters"].items()}),
        "## Versions",
        _table(state["versions"]),
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _is_hub_id(name: str) -> bool:
    """Whether a base is on the hub; paths of this machine are nobody's business."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).expanduser().exists()


def _describe_training(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    history = estimator.history_
    rows: dict[str, Any] = {"epochs": state["fitted"]["n_epochs"]}
    rows["texts"] = vars(estimator).get("_n_texts")
    rows["optimizer steps"] = sum(r.get("n_steps", 0) for r in history) or None
    tokens = sum(r.get("tokens_per_second", 0) * r.get("seconds", 0) for r in history)
    rows["tokens read, all epochs"] = round(tokens) or None
    rows["texts that were cut"] = state["fitted"]["n_truncated"]
    classes = state["target"].get("classes")
    if classes is not None:
        values = classes["values"]
        rows["classes"] = len(values)
        shown = ", ".join(json.dumps(value) for value in values[:_MOST_CLASSES])
        rows["their names"] = shown + ", ..." * (len(values) > _MOST_CLASSES)
    rows["base model's revision"] = state["base"]["revision"]
    return {key: value for key, value in rows.items() if value is not None}


def _describe_epochs(history: list[dict[str, Any]]) -> list[str]:
    if not history:
        return []
    columns = [c for c in history[-1] if "loss" in c or "score" in c]
    head = ["epoch", *columns]
    rows = [head, ["---"] * len(head)]
    for record in history:
        values = (record.get(c, float("nan")) for c in columns)
        rows.append([str(record["epoch"]), *(f"{value:.4g}" for value in values)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return ["Losses and scores of each epoch; `valid` is of held-out texts.", table]


def _table(rows: dict[str, Any]) -> str:
    lines = ["| | |", "| --- | --- |"]
    for key, value in rows.items():
        text = str(value).replace("`", "'").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {key} | `{text}` |")
    return "\n".join(lines)
