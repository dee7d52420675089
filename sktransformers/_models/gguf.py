"""GGUF files: configuration, tokenizer and quantized weights in one file.

:func:`sktransformers._compat.read_gguf_once` avoids parsing a file repeatedly.
"""

import importlib.util
from typing import Any

import transformers

from ..exceptions import ModelFormatError

_PACKAGES = ("gguf", "accelerate")


def gguf_options(file: str | None, *, weights: bool = False) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` to load a GGUF file.

    Parameters
    ----------
    file : str or None
        File name inside its directory, or None if the model is not a GGUF file.
    weights : bool, default=False
        Whether the weights are loaded.

    Returns
    -------
    dict
        Keyword arguments; empty if ``file`` is None.
    """
    if file is None:
        return {}
    options: dict[str, Any] = {"gguf_file": file}
    # Releases without GgufConfig always dequantize.
    if weights and hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return options


def require_reader(name: str) -> None:
    """Raise ModelFormatError if a package required for GGUF files is missing."""
    missing = [p for p in _PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        raise ModelFormatError(
            f"model={name!r} is a GGUF file. Reading it requires "
            f"{' and '.join(missing)}, which cannot be imported. "
            f"Run: pip install --no-deps {' '.join(_PACKAGES)}"
        )


def name_special_tokens(tokenizer: Any, config: Any) -> None:
    """Set a tokenizer's special tokens from the ids in the GGUF file.

    Older releases of transformers confuse beginning and end of sequence.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Loaded from a GGUF file; modified in place.
    config : PreTrainedConfig
        Loaded from the same file.
    """
    for kind in ("bos", "eos", "pad"):
        token_id = getattr(config, f"{kind}_token_id", None)
        if isinstance(token_id, int) and token_id < len(tokenizer):
            token = tokenizer.convert_ids_to_tokens(token_id)
            if getattr(tokenizer, f"{kind}_token") != token:
                setattr(tokenizer, f"{kind}_token", token)
