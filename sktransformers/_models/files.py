"""Required files of a checkpoint, and loading without progress bars or logging."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from transformers.utils import logging as transformers_logging

from .._compat import init_kwargs_of

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
_TOKENIZERS_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

# Logging settings are global; the lock keeps threads from restoring each other's.
_QUIET = threading.RLock()


def missing_part(folder: Path) -> str | None:
    """Return which part of a checkpoint is missing from a directory.

    Parameters
    ----------
    folder : Path
        Existing directory.

    Returns
    -------
    {"configuration", "weights", "tokenizer"} or None
        The first missing part, or None if the checkpoint is complete.
    """
    if is_adapter(folder):  # its base model has the rest
        has_weights = any((folder / name).is_file() for name in ADAPTER_WEIGHTS)
        return None if has_weights else "weights"
    if not (folder / "config.json").is_file():
        return "configuration"
    if not _has_weights(folder):
        return "weights"
    if any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        return None
    settings = folder / "tokenizer_config.json"
    kind = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    known = kind.get("tokenizer_class") in _TOKENIZERS_WITHOUT_FILES
    return None if known else "tokenizer"


def is_adapter(folder: Path) -> bool:
    """Return whether a directory holds an adapter without its base model."""
    has_model = (folder / "config.json").is_file()
    return not has_model and (folder / ADAPTER_CONFIG).is_file()


def name_tokenizer(tokenizer: Any, folder: str, name: str) -> None:
    """Set a tokenizer's ``name_or_path`` and remove local paths from its settings.

    The settings are pickled and displayed. Slow tokenizers keep their file paths, which
    ``save_pretrained`` needs.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Modified in place.
    folder : str
        Directory that the tokenizer was loaded from.
    name : str
        Model name as passed by the user.
    """
    tokenizer.name_or_path = name
    settings = init_kwargs_of(tokenizer)
    settings["name_or_path"] = name
    if folder == name or not tokenizer.is_fast:
        return
    for values in (settings, vars(tokenizer)):
        for key, value in values.items():
            if isinstance(value, str) and value.startswith(folder):
                values[key] = None


def name_model(module: Any, name: str) -> None:
    """Set ``name_or_path`` of a model and its submodules.

    Parameters
    ----------
    module : PreTrainedModel
        Modified in place.
    name : str
        Model name as passed by the user.
    """
    for part in module.modules():
        if hasattr(part, "name_or_path"):
            part.name_or_path = name
        if hasattr(getattr(part, "config", None), "name_or_path"):
            part.config.name_or_path = name


def _has_weights(folder: Path) -> bool:
    """Return whether the weights are complete, in one file or in shards."""
    if any((folder / name).is_file() for name in _WEIGHTS):
        return True
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            return all((folder / part).is_file() for part in parts)
    return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context manager that silences transformers' logging and progress bars."""
    with _QUIET:
        verbosity = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        hub_bars = not huggingface_hub.utils.are_progress_bars_disabled()
        # An environment variable that sets them cannot be overruled.
        can_set_bars = huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is None
        transformers_logging.set_verbosity(transformers_logging.CRITICAL)
        if can_set_bars:
            transformers_logging.disable_progress_bar()  # those of huggingface_hub too
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if can_set_bars and bars:
                transformers_logging.enable_progress_bar()
            if can_set_bars and hub_bars:
                huggingface_hub.utils.enable_progress_bars()
            elif can_set_bars:
                huggingface_hub.utils.disable_progress_bars()
