"""Write the model card, which contains no training texts."""

import json
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .._json import encode
from .state import State

_MAX_CLASSES = 30
_PATHS = {"model", "checkpoint_dir", "memory"}
_INTRODUCTION = (
    "Trained with sktransformers (`pip install sktransformers-text`): Hugging Face "
    "transformers as scikit-learn estimators."
)
_USE = """```python
from sktransformers import {name}

model = {name}.from_pretrained("path/of/this/directory")
model.predict(texts)
```"""


def write_card(path: Path, estimator: Any, state: State) -> None:
    """Write the model card (README.md).

    Parameters
    ----------
    path : Path
        The file.
    estimator : estimator
        Fitted estimator.
    state : State
        Content of sktransformers.json.
    """
    name, (base, _) = state.estimator, state.fitted._checkpoint_name
    data = ModelCardData(
        library_name="sktransformers",
        pipeline_tag=estimator._task.pipeline_tag,
        tags=["sktransformers", "scikit-learn", "transformers"],
        base_model=base if _is_hub_id(base) else None,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        _INTRODUCTION,
        _USE.format(name=name),
        "## Training",
        _table(_describe_training(state)),
        *_describe_epochs(estimator.history_),
        "## Parameters",
        _table(_describe_parameters(state.parameters)),
        "## Versions",
        _table(state.versions),
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _is_hub_id(name: Any) -> bool:
    """Whether a name is a Hub id rather than a local path."""
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return False
    return not Path(name).expanduser().exists()


def _describe_training(state: State) -> dict[str, Any]:
    history: list[dict[str, Any]] = state.fitted.history_
    rows: dict[str, Any] = {"epochs": state.fitted.n_epochs_}
    rows["texts"] = state.fitted._n_texts
    rows["optimizer steps"] = sum(r.get("n_steps", 0) for r in history) or None
    tokens = sum(r.get("tokens_per_second", 0) * r.get("seconds", 0) for r in history)
    rows["training tokens, all epochs"] = round(tokens) or None
    rows["truncated texts"] = state.fitted.n_truncated_
    classes = state.task.get("classes")
    if classes is not None:
        values = classes.tolist()
        rows["classes"] = len(values)
        shown = ", ".join(json.dumps(value) for value in values[:_MAX_CLASSES])
        rows["class names"] = shown + ", ..." * (len(values) > _MAX_CLASSES)
    rows["base model revision"] = state.fitted._checkpoint_name[1]
    return {key: value for key, value in rows.items() if value is not None}


def _describe_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as JSON; of local paths, only the last part."""
    shown = dict(parameters)
    for name in _PATHS & shown.keys():
        value = shown[name]
        if value is not None and not (name == "model" and _is_hub_id(value)):
            shown[name] = PurePath(value).name
    return {name: json.dumps(encode(value)) for name, value in shown.items()}


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
    return [
        "Losses and scores of each epoch; `valid` refers to the validation set.",
        table,
    ]


def _table(rows: dict[str, Any]) -> str:
    lines = ["| | |", "| --- | --- |"]
    for key, value in rows.items():
        text = str(value).replace("`", "'").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {key} | `{text}` |")
    return "\n".join(lines)
