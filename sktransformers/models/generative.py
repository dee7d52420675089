"""Models that write: decoder-only or encoder-decoder, by their own configuration."""

import copy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)

from .._compat import model_class, read_gguf_once
from ..exceptions import ModelFormatError
from .files import name_model, quiet
from .gguf import gguf_options
from .loading import Checkpoint, attention_for
from .modules import is_decoder

# Weights from a GGUF file take seconds to unpack; those of a larger one, too much room.
_MOST_BYTES_KEPT = 2**28
_KEPT: dict[Any, Any] = {}  # the last one


@dataclass(frozen=True)
class Conventions:
    """What a model's texts begin and end with, and how long they may get.

    Attributes
    ----------
    end_id : int or None
        The id to put at the end of a text that is learned. May be the padding too:
        mask a loss by lengths, never by ids.
    eos_ids : tuple of int
        All ids that end a text.
    pad_id : int
        What to fill up with.
    start_id : int or None
        What the decoder begins with if it is given nothing else.
    forced_first_id : int or None
        First id of every text that is written.
    context : int or None
        Tokens that the decoder can read; None: as many as memory holds.
    """

    end_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    start_id: int | None
    forced_first_id: int | None
    context: int | None


def require_generative(checkpoint: Checkpoint) -> None:
    """Raise ModelFormatError if a model does not write.

    Parameters
    ----------
    checkpoint : Checkpoint
        Found, but not read yet.
    """
    config = checkpoint.config
    auto_class = _auto_class(config)
    if checkpoint.trust_remote_code and auto_class.__name__ in (
        getattr(config, "auto_map", None) or ()
    ):
        return  # says so itself
    if model_class(auto_class, config) is not None and (
        config.is_encoder_decoder
        or is_decoder(config)
        or getattr(config, "is_decoder", False)
    ):
        return
    raise ModelFormatError(
        f"model={checkpoint.name!r} is of the kind {config.model_type!r}, which reads "
        "text but does not write it. Pass a decoder, such as "
        "'HuggingFaceTB/SmolLM2-135M-Instruct', or an encoder-decoder, such as "
        "'google-t5/t5-small'; to classify or tag texts with this model, use "
        "TransformerClassifier or TransformerTagger."
    )


def load_generative(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """Read a model that writes, with its weights.

    Parameters
    ----------
    checkpoint : Checkpoint
        What to read.
    dtype : torch.dtype
        Format of the weights.

    Returns
    -------
    PreTrainedModel
        In evaluation mode, and nobody else's. Its ``generation_config`` is as it was
        saved: see :func:`conventions_of` for what of it counts here.

    Raises
    ------
    ModelFormatError
        It does not write, or weights are missing or cannot be read.
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


def conventions_of(checkpoint: Checkpoint, model: Any) -> Conventions:
    """Gather what tokenizer, configuration and ``generation_config`` say of ids.

    Ids are all that is taken from the saved ``generation_config``. What it says of
    lengths, sampling, beams, penalties or forbidden tokens is not, so that a parameter
    means the same for every model.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its tokenizer is not changed: one without padding just gets an id to pad with.
    model : PreTrainedModel
        As :func:`load_generative` gives it.

    Returns
    -------
    Conventions
        With an end where any of the three names one.
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
    return Conventions(
        end_id=eos_ids[0] if eos_ids else None,
        eos_ids=eos_ids,
        pad_id=int(next(pad for pad in pads if pad is not None)),
        start_id=begin,
        forced_first_id=first("forced_bos_token_id"),
        context=positions if positions and positions > 0 else None,
    )


def find_conventions(checkpoint: Checkpoint) -> Conventions:
    """Gather the same before the weights are read.

    Parameters
    ----------
    checkpoint : Checkpoint
        Found, but not read yet.

    Returns
    -------
    Conventions
        As :func:`conventions_of` gives them.

    Raises
    ------
    ModelFormatError
        ``generation_config.json`` says what transformers does not know.
    """
    try:
        with quiet():
            saved = GenerationConfig.from_model_config(checkpoint.config)
            if (Path(checkpoint.folder) / "generation_config.json").is_file():
                saved = GenerationConfig.from_pretrained(checkpoint.folder)
    except Exception as error:  # transformers raises errors of many kinds
        raise ModelFormatError(
            f"The settings of generation of {checkpoint.name!r} cannot be read: {error}"
        ) from error
    model = SimpleNamespace(config=checkpoint.config, generation_config=saved)
    return conventions_of(checkpoint, model)


def _auto_class(config: Any) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _read(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    auto_class = _auto_class(checkpoint.config)
    file = checkpoint.gguf_file
    path = None if file is None else Path(checkpoint.folder) / file
    try:
        with quiet(), read_gguf_once(path, last=True):
            model, report = auto_class.from_pretrained(
                checkpoint.folder,
                config=copy.deepcopy(checkpoint.config),
                local_files_only=True,
                dtype=dtype,
                attn_implementation=attention_for(auto_class, checkpoint.config),
                trust_remote_code=checkpoint.trust_remote_code,
                output_loading_info=True,
                **gguf_options(file, weights=True),
            )
    except Exception as error:  # safetensors and pickle have kinds of their own
        raise ModelFormatError(
            f"The weights of {checkpoint.name!r} cannot be read as "
            f"{auto_class.__name__}: {error}"
        ) from error
    missing = report["missing_keys"]
    if missing:
        raise ModelFormatError(
            f"The checkpoint {checkpoint.name!r} lacks weights that a model needs to "
            f"write, such as {min(missing)!r} ({len(missing)} in all). It was saved "
            "for another task or is incomplete."
        )
    name_model(model, checkpoint.name)
    return model.eval()
