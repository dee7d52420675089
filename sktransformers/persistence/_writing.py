"""A fitted estimator becomes files."""

from pathlib import Path
from typing import Any

from .._writing import make_settings
from ..exceptions import ModelFormatError
from ..models.files import quiet
from ..models.modules import PooledModel
from ._adapter import describe_base, write_adapter
from ._json import read_json, write_json
from ._state import STATE, describe
from ._weights import describe_model, naming, write_model, write_pooling

_PROBLEMS = {
    "labels": "single_label_classification",
    "indicators": "multi_label_classification",
    "numbers": "regression",
}


def write_estimator(folder: Path, estimator: Any) -> dict[str, Any]:
    """Write all that an estimator is read from, but for the manifest.

    Parameters
    ----------
    folder : Path
        Empty.
    estimator : estimator
        Fitted; not changed.

    Returns
    -------
    dict
        What sktransformers.json holds.

    Raises
    ------
    ModelFormatError
        A parameter or label cannot be written as JSON, or the model has own code.
    OSError
        A file cannot be written; the message names it.
    """
    model = estimator.model_
    _require_known_code(estimator)
    description = describe_model(model)
    is_adapter = description["has_adapter"]
    base = describe_base(estimator) if is_adapter else {}
    state = describe(estimator, description, base)
    write_json(folder / STATE, state)
    if is_adapter:
        write_adapter(folder, estimator)
        return state
    with quiet(), naming(folder / "tokenizer.json"):
        estimator.tokenizer_.save_pretrained(folder)
    write_model(
        folder,
        model,
        estimator._target,
        problem=_PROBLEMS.get(state["target"]["kind"]),
        generation=_describe_generation(estimator),
    )
    if isinstance(model, PooledModel) and model.pooling != "positions":
        limit = estimator._length_limit
        longest = estimator.max_length or min(limit, estimator._longest_default)
        write_pooling(folder, model, int(longest))
        _name_padding(folder, estimator.tokenizer_)
    return state


def _require_known_code(estimator: Any) -> None:
    """Refuse what only code of strangers could read again."""
    model = estimator.model_
    module = model.encoder if isinstance(model, PooledModel) else model.model
    for part in (module, estimator.tokenizer_):
        if type(part).__module__.startswith("transformers_modules"):
            raise ModelFormatError(
                f"{type(part).__name__} is code that came with the model, and a saved "
                "directory holds no code. Pickle the estimator instead (joblib.dump), "
                "and load that only where you trust both."
            )


def _name_padding(folder: Path, tokenizer: Any) -> None:
    """Give decoders' tokenizers what sentence-transformers pads with."""
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        path = folder / "tokenizer_config.json"
        write_json(path, {**read_json(path), "pad_token": tokenizer.eos_token})


def _describe_generation(estimator: Any) -> dict[str, Any] | None:
    """Return how a generator writes, in transformers' words."""
    layout = estimator.__dict__.get("_layout")
    if layout is None:
        return None
    settings = make_settings(estimator, layout, 1, estimator.max_new_tokens_)
    found = {
        "max_new_tokens": settings.max_new_tokens,
        "num_beams": settings.num_beams,
        "do_sample": settings.do_sample,
        "repetition_penalty": settings.repetition_penalty,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "eos_token_id": list(settings.eos_ids) or None,
        "pad_token_id": settings.pad_id,
        "bos_token_id": layout.start_id,
        "decoder_start_token_id": settings.decoder_start_id,
        "forced_bos_token_id": settings.forced_first_id,
    }
    if settings.do_sample:
        names = ("temperature", "top_k", "top_p", "min_p")
        # 0 and 1 leave all tokens in; transformers takes None for a default of its own.
        none = {"top_k": 0, "top_p": 1.0}
        for name in names:
            value = getattr(settings, name)
            found[name] = none.get(name) if value is None else value
    return {name: value for name, value in found.items() if value is not None}
