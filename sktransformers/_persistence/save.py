"""Write the files of a fitted estimator."""

from pathlib import Path
from typing import Any

from .._inference.sampling import make_generation_settings
from .._json import encode, read_json, write_json
from .._models.files import quiet
from ..exceptions import ModelFormatError
from .adapter import describe_adapter, write_adapter
from .state import STATE, State, describe
from .weights import (
    describe_model,
    has_remote_code,
    os_errors_naming,
    write_model,
    write_pooling,
)


def write_estimator(folder: Path, estimator: Any) -> State:
    """Write all files of an estimator except the manifest and the model card.

    Parameters
    ----------
    folder : Path
        Empty directory.
    estimator : estimator
        Fitted estimator; not changed.

    Returns
    -------
    State
        Content of sktransformers.json.

    Raises
    ------
    ModelFormatError
        If a parameter or label cannot be saved as JSON, or the model has custom code.
    OSError
        If a file cannot be written; the message names it.
    """
    model = estimator.model_
    if has_remote_code(estimator):
        raise ModelFormatError(
            "The model or its tokenizer is custom code, and a saved directory holds no "
            "code. Pickle the estimator instead (joblib.dump), and load the pickle "
            "only if you trust it and the code."
        )
    adapter = describe_adapter(estimator)
    state = describe(estimator, describe_model(model), adapter)
    write_json(folder / STATE, encode(state))
    if adapter is not None:
        write_adapter(folder, estimator)
        return state
    with quiet(), os_errors_naming(folder / "tokenizer.json"):
        estimator.tokenizer_.save_pretrained(folder)
    write_model(
        folder,
        model,
        estimator._task,
        generation=_describe_generation(estimator),
    )
    if model.has_new_head and not estimator._task.predicts_words:
        limit = estimator._length_limit
        longest = estimator.max_length or min(limit, estimator._default_max_length)
        write_pooling(folder, model, int(longest))
        _name_padding(folder, estimator.tokenizer_)
    return state


def _name_padding(folder: Path, tokenizer: Any) -> None:
    """Set the padding token that sentence-transformers needs, also for decoders."""
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        path = folder / "tokenizer_config.json"
        write_json(
            path, {**read_json(path, dict[str, Any]), "pad_token": tokenizer.eos_token}
        )


def _describe_generation(estimator: Any) -> dict[str, Any] | None:
    """Return the fields of transformers' GenerationConfig for a generator."""
    prompt_format = estimator.__dict__.get("_prompt_format")
    if prompt_format is None:
        return None
    settings = make_generation_settings(
        estimator, prompt_format, 1, estimator.max_new_tokens_
    )
    found = {
        "max_new_tokens": settings.max_new_tokens,
        "num_beams": settings.num_beams,
        "do_sample": settings.do_sample,
        "repetition_penalty": settings.repetition_penalty,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "eos_token_id": list(settings.eos_ids) or None,
        "pad_token_id": settings.pad_id,
        "bos_token_id": prompt_format.start_id,
        "decoder_start_token_id": settings.decoder_start_id,
        "forced_bos_token_id": settings.forced_first_id,
    }
    if settings.do_sample:
        names = ("temperature", "top_k", "top_p", "min_p")
        # 0 and 1 keep all tokens; transformers replaces None with its own default.
        none = {"top_k": 0, "top_p": 1.0}
        for name in names:
            value = getattr(settings, name)
            found[name] = none.get(name) if value is None else value
    return {name: value for name, value in found.items() if value is not None}
