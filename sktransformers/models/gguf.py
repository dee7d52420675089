"""GGUF: a configuration, a tokenizer and quantized weights in one file.

transformers reads such a file with the gguf package, which takes one pass over it for
each of the three, in Python, and one table of names for each module of the model. Here
one of each has to do.
"""

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
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


@contextlib.contextmanager
def reading_gguf(path: Path | None, *, last: bool = False) -> Iterator[None]:
    """Have the gguf package read a file once, and without a progress bar.

    What it read stays in memory until a ``last`` use. To be used where threads take
    turns, since names in that package and in transformers are replaced meanwhile.

    Parameters
    ----------
    path : Path or None
        The file; None changes nothing.
    last : bool, default=False
        Whether to forget afterwards what was read.
    """
    if path is None:
        yield
        return
    gguf = importlib.import_module("gguf")
    reader_of, stamp = gguf.GGUFReader, path.stat().st_mtime_ns
    replacements = [
        (gguf, "GGUFReader", lambda file: _read(reader_of, str(file), stamp)),
        (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
    ]
    module = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    if hasattr(module, "tqdm"):
        replacements.append((module, "tqdm", lambda items, **_options: items))
    originals = [getattr(owner, name) for owner, name, _ in replacements]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(replacements, originals, strict=True):
            setattr(owner, name, original)
        if last:
            _read.cache_clear()


@functools.lru_cache(maxsize=1)
def _read(reader_of: Any, file: str, _stamp: int) -> Any:
    return reader_of(file)
