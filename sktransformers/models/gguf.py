"""GGUF: a configuration, a tokenizer and quantized weights in one file.

:func:`sktransformers._compat.read_gguf_once` has the gguf package read it once.
"""

import importlib.util
from typing import Any

import transformers

from ..exceptions import ModelFormatError

_PACKAGES = ("gguf", "accelerate")


def gguf_options(file: str | None, *, weights: bool = False) -> dict[str, Any]:
    """Return what ``from_pretrained`` has to be told to read a GGUF file.

    Parameters
    ----------
    file : str or None
        Name of the file inside its folder; None: the model is no such file.
    weights : bool, default=False
        Whether the weights are to be read.

    Returns
    -------
    dict
        Keyword arguments; empty for None.
    """
    if file is None:
        return {}
    options: dict[str, Any] = {"gguf_file": file}
    # Releases without it always make plain weights of them.
    if weights and hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return options


def require_reader(name: str) -> None:
    """Raise ModelFormatError if a package that reads GGUF files is missing."""
    missing = [p for p in _PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        raise ModelFormatError(
            f"model={name!r} is a GGUF file, and {' and '.join(missing)}, which read "
            "it, cannot be imported. Run: pip install --no-deps "
            f"{' '.join(_PACKAGES)}"
        )


def name_special_tokens(tokenizer: Any, config: Any) -> None:
    """Give a tokenizer the special tokens whose ids stand in the file.

    Older releases of transformers take the first token of a text for its last one.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Read from a GGUF file; changed in place.
    config : PreTrainedConfig
        Read from the same file.
    """
    for kind in ("bos", "eos", "pad"):
        token_id = getattr(config, f"{kind}_token_id", None)
        if isinstance(token_id, int) and token_id < len(tokenizer):
            token = tokenizer.convert_ids_to_tokens(token_id)
            if getattr(tokenizer, f"{kind}_token") != token:
                setattr(tokenizer, f"{kind}_token", token)
