"""sktransformers.json: what a fitted estimator is beside its weights and tokenizer."""

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

from .._tag_target import TagTarget
from .._targets import FloatTarget, LabelTarget, MultilabelTarget, TextTarget
from .._writing import Layout
from ..exceptions import ModelFormatError
from ..models.adapters import AdapterSettings
from ..models.generative import Conventions
from ._json import (
    decode_labels,
    decode_value,
    encode_labels,
    encode_value,
    require_keys,
    require_type,
)

STATE = "sktransformers.json"
FORMAT = 1

# The estimators, each with the targets that it may have. No other name is looked up.
_TARGETS_OF = {
    "TransformerClassifier": {"labels", "indicators"},
    "TransformerRegressor": {"numbers"},
    "TransformerTagger": {"tags"},
    "TransformerGenerator": {"texts"},
}
_KEYS = {
    *("format", "estimator", "parameters", "fitted", "target", "model", "base"),
    *("adapter", "layout", "versions"),
}
# Name in the file -> attribute, and of what types it may be.
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
_LAYOUT = {f.name for f in dataclasses.fields(Layout)} - {"tokenizer", "conventions"}
_CONVENTIONS = {f.name for f in dataclasses.fields(Conventions)}
_ADAPTER = {f.name for f in dataclasses.fields(AdapterSettings)}


@dataclass(frozen=True)
class State:
    """What was read, checked.

    Attributes
    ----------
    parameters : dict
        Of the estimator's constructor.
    attributes : dict
        Fitted attributes, but for model and tokenizer.
    target : Target
        What was learned.
    model : dict
        "kind", "pooling", "dtype", "has_adapter".
    base : dict
        "name", "revision", and hashes where the weights are an adapter.
    layout : dict or None
        Fields of a generator's layout, but for the tokenizer.
    languages : dict
        What a generator's tokenizer is set to.
    """

    parameters: dict[str, Any]
    attributes: dict[str, Any]
    target: Any
    model: dict[str, Any]
    base: dict[str, Any]
    layout: dict[str, Any] | None
    languages: dict[str, Any]


def name_of(cls: type) -> str:
    """Return which of our estimators a class is or extends.

    Parameters
    ----------
    cls : type
        A class of estimators.

    Returns
    -------
    str
        Such as "TransformerClassifier".

    Raises
    ------
    TypeError
        It is none.
    """
    for base in cls.__mro__:
        is_ours = base.__module__.startswith("sktransformers.")
        if is_ours and base.__name__ in _TARGETS_OF:
            return base.__name__
    raise TypeError(
        f"{cls.__name__} is none of {', '.join(_TARGETS_OF)}, which can be saved."
    )


def describe(
    estimator: Any, model: dict[str, Any], base: dict[str, Any]
) -> dict[str, Any]:
    """Return all that sktransformers.json holds.

    Parameters
    ----------
    estimator : estimator
        Fitted; only read.
    model : dict
        What has to be known before weights are read.
    base : dict
        Hashes of an adapter's base; else empty.

    Returns
    -------
    dict
        To be written as JSON.
    """
    settings = estimator._adapter
    name, revision = estimator._checkpoint_name
    parameters = estimator.get_params(deep=False)
    return {
        "format": FORMAT,
        "estimator": name_of(type(estimator)),
        "parameters": {k: encode_value(v, k) for k, v in parameters.items()},
        "fitted": _describe_fitted(estimator),
        "target": _describe_target(estimator._target),
        "model": model,
        "base": {"name": encode_value(name, "model"), "revision": revision, **base},
        "adapter": settings and encode_fields(settings, _ADAPTER),
        "layout": _describe_layout(estimator.__dict__.get("_layout")),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of all that a prediction depends on."""
    from .. import __version__

    modules = (huggingface_hub, np, safetensors, sklearn, tokenizers, torch)
    found = {module.__name__: str(module.__version__) for module in modules}
    found["transformers"] = transformers.__version__
    return {
        "python": platform.python_version(),
        "sktransformers": __version__,
        **found,
    }


def read_state(raw: Any, cls: type, where: object) -> State:
    """Check what sktransformers.json holds, for one class of estimators.

    Parameters
    ----------
    raw : object
        From JSON.
    cls : type
        The class that is asked for.
    where : object
        Named in messages.

    Returns
    -------
    State
        Ready to be made an estimator.

    Raises
    ------
    ModelFormatError
        Anything is missing, unexpected or of another type, or of another estimator.
    """
    require_keys(raw, _KEYS, where)
    if raw["format"] != FORMAT:
        raise ModelFormatError(
            f"{where}: format {raw['format']!r:.80} is not read, only {FORMAT}. Update "
            "sktransformers."
        )
    _require_estimator(raw["estimator"], cls, where)
    attributes, languages = _read_fitted(raw["fitted"], where)
    target = _read_target(raw["target"], name_of(cls), where)
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
        raise ModelFormatError(f"{where}: model, base and adapter contradict another.")
    return State(
        parameters=_read_parameters(raw, cls, where),
        attributes={
            **attributes,
            "_target": target,
            "_adapter": settings,
            "_checkpoint_name": (base["name"], base["revision"]),
        },
        target=target,
        model=model,
        base=base,
        layout=_read_layout(raw["layout"], cls, where),
        languages=languages,
    )


def _require_estimator(name: Any, cls: type, where: object) -> None:
    if not isinstance(name, str) or name not in _TARGETS_OF:
        raise ModelFormatError(f"{where}: {name!r:.80} is no estimator of ours.")
    if name != name_of(cls):
        raise ModelFormatError(
            f"{where}: a {name} was saved there. Read it with "
            f"{name}.from_pretrained instead of {cls.__name__}.from_pretrained."
        )


def _read_parameters(raw: Any, cls: Any, where: object) -> dict[str, Any]:
    parameters, found = raw["parameters"], raw["versions"]
    names = set(cls._get_param_names())
    require_type(parameters, dict, f"{where}: parameters")
    version = require_type(found, dict, f"{where}: versions").get("sktransformers")
    if version != versions()["sktransformers"]:
        names &= parameters.keys()  # what came later has its default
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


def _describe_target(target: Any) -> dict[str, Any]:
    if isinstance(target, TagTarget):
        labels = encode_labels(target.classes)
        return {"kind": "tags", "classes": labels, "scheme": target.scheme}
    if isinstance(target, LabelTarget):
        return {"kind": "labels", "classes": encode_labels(target.classes)}
    if isinstance(target, MultilabelTarget):
        return {"kind": "indicators", "n_labels": target.n_outputs}
    if isinstance(target, FloatTarget):
        numbers = {"mean": target.mean.tolist(), "scale": target.scale.tolist()}
        return {"kind": "numbers", **numbers, "is_flat": target.is_flat}
    assert isinstance(target, TextTarget), type(target)
    return {"kind": "texts", "is_source": target.is_source}


def _read_target(raw: Any, estimator: str, where: object) -> Any:
    where = f"{where}: target"
    kind = require_type(raw, dict, where).get("kind")
    if not isinstance(kind, str) or kind not in _TARGETS_OF[estimator]:
        raise ModelFormatError(f"{where}: {kind!r:.80} is not what a {estimator} has.")
    try:
        return _make_target(kind, raw, where)
    except ModelFormatError:
        raise
    except (TypeError, ValueError) as error:  # of tags that no scheme knows, say
        raise ModelFormatError(f"{where}: {error}") from error


def _make_target(kind: str, raw: dict[str, Any], where: str) -> Any:
    match kind:
        case "labels" | "tags":
            extra = {"scheme"} if kind == "tags" else set()
            require_keys(raw, {"kind", "classes", *extra}, where)
            classes = decode_labels(raw["classes"], where)
            if len(set(classes.tolist())) < max(1, len(classes)):
                raise ModelFormatError(
                    f"{where}: classes must differ, and there be some."
                )
            if kind == "labels":
                return LabelTarget(classes)
            for tag in classes.tolist():
                require_type(tag, str, where)
            return TagTarget(classes, require_type(raw["scheme"], str, where))
        case "indicators":
            require_keys(raw, {"kind", "n_labels"}, where)
            n_labels = require_type(raw["n_labels"], int, where)
            if not 0 < n_labels < 2**24:
                raise ModelFormatError(f"{where}: n_labels={n_labels}.")
            return MultilabelTarget(n_labels)
        case "numbers":
            require_keys(raw, {"kind", "mean", "scale", "is_flat"}, where)
            is_flat = require_type(raw["is_flat"], bool, where)
            mean, scale = (_read_numbers(raw[key], where) for key in ("mean", "scale"))
            if len(mean) != len(scale) or (is_flat and len(mean) != 1):
                raise ModelFormatError(f"{where}: mean, scale and is_flat contradict.")
            return FloatTarget(mean, scale, is_flat=is_flat)
        case _:
            require_keys(raw, {"kind", "is_source"}, where)
            return TextTarget(require_type(raw["is_source"], bool, where))


def _read_numbers(raw: Any, where: object) -> np.ndarray:
    for number in require_type(raw, list, where):
        require_type(number, float, where)
    return np.array(raw, dtype=np.float64)


def _read_base(raw: Any, where: object) -> dict[str, Any]:
    hashes = {"weights_hash", "vocabulary_hash"}
    where = f"{where}: base"
    is_adapter = isinstance(raw, dict) and "weights_hash" in raw
    require_keys(raw, {"name", "revision", *(hashes if is_adapter else ())}, where)
    require_type(raw["revision"], (str, type(None)), where)
    for key in raw.keys() - {"revision"}:
        require_type(raw[key], str, where)
    return dict(raw)


def _describe_layout(layout: Layout | None) -> dict[str, Any] | None:
    if layout is None:
        return None
    conventions = encode_fields(layout.conventions, _CONVENTIONS)
    conventions["eos_ids"] = list(layout.conventions.eos_ids)
    return {**encode_fields(layout, _LAYOUT), "conventions": conventions}


def _read_layout(raw: Any, cls: type, where: object) -> dict[str, Any] | None:
    where = f"{where}: layout"
    if name_of(cls) != "TransformerGenerator":
        return require_type(raw, type(None), where)
    require_keys(raw, {*_LAYOUT, "conventions"}, where)
    for name in ("is_pair", "is_chat", "is_plain"):
        require_type(raw[name], bool, f"{where}: {name}")
    require_type(raw["template"], str, where)
    require_type(raw["system_prompt"], (str, type(None)), where)
    found = raw["conventions"]
    require_keys(found, _CONVENTIONS, where)
    for key, value in found.items():
        if key != "eos_ids":
            kinds = _INT if key == "pad_id" else _OPTIONAL_INT
            require_type(value, kinds, f"{where}: {key}")
    for key in ("start_id", "first_id"):
        require_type(raw[key], _OPTIONAL_INT, f"{where}: {key}")
    ends = require_type(found["eos_ids"], list, where)
    eos_ids = tuple(require_type(end, int, where) for end in ends)
    return {**raw, "conventions": Conventions(**{**found, "eos_ids": eos_ids})}


def encode_fields(value: Any, names: set[str]) -> dict[str, Any]:
    """Return fields of a dataclass as JSON."""
    return {name: encode_value(getattr(value, name), name) for name in names}
