"""Loading of generative models, decoder-only or encoder-decoder."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)

from .._compat import model_class
from .._text.prompt_format import SpecialTokenIds
from ..exceptions import ModelFormatError
from .files import quiet
from .heads import is_decoder
from .loading import PretrainedCheckpoint, read_weights, require_shapes

# Dequantizing a GGUF file takes seconds, so the last small model is kept in memory.
_MOST_BYTES_KEPT = 2**28
_KEPT: dict[Any, Any] = {}  # at most one entry


def require_generative(checkpoint: PretrainedCheckpoint) -> None:
    """Raise ModelFormatError if a checkpoint is not a generative model.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint without loaded weights.
    """
    config = checkpoint.config
    auto_class = _auto_class(config)
    if checkpoint.trust_remote_code and auto_class.__name__ in (
        getattr(config, "auto_map", None) or ()
    ):
        return  # declared by its remote code
    if model_class(auto_class, config) is not None and (
        config.is_encoder_decoder
        or is_decoder(config)
        or getattr(config, "is_decoder", False)
    ):
        return
    raise ModelFormatError(
        f"model={checkpoint.name!r} has model_type={config.model_type!r}, which does "
        "not generate text. Pass a decoder-only model, such as "
        "'HuggingFaceTB/SmolLM2-135M-Instruct', or an encoder-decoder, such as "
        "'google-t5/t5-small'; to classify or tag texts with this model, use "
        "TransformerClassifier or TransformerTagger."
    )


def load_generative(checkpoint: PretrainedCheckpoint, dtype: torch.dtype) -> Any:
    """Load a generative model with its weights.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint to load.
    dtype : torch.dtype
        Data type of the weights.

    Returns
    -------
    PreTrainedModel
        A new model in evaluation mode. Its ``generation_config`` is that of the
        checkpoint; see :func:`special_ids_of` for the values used here.

    Raises
    ------
    ModelFormatError
        If the model is not generative, or weights are missing or cannot be loaded.
    """
    require_generative(checkpoint)
    if checkpoint.gguf_file is None:
        return _read(checkpoint, dtype)
    path = Path(checkpoint.folder) / checkpoint.gguf_file
    status = path.stat()
    if status.st_size > _MOST_BYTES_KEPT:
        return _read(checkpoint, dtype)
    key = path, status.st_mtime_ns, dtype
    if key not in _KEPT:
        model = _read(checkpoint, dtype)
        _KEPT.clear()
        _KEPT[key] = model
    return copy.deepcopy(_KEPT[key])


def special_ids_of(checkpoint: PretrainedCheckpoint, model: Any) -> SpecialTokenIds:
    """Collect the special token ids of tokenizer, model and generation configuration.

    Only ids are taken from the saved ``generation_config``. Its lengths, sampling and
    beam search settings, penalties and suppressed tokens are ignored, so that the
    parameters of the estimator mean the same for every model.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint whose tokenizer is not modified: without a padding token, another id
        serves as ``pad_id``.
    model : PreTrainedModel
        Model returned by :func:`load_generative`.

    Returns
    -------
    SpecialTokenIds
        Ids, with ``end_id`` set if any of the three sources defines it.
    """
    tokenizer, config = checkpoint.tokenizer, model.config
    sources = (model.generation_config, config.get_text_config(decoder=True), config)

    def first(name: str) -> Any:
        found = (getattr(source, name, None) for source in sources)
        return next((value for value in found if value is not None), None)

    ends = [tokenizer.eos_token_id]
    for source in sources:
        saved = getattr(source, "eos_token_id", None)
        ends += saved if isinstance(saved, (list, tuple)) else [saved]
    eos_ids = tuple(dict.fromkeys(int(end) for end in ends if end is not None))
    pads = (tokenizer.pad_token_id, first("pad_token_id"), *eos_ids, 0)
    begin = tokenizer.bos_token_id
    begin = first("bos_token_id") if begin is None else begin
    if config.is_encoder_decoder:
        start = first("decoder_start_token_id")
        begin = begin if start is None else start
    elif begin is None and eos_ids:
        begin = eos_ids[0]
    positions = getattr(sources[1], "max_position_embeddings", None)
    return SpecialTokenIds(
        end_id=eos_ids[0] if eos_ids else None,
        eos_ids=eos_ids,
        # Some configurations say -1 for none.
        pad_id=int(next(pad for pad in pads if pad is not None and pad >= 0)),
        start_id=begin,
        forced_first_id=first("forced_bos_token_id"),
        context=positions if positions and positions > 0 else None,
    )


def find_special_ids(checkpoint: PretrainedCheckpoint) -> SpecialTokenIds:
    """Collect the special token ids without loading the weights.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint without loaded weights.

    Returns
    -------
    SpecialTokenIds
        As returned by :func:`special_ids_of`.

    Raises
    ------
    ModelFormatError
        If ``generation_config.json`` cannot be loaded.
    """
    try:
        with quiet():
            saved = GenerationConfig.from_model_config(checkpoint.config)
            if (Path(checkpoint.folder) / "generation_config.json").is_file():
                saved = GenerationConfig.from_pretrained(checkpoint.folder)
    except Exception as error:  # transformers raises many exception types
        raise ModelFormatError(
            f"The generation config of {checkpoint.name!r} cannot be read: {error}"
        ) from error
    model = SimpleNamespace(config=checkpoint.config, generation_config=saved)
    return special_ids_of(checkpoint, model)


def _auto_class(config: Any) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _read(checkpoint: PretrainedCheckpoint, dtype: torch.dtype) -> Any:
    config = copy.deepcopy(checkpoint.config)
    model, report = read_weights(checkpoint, _auto_class(config), config, dtype)
    require_shapes(repr(checkpoint.name), report["mismatched_keys"])
    missing = report["missing_keys"]
    if missing:
        raise ModelFormatError(
            f"The checkpoint {checkpoint.name!r} lacks weights that are required for "
            f"generation, such as {min(missing)!r} ({len(missing)} in all). It was "
            "saved for another task or is incomplete."
        )
    return model.eval()
