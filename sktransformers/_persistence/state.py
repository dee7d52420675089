"""sktransformers.json: the state of an estimator except its weights and tokenizer."""

import dataclasses
import platform
from dataclasses import dataclass
from typing import Any

import huggingface_hub
import numpy as np
import safetensors
import sklearn
import tokenizers
import torch
import transformers

from .._json import (
    decode_value,
    encode_value,
    require_keys,
    require_type,
)
from .._models.lora import AdapterSettings
from .._tasks import Task, estimator_names, tasks_of
from .._text.prompt_format import PromptFormat, SpecialTokenIds
from .._version import __version__
from ..exceptions import ModelFormatError

STATE = "sktransformers.json"
FORMAT = 2

_KEYS = {
    *("format", "estimator", "parameters", "fitted", "task", "model", "base"),
    *("adapter", "prompt_format", "versions"),
}
# Key in the file -> attribute and its allowed types.
_INT, _OPTIONAL_INT = (int,), (int, type(None))
_ATTRIBUTES: dict[str, tuple[str, tuple[type, ...]]] = {
    "n_columns": ("_n_columns", _INT),
    "length_limit": ("_length_limit", _INT),
    "n_truncated": ("n_truncated_", _INT),
    "n_epochs": ("n_epochs_", _INT),
    "n_texts": ("_n_texts", _OPTIONAL_INT),
    "n_features_in": ("n_features_in_", _OPTIONAL_INT),
    "max_new_tokens": ("max_new_tokens_", _OPTIONAL_INT),
}
_FITTED = {*_ATTRIBUTES, "feature_names_in", "history", "languages"}
_PROMPT_FORMAT = {f.name for f in dataclasses.fields(PromptFormat)} - {
    "tokenizer",
    "special_ids",
}
_SPECIAL_IDS = {f.name for f in dataclasses.fields(SpecialTokenIds)}
_ADAPTER = {f.name for f in dataclasses.fields(AdapterSettings)}


@dataclass(frozen=True)
class State:
    """Validated content of sktransformers.json.

    Attributes
    ----------
    parameters : dict
        Parameters of the constructor.
    attributes : dict
        Fitted attributes except model and tokenizer.
    task : Task
        The task of the estimator.
    model : dict
        Description of the model: "kind", "pooling", "dtype" and "has_adapter".
    base : dict
        The checkpoint: "name", "revision" and, for an adapter, hashes.
    prompt_format : dict or None
        Fields of the prompt format of a generator, except the tokenizer.
    languages : dict
        Source and target language of the tokenizer of a generator.
    """

    parameters: dict[str, Any]
    attributes: dict[str, Any]
    task: Task
    model: dict[str, Any]
    base: dict[str, Any]
    prompt_format: dict[str, Any] | None
    languages: dict[str, Any]


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


def describe(
    estimator: Any, model: dict[str, Any], base: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of sktransformers.json.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator; not changed.
    model : dict
        Description of the model, from ``describe_model``.
    base : dict
        Hashes of the base model of an adapter; otherwise empty.

    Returns
    -------
    dict
        Value that can be written as JSON.
    """
    settings = estimator._adapter
    name, revision = estimator._checkpoint_name
    parameters = estimator.get_params(deep=False)
    return {
        "format": FORMAT,
        "estimator": name_of(type(estimator)),
        "parameters": {k: encode_value(v, k) for k, v in parameters.items()},
        "fitted": _describe_fitted(estimator),
        "task": {"kind": estimator._task.kind, **estimator._task.to_dict()},
        "model": model,
        "base": {"name": encode_value(name, "model"), "revision": revision, **base},
        "adapter": settings and encode_fields(settings, _ADAPTER),
        "prompt_format": _describe_prompt_format(
            estimator.__dict__.get("_prompt_format")
        ),
        "versions": versions(),
    }


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


def read_state(raw: Any, cls: type, where: object) -> State:
    """Validate the content of sktransformers.json for a class of estimators.

    Parameters
    ----------
    raw : object
        Value decoded from JSON.
    cls : type
        Class to load.
    where : object
        Location for error messages.

    Returns
    -------
    State
        The validated state.

    Raises
    ------
    ModelFormatError
        If a value is missing, unexpected or of the wrong type, or of another estimator.
    """
    require_keys(raw, _KEYS, where)
    if raw["format"] != FORMAT:
        raise ModelFormatError(
            f"{where}: format must be {FORMAT}. Got {raw['format']!r:.80}. Load it "
            "with the version of sktransformers that saved it, or save it again with "
            "this version."
        )
    _require_estimator(raw["estimator"], cls, where)
    attributes, languages = _read_fitted(raw["fitted"], where)
    task = _read_task(raw["task"], name_of(cls), where)
    settings = raw["adapter"]
    if settings is not None:
        require_keys(settings, _ADAPTER, f"{where}: adapter")
        settings = AdapterSettings(
            **{k: decode_value(v, where) for k, v in settings.items()}
        )
    base = _read_base(raw["base"], where)
    model = raw["model"]
    require_keys(model, {"kind", "pooling", "dtype", "has_adapter"}, f"{where}: model")
    if model["has_adapter"] is not (len(base) > 2) or (len(base) > 2 and not settings):
        raise ModelFormatError(f"{where}: model, base and adapter are inconsistent.")
    return State(
        parameters=_read_parameters(raw, cls, where),
        attributes={
            **attributes,
            "_task": task,
            "_adapter": settings,
            "_checkpoint_name": (base["name"], base["revision"]),
        },
        task=task,
        model=model,
        base=base,
        prompt_format=_read_prompt_format(raw["prompt_format"], task, where),
        languages=languages,
    )


def _require_estimator(name: Any, cls: type, where: object) -> None:
    if not isinstance(name, str) or name not in estimator_names():
        raise ModelFormatError(f"{where}: unknown estimator {name!r:.80}.")
    if name != name_of(cls):
        raise ModelFormatError(
            f"{where}: the saved estimator is a {name}. Load it with "
            f"{name}.from_pretrained instead of {cls.__name__}.from_pretrained."
        )


def _read_parameters(raw: Any, cls: Any, where: object) -> dict[str, Any]:
    parameters, found = raw["parameters"], raw["versions"]
    names = set(cls._get_param_names())
    require_type(parameters, dict, f"{where}: parameters")
    version = require_type(found, dict, f"{where}: versions").get("sktransformers")
    if version != versions()["sktransformers"]:
        names &= parameters.keys()  # new parameters get their default
    require_keys(parameters, names, f"{where}: parameters")
    return {k: decode_value(v, f"{where}: {k}") for k, v in parameters.items()}


def _describe_fitted(estimator: Any) -> dict[str, Any]:
    found = vars(estimator)
    values = {key: found.get(name) for key, (name, _) in _ATTRIBUTES.items()}
    names = found.get("feature_names_in_")
    history = [
        {k: encode_value(v, k) for k, v in record.items()}
        for record in found["history_"]
    ]
    tokenizer = estimator.tokenizer_
    languages = {
        name: getattr(tokenizer, name)
        for name in ("src_lang", "tgt_lang")
        if isinstance(getattr(tokenizer, name, None), str)
    }
    return {
        **{key: encode_value(value, key) for key, value in values.items()},
        "feature_names_in": None if names is None else [str(name) for name in names],
        "history": history,
        "languages": languages,
    }


def _read_fitted(raw: Any, where: object) -> tuple[dict[str, Any], dict[str, Any]]:
    require_keys(raw, _FITTED, f"{where}: fitted")
    attributes: dict[str, Any] = {}
    for key, (name, kinds) in _ATTRIBUTES.items():
        value = require_type(raw[key], kinds, f"{where}: {key}")
        if value is not None:
            attributes[name] = value
    names = require_type(
        raw["feature_names_in"], (list, type(None)), f"{where}: feature_names_in"
    )
    if names is not None:
        for name in names:
            require_type(name, str, f"{where}: feature_names_in")
        attributes["feature_names_in_"] = np.array(names, dtype=object)
    history = require_type(raw["history"], list, f"{where}: history")
    attributes["history_"] = [_read_record(record, where) for record in history]
    languages = require_type(raw["languages"], dict, f"{where}: languages")
    for name, value in languages.items():
        if name not in ("src_lang", "tgt_lang"):
            raise ModelFormatError(f"{where}: languages has the key {name!r:.80}.")
        require_type(value, str, f"{where}: languages")
    return attributes, languages


def _read_record(record: Any, where: object) -> dict[str, Any]:
    require_type(record, dict, f"{where}: history")
    decoded = {k: decode_value(v, where) for k, v in record.items()}
    for value in decoded.values():
        require_type(value, (int, float, type(None)), f"{where}: history")
    return decoded


def _read_task(raw: Any, estimator: str, where: object) -> Task:
    values = dict(require_type(raw, dict, f"{where}: task"))
    kind, known = values.pop("kind", None), tasks_of(estimator)
    if not isinstance(kind, str) or kind not in known:
        raise ModelFormatError(
            f"{where}: task: {kind!r:.80} is not a task of {estimator}."
        )
    try:
        return known[kind].from_dict(values)
    except ModelFormatError as error:
        raise ModelFormatError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:  # such as invalid tags
        raise ModelFormatError(f"{where}: {error}") from error


def _read_base(raw: Any, where: object) -> dict[str, Any]:
    hashes = {"weights_hash", "vocabulary_hash"}
    where = f"{where}: base"
    is_adapter = isinstance(raw, dict) and "weights_hash" in raw
    require_keys(raw, {"name", "revision", *(hashes if is_adapter else ())}, where)
    require_type(raw["revision"], (str, type(None)), where)
    for key in raw.keys() - {"revision"}:
        require_type(raw[key], str, where)
    return dict(raw)


def _describe_prompt_format(
    prompt_format: PromptFormat | None,
) -> dict[str, Any] | None:
    if prompt_format is None:
        return None
    special_ids = encode_fields(prompt_format.special_ids, _SPECIAL_IDS)
    special_ids["eos_ids"] = list(prompt_format.special_ids.eos_ids)
    return {**encode_fields(prompt_format, _PROMPT_FORMAT), "special_ids": special_ids}


def _read_prompt_format(raw: Any, task: Task, where: object) -> dict[str, Any] | None:
    where = f"{where}: prompt_format"
    if task.head is not None:
        return require_type(raw, type(None), where)
    require_keys(raw, {*_PROMPT_FORMAT, "special_ids"}, where)
    for name in ("is_encoder_decoder", "is_chat", "is_plain"):
        require_type(raw[name], bool, f"{where}: {name}")
    require_type(raw["template"], str, where)
    require_type(raw["system_prompt"], (str, type(None)), where)
    found = raw["special_ids"]
    require_keys(found, _SPECIAL_IDS, where)
    for key, value in found.items():
        if key != "eos_ids":
            kinds = _INT if key == "pad_id" else _OPTIONAL_INT
            require_type(value, kinds, f"{where}: {key}")
    for key in ("start_id", "first_id"):
        require_type(raw[key], _OPTIONAL_INT, f"{where}: {key}")
    ends = require_type(found["eos_ids"], list, where)
    eos_ids = tuple(require_type(end, int, where) for end in ends)
    return {**raw, "special_ids": SpecialTokenIds(**{**found, "eos_ids": eos_ids})}


def encode_fields(value: Any, names: set[str]) -> dict[str, Any]:
    """Encode fields of a dataclass as JSON."""
    return {name: encode_value(getattr(value, name), name) for name in names}
