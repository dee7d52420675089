"""Files become a fitted estimator."""

import copy
from pathlib import Path
from typing import Any

from .._compat import validate_parameters
from .._writing import Layout
from ..engine import hardware
from ..exceptions import ModelFormatError
from ..models.files import name_model
from ..models.loading import find_checkpoint, read_folder
from ..models.modules import ArchitectureModel
from ._adapter import ADAPTER, ADAPTER_CONFIG, read_adapter
from ._json import read_json
from ._state import STATE, State, read_state
from ._weights import (
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
    """Read a fitted estimator from a checked directory.

    Parameters
    ----------
    cls : type
        The estimator's class.
    folder : Path
        The directory.
    names : set of str
        What the manifest lists.

    Returns
    -------
    estimator
        Fitted.

    Raises
    ------
    ModelFormatError
        A file or a value in one is missing, unexpected or damaged.
    """
    where = folder / STATE
    state = read_state(read_json(where), cls, where)
    description = state.model
    estimator = _make(cls, state, where)
    is_writer = "_layout" if state.layout is not None else None
    task = "language" if is_writer else cls._task
    check_description(description, task, where)
    _require_files(folder, names, description, has_scale=hasattr(state.target, "scale"))
    require_clean_settings(folder)
    if description["has_adapter"]:
        checkpoint = find_checkpoint(state.base["name"], state.base["revision"])
        dtype = hardware.weights_dtype(description["dtype"])
        model = read_adapter(folder, checkpoint, description, state, task, dtype)
    else:
        # Named as the fit had it: a pickle says nothing of folders of this machine.
        name = state.base["name"]
        try:
            checkpoint = read_folder(name, str(folder))
        except ModelFormatError as error:
            raise ModelFormatError(f"{folder}: {error}") from error
        model = read_model(folder, checkpoint.config, description, state.target, task)
        name_model(model, name)
        if MODULES in names:
            require_pooling(folder, model)
    if isinstance(model, ArchitectureModel):
        model.name_labels([str(label) for label in state.target.classes])
    tokenizer = _set_languages(checkpoint.tokenizer, state.languages)
    estimator.__dict__.update(state.attributes, model_=model, tokenizer_=tokenizer)
    if state.layout is not None:
        estimator._layout = Layout(tokenizer=tokenizer, **state.layout)
    return estimator


def _make(cls: Any, state: State, where: Path) -> Any:
    """Return the estimator before its fitted attributes."""
    # A file must not decide whether strangers' code runs, in a later fit even.
    estimator = cls(**{**state.parameters, "trust_remote_code": False})
    try:
        validate_parameters(estimator)
    except ValueError as error:
        raise ModelFormatError(f"{where}: parameters: {error}") from error
    return estimator


def _require_files(
    folder: Path, names: set[str], description: dict[str, Any], *, has_scale: bool
) -> None:
    """Require the files of such a model, and none of another kind."""
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
            f"{folder / name} does not belong to such a model. Remove it."
        )


def _set_languages(tokenizer: Any, languages: dict[str, str]) -> Any:
    """Return a tokenizer that is set to the languages of the fit."""
    changed = {k: v for k, v in languages.items() if getattr(tokenizer, k, None) != v}
    if not changed:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    for name, value in changed.items():
        if not hasattr(tokenizer, name):
            raise ModelFormatError(
                f"The tokenizer has no {name} to be set to {value!r}."
            )
        setattr(tokenizer, name, value)
    return tokenizer
