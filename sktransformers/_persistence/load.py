"""Load a fitted estimator from a directory."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from .._compat import validate_parameters
from .._models.files import name_model
from .._models.loading import find_checkpoint, read_folder
from .._tasks import Task
from .._text.prompt_format import PromptFormat
from ..exceptions import ModelFormatError
from .adapter import ADAPTER, ADAPTER_CONFIG, read_adapter
from .state import STATE, State, read_state, read_task
from .weights import (
    CONFIG,
    HEAD,
    LENGTH,
    MODULES,
    POOLING,
    WEIGHTS,
    ModelDescription,
    check_description,
    read_model,
    require_clean_settings,
    require_pooling,
)


def read_estimator(cls: Any, folder: Path, names: set[str]) -> Any:
    """Load a fitted estimator from a directory whose manifest was checked.

    Parameters
    ----------
    cls : type
        Class of the estimator.
    folder : Path
        The directory.
    names : set of str
        Names of the files in the manifest.

    Returns
    -------
    estimator
        The fitted estimator.

    Raises
    ------
    ModelFormatError
        If a file or one of its values is missing, unexpected or damaged.
    """
    where = folder / STATE
    state = read_state(where, cls)
    estimator = _make_estimator(cls, state, where)
    task = read_task(state, where)
    check_description(state.model, task, where)
    name, revision = state.fitted._checkpoint_name
    adapter = state.adapter
    _require_files(folder, names, state.model, task, is_adapter=adapter is not None)
    require_clean_settings(folder)
    if adapter is not None:
        checkpoint = find_checkpoint(name, revision)
        model = read_adapter(folder, checkpoint, adapter, state.model, task)
    else:
        # The name used in fit, so that pickles contain no local paths.
        try:
            checkpoint = read_folder(name, str(folder))
        except ModelFormatError as error:
            raise ModelFormatError(f"{folder}: {error}") from error
        model = read_model(folder, checkpoint.config, state.model, task)
        name_model(model, name)
        if MODULES in names:
            require_pooling(folder, model)
    model.name_labels(task.label_names())
    tokenizer = _set_languages(checkpoint.tokenizer, state.languages, where)
    estimator.__dict__.update(
        {k: v for k, v in asdict(state.fitted).items() if v is not None},
        _adapter=adapter and adapter.settings,
        _has_trained_base=False,
        _task=task,
        model_=model,
        tokenizer_=tokenizer,
    )
    if state.prompt_format is not None:
        fields = asdict(state.prompt_format)
        estimator._prompt_format = PromptFormat(tokenizer=tokenizer, **fields)
    return estimator


def _make_estimator(cls: Any, state: State, where: Path) -> Any:
    """Return the estimator without its fitted attributes."""
    # A file must not enable remote code, not even in a later fit.
    estimator = cls(**{**state.parameters, "trust_remote_code": False})
    try:
        validate_parameters(estimator)
    except ValueError as error:
        raise ModelFormatError(f"{where}: parameters: {error}") from error
    return estimator


def _require_files(
    folder: Path,
    names: set[str],
    model: ModelDescription,
    task: Task,
    *,
    is_adapter: bool,
) -> None:
    """Require exactly the files of this kind of model."""
    all_kinds = {
        WEIGHTS,
        HEAD,
        CONFIG,
        ADAPTER,
        ADAPTER_CONFIG,
        MODULES,
        POOLING,
        LENGTH,
    }
    is_pooled = model.kind == "pooled"
    needed = {WEIGHTS, CONFIG, "tokenizer_config.json"}
    if is_adapter:
        needed = {ADAPTER, ADAPTER_CONFIG}
    if is_pooled or (task.units is not None and not is_adapter):
        needed |= {HEAD}
    if is_pooled and not is_adapter and not task.predicts_words:
        needed |= {MODULES, POOLING, LENGTH}
    for name in sorted(needed - names):
        raise ModelFormatError(f"{folder / name} is missing.")
    for name in sorted((all_kinds - needed) & names):
        raise ModelFormatError(
            f"{folder / name} is unexpected for this kind of model. Remove it."
        )


def _set_languages(tokenizer: Any, languages: Mapping[Any, str], where: Path) -> Any:
    """Return a tokenizer with the languages set as in fit."""
    changed = {k: v for k, v in languages.items() if getattr(tokenizer, k, None) != v}
    if not changed:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    for name, value in changed.items():
        if not hasattr(tokenizer, name):
            raise ModelFormatError(
                f"{where}: the tokenizer has no attribute {name} to set to {value!r}."
            )
        setattr(tokenizer, name, value)
    return tokenizer
