"""sktransformers.json: the state of an estimator except its weights and tokenizer."""

import platform
from pathlib import Path
from typing import Any, Literal, get_args

import huggingface_hub
import msgspec
import numpy as np
import safetensors
import sklearn
import tokenizers
import torch
import transformers

from .._json import Schema, convert, decode, read_json, schema_of
from .._models.lora import AdapterSettings
from .._tasks import Task, estimator_names, tasks_of
from .._text.prompt_format import PromptSettings
from .._version import __version__
from ..exceptions import ModelFormatError
from .weights import ModelDescription

STATE = "sktransformers.json"
Language = Literal["src_lang", "tgt_lang"]
_LANGUAGES: tuple[Language, ...] = get_args(Language)


class FittedAttributes(Schema):
    """Fitted attributes of an estimator, by their names; None if it has none."""

    _checkpoint_name: tuple[str, str | None]
    _length_limit: int
    _n_columns: int
    _n_texts: int | None
    feature_names_in_: np.ndarray | None
    history_: list[dict[str, int | float | None]]
    max_new_tokens_: int | None
    n_epochs_: int
    n_features_in_: int | None
    n_truncated_: int


class Adapter(Schema):
    """Configuration of an adapter, and hashes of the model it was trained with."""

    settings: AdapterSettings
    weights_hash: str
    vocabulary_hash: str


class State(Schema):
    """Content of sktransformers.json.

    Attributes
    ----------
    estimator : str
        Class name of the estimator.
    parameters : dict
        Parameters of the constructor.
    fitted : FittedAttributes
        Fitted attributes except those of the task, the model and the tokenizer.
    task : dict
        Kind of the task and the parameters of its constructor.
    model : ModelDescription
        Description of the model.
    adapter : Adapter or None
        The adapter, whose base model is not saved.
    prompt_format : PromptSettings or None
        Prompt format of a generator.
    languages : dict
        Source and target language of the tokenizer of a generator.
    versions : dict
        Versions of the packages.
    """

    format: Literal[3]
    estimator: str
    parameters: dict[str, Any]
    fitted: FittedAttributes
    task: dict[str, Any]
    model: ModelDescription
    adapter: Adapter | None
    prompt_format: PromptSettings | None
    languages: dict[Language, str]
    versions: dict[str, str]


def name_of(cls: type) -> str:
    """Return the name of the estimator that a class is or inherits from.

    Parameters
    ----------
    cls : type
        Class of an estimator.

    Returns
    -------
    str
        Name such as "TransformerClassifier".

    Raises
    ------
    TypeError
        If the class is not an estimator of this package.
    """
    for base in cls.__mro__:
        is_internal = base.__module__.startswith("sktransformers.")
        if is_internal and base.__name__ in estimator_names():
            return base.__name__
    raise TypeError(
        f"{cls.__name__} cannot be saved: it must be or inherit from one of "
        f"{', '.join(estimator_names())}."
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that predictions depend on."""
    modules = (huggingface_hub, np, safetensors, sklearn, tokenizers, torch)
    found = {module.__name__: str(module.__version__) for module in modules}
    found["transformers"] = transformers.__version__
    return {
        "python": platform.python_version(),
        "sktransformers": __version__,
        **found,
    }


def describe(estimator: Any, model: ModelDescription, adapter: Adapter | None) -> State:
    """Return the content of sktransformers.json.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator; not changed.
    model : ModelDescription
        Description of the model.
    adapter : Adapter or None
        Description of the adapter, if any.

    Returns
    -------
    State
        State to be written as JSON.
    """
    task, tokenizer = estimator._task, estimator.tokenizer_
    prompt_format = vars(estimator).get("_prompt_format")
    return State(
        format=3,
        estimator=name_of(type(estimator)),
        parameters=estimator.get_params(deep=False),
        fitted=FittedAttributes(**_values_of(estimator, FittedAttributes)),
        task={"kind": task.kind, **_values_of(task, schema_of(type(task).__init__))},
        model=model,
        adapter=adapter,
        prompt_format=prompt_format
        and PromptSettings(**_values_of(prompt_format, PromptSettings)),
        languages={
            key: getattr(tokenizer, key)
            for key in _LANGUAGES
            if isinstance(getattr(tokenizer, key, None), str)
        },
        versions=versions(),
    )


def _values_of(value: Any, schema: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(value, name, None) for name in schema.__struct_fields__}


def read_state(path: Path, cls: Any) -> State:
    """Read sktransformers.json for a class of estimators.

    Parameters
    ----------
    path : Path
        The file.
    cls : type
        Class to load.

    Returns
    -------
    State
        The validated state.

    Raises
    ------
    ModelFormatError
        If a value is missing, unexpected or of the wrong type, or of another estimator.
    """
    state = convert(decode(read_json(path, Any), path), State, path)
    _require_estimator(state.estimator, cls, path)
    names = set(cls._get_param_names())
    if state.versions.get("sktransformers") != __version__:
        names &= state.parameters.keys()  # new parameters get their default
    if state.parameters.keys() != names:
        raise ModelFormatError(
            f"{path}: parameters are missing or unknown: "
            f"{sorted(names ^ state.parameters.keys())}."
        )
    return state


def _require_estimator(name: str, cls: type, where: object) -> None:
    if name not in estimator_names():
        raise ModelFormatError(f"{where}: unknown estimator {name!r:.80}.")
    if name != name_of(cls):
        raise ModelFormatError(
            f"{where}: the saved estimator is a {name}. Load it with "
            f"{name}.from_pretrained instead of {cls.__name__}.from_pretrained."
        )


def read_task(state: State, where: object) -> Task:
    """Build the task of a saved estimator.

    Parameters
    ----------
    state : State
        State of the estimator.
    where : object
        Location for error messages.

    Returns
    -------
    Task
        The task.

    Raises
    ------
    ModelFormatError
        If it is not a task of the estimator, or a value is missing or invalid.
    """
    kind, known = state.task.get("kind"), tasks_of(state.estimator)
    if not isinstance(kind, str) or kind not in known:
        raise ModelFormatError(
            f"{where}: task: {kind!r:.80} is not a task of {state.estimator}."
        )
    values = {name: value for name, value in state.task.items() if name != "kind"}
    found = convert(values, schema_of(known[kind].__init__), f"{where}: task")
    try:
        return known[kind](**msgspec.structs.asdict(found))
    except (TypeError, ValueError) as error:  # such as invalid tags
        raise ModelFormatError(f"{where}: task: {error}") from error
