"""Load a fitted estimator from a directory."""

import copy
from pathlib import Path
from typing import Any

from .._compat import validate_parameters
from .._hardware import devices as hardware
from .._json import read_json
from .._models.files import name_model
from .._models.loading import find_checkpoint, read_folder
from .._text.prompt_format import PromptFormat
from ..exceptions import ModelFormatError
from .adapter import ADAPTER, ADAPTER_CONFIG, read_adapter
from .state import STATE, State, read_state
from .weights import (
    CONFIG,
    HEAD,
    LENGTH,
    MODULES,
    POOLING,
    WEIGHTS,
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
    state = read_state(read_json(where), cls, where)
    description = state.model
    estimator = _make_estimator(cls, state, where)
    task = state.task
    check_description(description, task, where)
    _require_files(folder, names, description, has_scale=task.units is not None)
    require_clean_settings(folder)
    if description["has_adapter"]:
        checkpoint = find_checkpoint(state.base["name"], state.base["revision"])
        dtype = hardware.weights_dtype(description["dtype"])
        model = read_adapter(folder, checkpoint, description, state, dtype)
    else:
        # The name used in fit, so that pickles contain no local paths.
        name = state.base["name"]
        try:
            checkpoint = read_folder(name, str(folder))
        except ModelFormatError as error:
            raise ModelFormatError(f"{folder}: {error}") from error
        model = read_model(folder, checkpoint.config, description, task)
        name_model(model, name)
        if MODULES in names:
            require_pooling(folder, model)
    model.name_labels(task.label_names())
    tokenizer = _set_languages(checkpoint.tokenizer, state.languages)
    estimator.__dict__.update(state.attributes, model_=model, tokenizer_=tokenizer)
    if state.prompt_format is not None:
        estimator._prompt_format = PromptFormat(
            tokenizer=tokenizer, **state.prompt_format
        )
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
    folder: Path, names: set[str], description: dict[str, Any], *, has_scale: bool
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
    is_pooled, is_adapter = description["kind"] == "pooled", description["has_adapter"]
    needed = {WEIGHTS, CONFIG, "tokenizer_config.json"}
    if is_adapter:
        needed = {ADAPTER, ADAPTER_CONFIG}
    if is_pooled or (has_scale and not is_adapter):
        needed |= {HEAD}
    if is_pooled and not is_adapter and description["pooling"] != "positions":
        needed |= {MODULES, POOLING, LENGTH}
    for name in sorted(needed - names):
        raise ModelFormatError(f"{folder / name} is missing.")
    for name in sorted((all_kinds - needed) & names):
        raise ModelFormatError(
            f"{folder / name} is unexpected for this kind of model. Remove it."
        )


def _set_languages(tokenizer: Any, languages: dict[str, str]) -> Any:
    """Return a tokenizer with the languages set as in fit."""
    changed = {k: v for k, v in languages.items() if getattr(tokenizer, k, None) != v}
    if not changed:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    for name, value in changed.items():
        if not hasattr(tokenizer, name):
            raise ModelFormatError(
                f"The tokenizer has no attribute {name} to set to {value!r}."
            )
        setattr(tokenizer, name, value)
    return tokenizer
