"""Load a checkpoint of another library as a fitted estimator."""

import os
from typing import Any

from .._hardware import devices as hardware
from .._inference.sampling import make_generation_settings
from .._models.generative import find_special_ids, load_generative, require_generative
from .._models.heads import ArchitectureModel, order_outputs, with_own_head
from .._models.language_model import LanguageModel
from .._models.loading import PretrainedCheckpoint, find_checkpoint, load_module
from .._tasks import TASKS, Task, TextTask, tasks_of
from .._text.prompt_format import make_prompt_format
from ..exceptions import ModelFormatError
from .state import name_of

_DEFAULT_NEW_TOKENS = 256


def read_third_party(
    cls: Any, model: str | os.PathLike[str], revision: str | None, n_columns: int
) -> Any:
    """Load a checkpoint with a trained head as a fitted estimator.

    Parameters
    ----------
    cls : type
        Class of the estimator.
    model : str or path
        Local directory or Hub id.
    revision : str or None
        Branch, tag or commit hash on the Hub.
    n_columns : int
        Number of text columns of X.

    Returns
    -------
    estimator
        Fitted estimator with default parameters.

    Raises
    ------
    ModelNotFoundError
        If the model is not found.
    ModelFormatError
        If the model has no trained head for the task of the estimator.
    """
    name = name_of(cls)
    estimator = cls(model, revision=revision)
    checkpoint = find_checkpoint(os.fspath(model), revision)
    dtype = hardware.weights_dtype(estimator.precision)
    head = next(iter(tasks_of(name).values())).head
    if head is None:
        found = _read_language_model(estimator, checkpoint, dtype)
    else:
        _require_head(checkpoint, head, cls, name)
        task, order = _task_of_head(checkpoint, name, dtype)
        found = {"model_": _read_head(checkpoint, task, order, dtype), "_task": task}
        estimator.set_params(**task.params_of_head())
    estimator.__dict__.update(
        {
            "_n_columns": n_columns,
            "_length_limit": checkpoint.max_length,
            "_adapter": None,
            "_checkpoint_name": (model, revision),
            "tokenizer_": checkpoint.tokenizer,
            "n_truncated_": 0,
            "history_": [],
            "n_epochs_": 0,
            **found,
        }
    )
    return estimator


def _require_head(
    checkpoint: PretrainedCheckpoint, head: str, cls: Any, name: str
) -> None:
    if checkpoint.has_trained_head(head):
        return
    found = (checkpoint.config.architectures or ["none"])[0]
    raise ModelFormatError(
        f"{checkpoint.name!r} has no trained head for {name} (its architecture is "
        f"{found}) and cannot predict yet. Fine-tune it: "
        f"{cls.__name__}({checkpoint.name!r}).fit(X, y)."
    )


def _task_of_head(
    checkpoint: PretrainedCheckpoint, estimator: str, dtype: Any
) -> tuple[Task, list[int]]:
    """Return the task of a trained head, and the order of its outputs."""
    config = checkpoint.config
    others = []
    for task in TASKS:
        if not checkpoint.has_trained_head(task.head):
            continue
        try:
            found = task.from_config(config)
        except ValueError as error:
            raise ModelFormatError(f"{checkpoint.name!r}: {error}") from error
        if found is not None and task.estimator == estimator:
            return found
        if found is not None:
            others.append(task)
    other = others[0]
    # Raises if there are more outputs than names: one name is taken for a number's.
    _load_head(checkpoint, other, dtype)
    raise ModelFormatError(
        f"The trained head of {checkpoint.name!r} predicts "
        f"{'numbers' if other.has_units else 'labels'}. Load it with "
        f"{other.estimator}.from_pretrained."
    )


def _read_head(
    checkpoint: PretrainedCheckpoint, task: Task, order: list[int], dtype: Any
) -> ArchitectureModel:
    model = with_own_head(_load_head(checkpoint, task, dtype), checkpoint.tokenizer)
    if order != list(range(task.n_outputs)):
        order_outputs(model, order)
        model.name_labels(task.label_names())
    return model


def _load_head(
    checkpoint: PretrainedCheckpoint, task: Task | type[Task], dtype: Any
) -> Any:
    return load_module(
        checkpoint,
        n_outputs=checkpoint.config.num_labels,
        pooling="head",
        head=task.head or "",
        dtype=dtype,
        is_complete=True,
    )


def _read_language_model(
    estimator: Any, checkpoint: PretrainedCheckpoint, dtype: Any
) -> Any:
    require_generative(checkpoint)
    module = load_generative(checkpoint, dtype)
    prompt_format = make_prompt_format(
        estimator,
        checkpoint.tokenizer,
        module.config,
        find_special_ids(checkpoint),
        is_plain=False,
    )
    make_generation_settings(
        estimator, prompt_format, n=1, longest=1
    )  # raises if the parameters are inconsistent
    return {
        "model_": LanguageModel(module).eval(),
        "tokenizer_": prompt_format.tokenizer,
        "_task": TextTask(),
        "_prompt_format": prompt_format,
        "max_new_tokens_": _DEFAULT_NEW_TOKENS,
    }
