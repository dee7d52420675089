"""Which files make a model, and how to read them without a word on the screen."""

import contextlib
import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
from transformers.utils import logging as transformers_logging

from .._compat import init_kwargs_of

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
_TOKENIZERS_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

# The settings are global: threads take turns, lest one restores another's.
_QUIET = threading.RLock()


def missing_part(folder: Path) -> str | None:
    """Say what a folder lacks to be a model.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    {"configuration", "weights", "tokenizer"} or None
        The first part that is missing; None if it is whole.
    """
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


def forget_folder(tokenizer: Any, folder: str, name: str) -> None:
    """Let a tokenizer say what the user asked for, not where it was found.

    It is pickled and shown. Slow ones keep the path of the file they are saved from.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Changed in place.
    folder : str
        Where it was read.
    name : str
        What the user asked for.
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
    """Let a model say what the user asked for, not where it was found.

    Parameters
    ----------
    module : PreTrainedModel
        Changed in place.
    name : str
        What the user asked for.
    """
    for part in module.modules():
        if hasattr(part, "name_or_path"):
            part.name_or_path = name
        if hasattr(getattr(part, "config", None), "name_or_path"):
            part.config.name_or_path = name


def _has_weights(folder: Path) -> bool:
    """Whether the weights are there, in one file or in all the parts of an index."""
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
    """Keep transformers' load reports and progress bars from the user."""
    with _QUIET, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot (dis|en)able progress bars")
        verbosity = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        hub_bars = not huggingface_hub.utils.are_progress_bars_disabled()
        transformers_logging.set_verbosity(transformers_logging.CRITICAL)
        transformers_logging.disable_progress_bar()  # the hub's as well
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()
            if hub_bars:
                huggingface_hub.utils.enable_progress_bars()
            else:
                huggingface_hub.utils.disable_progress_bars()
