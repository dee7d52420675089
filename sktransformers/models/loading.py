"""A directory, an embedded name or a hub id becomes a tokenizer and a module.

Every failure is an error of ours that says what to do; transformers' own progress
bars and load reports stay off.
"""

import copy
import functools
import hashlib
import json
import os
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
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from .._compat import model_class, read_gguf_once, supports_sdpa
from ..exceptions import HeadMismatchError, ModelFormatError, ModelNotFoundError
from . import hub
from .embedded import EMBEDDED, find_embedded
from .files import forget_folder, missing_part, name_model, quiet
from .gguf import gguf_options, name_special_tokens, require_reader
from .remote_code import (
    advice_on_code,
    brings_code,
    require_commit,
    require_own_code,
)

_ADVICE = {
    "configuration": "it has no config.json. Pass the directory that a model was "
    "saved to",
    "weights": "it has no weights (model.safetensors), or not all of them. Save them "
    "with model.save_pretrained(directory)",
    "tokenizer": "it has no tokenizer (tokenizer.json). Save it beside the model with "
    "tokenizer.save_pretrained(directory)",
}


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found, before its weights are read.

    Attributes
    ----------
    name : str
        What the user asked for.
    folder : str
        The directory of its files.
    config : PreTrainedConfig
        Not to be changed; copy it first.
    tokenizer : PreTrainedTokenizerBase
        Without padding or truncation state.
    pooling : str or None
        The pooling a sentence-transformers checkpoint was trained with.
    identity : str
        Of the files: another folder or a changed file has another. Tells no path.
    gguf_file : str or None, default=None
        Name of the one file that holds it all, if it is a GGUF file.
    trust_remote_code : bool, default=False
        Whether Python code that comes with the model may be run.
    """

    name: str
    folder: str
    config: Any
    tokenizer: Any
    pooling: str | None
    identity: str = ""
    gguf_file: str | None = None
    trust_remote_code: bool = False

    def has_trained_head(self, task: str) -> bool:
        """Whether the checkpoint was saved with a head for this task."""
        architectures = self.config.architectures or [""]
        return architectures[0].endswith(f"For{task}")

    @property
    def max_length(self) -> int:
        """Tokens the model can read."""
        limits = [self.tokenizer.model_max_length]
        config = self.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if positions and positions > 0:
            # RoBERTa's kind numbers positions from pad_token_id + 1.
            offset = "roberta" in config.model_type or config.model_type in _SHIFTED
            limits.append(positions - (config.pad_token_id + 1 if offset else 0))
        return int(min(limits))


_SHIFTED = ("camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


def find_checkpoint(
    name: str | os.PathLike[str],
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Find a model: a directory, else a model package, else the cache, else the hub.

    Parameters
    ----------
    name : str or path
        Local directory, GGUF file, or hub id.
    revision : str or None, default=None
        Branch, tag or commit on the hub.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with the model.

    Returns
    -------
    Checkpoint
        With its configuration and its own tokenizer.

    Raises
    ------
    ModelNotFoundError
        There is no such directory, or no such model on the hub, or no network.
    ModelFormatError
        The directory lacks its configuration, weights or tokenizer; or its code is
        not to be run, or is another repository's.
    ValueError
        Code from the hub is to be run, and revision is not a commit.
    """
    name = os.fspath(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read_folder(name, str(folder), trust_remote_code)
    if folder.is_file() and folder.suffix == ".gguf":
        return _read_gguf(name, folder)
    _refuse_what_is_no_id(name, folder)
    if trust_remote_code:
        require_commit(name, revision)
    embedded = find_embedded(name) if revision is None else None
    if embedded is not None:
        weights = embedded / EMBEDDED[name].weights
        if weights.suffix == ".gguf":
            return _read_gguf(name, weights)
        return read_folder(name, str(embedded))
    hint = ""
    if folder.parent != Path() and folder.parent.is_dir():
        hint = f" There is also no directory {folder.name!r} in {folder.parent}."
    found = hub.fetch(name, revision, hint, with_code=trust_remote_code)
    return read_folder(name, str(found), trust_remote_code)


_WITH_HEAD = {
    "SequenceClassification": AutoModelForSequenceClassification,
    "TokenClassification": AutoModelForTokenClassification,
}


def load_module(
    checkpoint: Checkpoint,
    *,
    n_outputs: int,
    pooling: str,
    dtype: torch.dtype,
    task: str = "SequenceClassification",
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
    task : {"SequenceClassification", "TokenClassification"}
        What that head is for.
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
    # Passed on, lest the file be read again: an attention it names would win over ours.
    auto_class, config = AutoModel, copy.deepcopy(checkpoint.config)
    if pooling == "head":
        auto_class = _WITH_HEAD[task]
        config.num_labels = n_outputs
        n_trained = checkpoint.config.num_labels
        if checkpoint.has_trained_head(task) and n_trained != n_outputs:
            raise HeadMismatchError(
                f"The trained head of {checkpoint.name!r} has {n_trained} labels, but "
                f"y has {n_outputs}. Pass pooling='mean' (or 'cls', 'last') to put a "
                "new head in its place, or a y with the checkpoint's labels."
            )
    file = checkpoint.gguf_file
    path = None if file is None else Path(checkpoint.folder) / file
    try:
        with quiet(), read_gguf_once(path, last=True):
            module, report = auto_class.from_pretrained(
                checkpoint.folder,
                config=config,
                local_files_only=True,
                dtype=dtype,
                attn_implementation=attention_for(auto_class, config),
                trust_remote_code=checkpoint.trust_remote_code,
                output_loading_info=True,
                **gguf_options(file, weights=True),
            )
    except Exception as error:  # safetensors and pickle have kinds of their own
        raise ModelFormatError(
            f"The weights of {checkpoint.name!r} cannot be read as "
            f"{auto_class.__name__}: {error}"
        ) from error
    _require_encoder_weights(checkpoint, module, report["missing_keys"])
    name_model(module, checkpoint.name)
    if pooling == "head" and module.config.pad_token_id is None:
        module.config.pad_token_id = _pad_id(checkpoint.tokenizer)
    return module.eval()


def read_folder(name: str, folder: str, trust_remote_code: bool = False) -> Checkpoint:
    """Read the configuration and tokenizer of a directory.

    Parameters
    ----------
    name : str
        What the model is called, here and by what is read from there.
    folder : str
        The directory.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with the model.

    Returns
    -------
    Checkpoint
        Its weights are not read yet.

    Raises
    ------
    ModelFormatError
        It lacks something, or cannot be read.
    """
    path = Path(folder)
    try:
        missing = missing_part(path)
        if trust_remote_code:
            require_own_code(name, path)
    except ModelFormatError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise ModelFormatError(f"The files of {name!r} cannot be read: {error}") from (
            error
        )
    if missing:
        raise ModelFormatError(
            f"The directory {name!r} is no model: {_ADVICE[missing]}."
        )
    files = [f for f in (*path.glob("*"), *path.glob("*/config.json")) if f.exists()]
    stamp = tuple(sorted((str(f), f.stat().st_mtime_ns) for f in files))
    return _read(name, folder, stamp, trust_remote_code=trust_remote_code)


def _read_gguf(name: str, path: Path) -> Checkpoint:
    require_reader(name)
    return _read(name, str(path.parent), path.stat().st_mtime_ns, gguf_file=path.name)


# Reading a tokenizer takes longer than a short fit; it is never changed afterwards.
@functools.lru_cache(maxsize=8)
def _read(
    name: str,
    folder: str,
    stamp: Any,
    *,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    options = gguf_options(gguf_file)
    options |= {"local_files_only": True, "trust_remote_code": trust_remote_code}
    path = None if gguf_file is None else Path(folder) / gguf_file
    try:
        with quiet(), read_gguf_once(path):
            config = AutoConfig.from_pretrained(folder, **options)
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if gguf_file is not None:
            name_special_tokens(tokenizer, config)
        pooling = _trained_pooling(Path(folder))
    except Exception as error:  # transformers raises errors of many kinds
        if not trust_remote_code and gguf_file is None and brings_code(Path(folder)):
            raise ModelFormatError(advice_on_code(name)) from error
        raise ModelFormatError(
            f"The configuration or tokenizer of {name!r} cannot be read: {error}"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # some are saved with both switched on
        backend.no_truncation()
        backend.no_padding()
    config.name_or_path = name
    forget_folder(tokenizer, folder, name)
    return Checkpoint(
        name,
        folder,
        config,
        tokenizer,
        pooling,
        identity=hashlib.sha256(repr((folder, stamp)).encode()).hexdigest(),
        gguf_file=gguf_file,
        trust_remote_code=trust_remote_code,
    )


def _refuse_what_is_no_id(name: str, folder: Path) -> None:
    if folder.is_file():
        raise ModelNotFoundError(
            f"model={name!r} is a file. Pass the directory that holds the model, or a "
            "file that ends in .gguf."
        )
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"model={name!r}: there is no such directory. Check the path, seen from "
            f"{Path.cwd()}."
        ) from error


def _trained_pooling(folder: Path) -> str | None:
    """Return how a sentence-transformers model pools."""
    modules = folder / "modules.json"
    for module in json.loads(modules.read_text("utf-8")) if modules.is_file() else ():
        if str(module.get("type", "")).endswith("Pooling"):
            settings = folder / module["path"] / "config.json"
            return _pooling_of(json.loads(settings.read_text("utf-8")))
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


def attention_for(auto_class: Any, config: Any) -> str:
    """Name the implementation, lest a configuration name code to fetch."""
    return "sdpa" if supports_sdpa(model_class(auto_class, config)) else "eager"


def _pad_id(tokenizer: Any) -> int:
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def _require_encoder_weights(checkpoint: Checkpoint, module: Any, missing: Any) -> None:
    prefix = module.base_model_prefix + "."
    has_head = hasattr(module, module.base_model_prefix)
    # Of an encoder-decoder that is pooled, only the encoder is used.
    is_pooled_pair = checkpoint.config.is_encoder_decoder and not has_head
    unused = ("pooler", "decoder.") if is_pooled_pair else ("pooler",)
    encoder = [
        key
        for key in missing
        if (key.startswith(prefix) or not has_head)
        and not any(part in key for part in unused)
    ]
    if encoder:
        raise ModelFormatError(
            f"The checkpoint {checkpoint.name!r} lacks weights of the encoder, such as "
            f"{min(encoder)!r} ({len(encoder)} in all). It was saved from another "
            "architecture or is incomplete."
        )
