"""Loading of tokenizers, configurations and modules from checkpoints.

Failures raise this package's exceptions; transformers' logging and progress bars are
silenced.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import HFValidationError
from tokenizers.normalizers import Lowercase, Sequence
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from .._compat import model_class, read_gguf_once, supports_sdpa
from .._tasks.base import names_of_outputs
from ..exceptions import HeadMismatchError, ModelFormatError, ModelNotFoundError
from . import hub
from .bundled import EMBEDDED, find_embedded
from .files import is_adapter, missing_part, name_model, name_tokenizer, quiet
from .gguf import gguf_options, name_special_tokens, require_reader
from .peft_adapter import PeftAdapter
from .remote_code import advice_on_code, brings_code, require_commit, require_own_code
from .sentence_transformers import lower_cases, trained_pooling

_ADVICE = {
    "configuration": "it has no config.json. Pass the directory of a saved model",
    "weights": "it has no weights (model.safetensors), or not all of them. Save them "
    "with model.save_pretrained(directory)",
    "tokenizer": "it has no tokenizer (tokenizer.json). Save it beside the model with "
    "tokenizer.save_pretrained(directory)",
}


@dataclass(frozen=True)
class PretrainedCheckpoint:
    """A pre-trained checkpoint, without loaded weights.

    Attributes
    ----------
    name : str
        Model name as passed by the user.
    folder : str
        Directory of the files.
    config : PreTrainedConfig
        Configuration of the model. Shared: copy it before modifying it.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer without padding or truncation.
    pooling : str or None
        Pooling of a sentence-transformers checkpoint.
    identity : str
        Hash of the directory and of the files' modification times.
    gguf_file : str or None, default=None
        File name of the checkpoint, if it is a GGUF file.
    trust_remote_code : bool, default=False
        Whether to run Python code from the checkpoint.
    adapter : PeftAdapter or None, default=None
        LoRA adapter that is merged into the weights in the directory.
    """

    name: str
    folder: str
    config: Any
    tokenizer: Any
    pooling: str | None
    identity: str = ""
    gguf_file: str | None = None
    trust_remote_code: bool = False
    adapter: PeftAdapter | None = None

    def has_trained_head(self, head: str | None) -> bool:
        """Return whether it was saved with a head of this type (``Task.head``)."""
        architectures = self.config.architectures or [""]
        return head is not None and architectures[0].endswith(f"For{head}")

    @property
    def label_names(self) -> list[str]:
        """Label names of the trained head, in the order of its outputs."""
        try:
            return names_of_outputs(self.config)
        except ValueError as error:
            raise ModelFormatError(f"{self.name!r}: {error}") from error

    @property
    def max_length(self) -> int:
        """Maximum sequence length of the model in tokens."""
        limits = [self.tokenizer.model_max_length]
        config = self.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if positions and positions > 0:
            # RoBERTa and similar start position ids at pad_token_id + 1.
            offset = "roberta" in config.model_type or config.model_type in _SHIFTED
            limits.append(positions - (config.pad_token_id + 1 if offset else 0))
        return int(min(limits))


_SHIFTED = ("camembert", "mpnet", "longformer", "data2vec-text", "esm", "ibert")


def find_checkpoint(
    name: str | os.PathLike[str],
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PretrainedCheckpoint:
    """Find a checkpoint: a directory, model package, cached model or model on the Hub.

    Parameters
    ----------
    name : str or path
        Local directory, GGUF file, or hub id.
    revision : str or None, default=None
        Branch, tag or commit on the hub.
    trust_remote_code : bool, default=False
        Whether to run Python code from the checkpoint.

    Returns
    -------
    PretrainedCheckpoint
        Checkpoint with its configuration and tokenizer.

    Raises
    ------
    ModelNotFoundError
        If the directory or model does not exist, or the Hub cannot be reached.
    ModelFormatError
        If the configuration, weights or tokenizer are missing, or the checkpoint
        requires remote code that is not trusted or is from another repository.
    ValueError
        If ``trust_remote_code=True`` for a Hub model and revision is not a commit.
    """
    name = os.fspath(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read_folder(name, str(folder), trust_remote_code)
    if folder.is_file() and folder.suffix == ".gguf":
        return _read_gguf(name, folder)
    _require_repo_id(name, folder)
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
_WITH_HEAD_OF_TASK = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
}


def load_module(
    checkpoint: PretrainedCheckpoint,
    *,
    n_outputs: int,
    pooling: str,
    dtype: torch.dtype,
    head: str = "SequenceClassification",
    is_complete: bool = False,
) -> nn.Module:
    """Load a checkpoint with its weights.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint to load.
    n_outputs : int
        Number of outputs of the classification head.
    pooling : str
        "head" loads the architecture with its own head; else the encoder alone.
    head : {"SequenceClassification", "TokenClassification"}
        Type of the head.
    dtype : torch.dtype
        Data type of the weights.
    is_complete : bool, default=False
        Whether the checkpoint has to have all weights, also those of the head.

    Returns
    -------
    nn.Module
        Module in evaluation mode. A head without trained weights is initialized
        randomly.

    Raises
    ------
    HeadMismatchError
        If the trained head has a different number of labels.
    ModelFormatError
        If the weights cannot be loaded, or those of the encoder are incomplete.
    """
    # Pass the config: an attention implementation in its file would take precedence.
    auto_class, config = AutoModel, copy.deepcopy(checkpoint.config)
    if pooling == "head":
        auto_class = _WITH_HEAD[head]
        config.num_labels = n_outputs
        n_trained = checkpoint.config.num_labels
        if checkpoint.has_trained_head(head) and n_trained != n_outputs:
            raise HeadMismatchError(
                f"The trained head of {checkpoint.name!r} has {n_trained} labels, but "
                f"y has {n_outputs}. Pass pooling='mean' (or 'cls', 'last') to put a "
                "new head in its place, or a y with the checkpoint's labels."
            )
    module, report = read_weights(checkpoint, auto_class, config, dtype)
    missing = report["missing_keys"]
    if is_complete and missing:
        raise ModelFormatError(
            f"The checkpoint {checkpoint.name!r} is incomplete: weights are missing, "
            f"such as {min(missing)!r} ({len(missing)} in all)."
        )
    _require_encoder_weights(checkpoint, module, missing)
    require_shapes(
        repr(checkpoint.name),
        # A head of another task is replaced by a new one.
        (
            entry
            for entry in report["mismatched_keys"]
            if pooling != "head"
            or checkpoint.has_trained_head(head)
            or entry[0].startswith(module.base_model_prefix)
        ),
    )
    return module.eval()


def read_weights(
    checkpoint: PretrainedCheckpoint, auto_class: Any, config: Any, dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    """Load a model with the weights of a checkpoint and of its adapter, if any.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint to load.
    auto_class : type
        Auto class of transformers to load it with.
    config : PreTrainedConfig
        Configuration of the model; modified in place.
    dtype : torch.dtype
        Data type of the weights.

    Returns
    -------
    module : PreTrainedModel
        The model.
    report : dict
        Its weights that the checkpoint lacks ("missing_keys"), and those that it has
        in another shape ("mismatched_keys").

    Raises
    ------
    ModelFormatError
        If the weights cannot be loaded.
    """
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
                ignore_mismatched_sizes=True,
                **gguf_options(file, weights=True),
            )
    except Exception as error:  # safetensors and pickle raise their own types
        raise ModelFormatError(
            f"The weights of {checkpoint.name!r} cannot be read as "
            f"{auto_class.__name__}: {error}"
        ) from error
    adapter = checkpoint.adapter
    given = set() if adapter is None else adapter.merge_into(module)
    name_model(module, checkpoint.name)
    mismatched = [e for e in report["mismatched_keys"] if e[0] not in given]
    missing = set(report["missing_keys"]) - given
    return module, {"missing_keys": missing, "mismatched_keys": mismatched}


def read_folder(
    name: str, folder: str, trust_remote_code: bool = False
) -> PretrainedCheckpoint:
    """Load the configuration and tokenizer of a directory.

    Parameters
    ----------
    name : str
        Model name, for messages and ``name_or_path``.
    folder : str
        Directory of the checkpoint.
    trust_remote_code : bool, default=False
        Whether to run Python code from the checkpoint.

    Returns
    -------
    PretrainedCheckpoint
        Checkpoint without loaded weights.

    Raises
    ------
    ModelFormatError
        If files are missing or cannot be loaded.
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
            f"The directory {name!r} is not a complete model: {_ADVICE[missing]}."
        )
    if is_adapter(path):
        return _read_adapter(name, path, trust_remote_code)
    return _read(name, folder, _stamp(path), trust_remote_code=trust_remote_code)


def _stamp(path: Path) -> tuple[tuple[str, int], ...]:
    """Return the names and modification times of the files in a directory."""
    files = [f for f in (*path.glob("*"), *path.glob("*/config.json")) if f.exists()]
    return tuple(sorted((str(f), f.stat().st_mtime_ns) for f in files))


def _read_adapter(
    name: str, path: Path, trust_remote_code: bool
) -> PretrainedCheckpoint:
    """Find the base model of an adapter, and return it with the adapter."""
    adapter = PeftAdapter(path)
    base_name = adapter.config.base_model_name_or_path
    try:
        base = find_checkpoint(base_name, adapter.config.revision, trust_remote_code)
    except (ModelNotFoundError, ModelFormatError) as error:
        raise type(error)(
            f"The base model of the adapter {name!r} cannot be loaded: {error}"
        ) from error
    tokenizer = base.tokenizer
    if (path / "tokenizer_config.json").is_file():
        tokenizer = _read_tokenizer(
            name,
            str(path),
            Path(base.folder),
            local_files_only=True,
            trust_remote_code=trust_remote_code,
        )
    config = adapter.adapt_config(base.config, _WITH_HEAD_OF_TASK)
    config.name_or_path = name
    return dataclasses.replace(
        base,
        name=name,
        config=config,
        tokenizer=tokenizer,
        identity=_hash(base.identity, _stamp(path)),
        adapter=adapter,
    )


def _read_gguf(name: str, path: Path) -> PretrainedCheckpoint:
    require_reader(name)
    return _read(name, str(path.parent), path.stat().st_mtime_ns, gguf_file=path.name)


# Cached, as loading a tokenizer takes longer than a short fit. Never modified.
@functools.lru_cache(maxsize=8)
def _read(
    name: str,
    folder: str,
    stamp: Any,
    *,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
) -> PretrainedCheckpoint:
    options = gguf_options(gguf_file)
    options |= {"local_files_only": True, "trust_remote_code": trust_remote_code}
    path = None if gguf_file is None else Path(folder) / gguf_file
    if gguf_file is None:
        _require_numbered_labels(name, Path(folder) / "config.json")
    try:
        with quiet(), read_gguf_once(path):
            config = AutoConfig.from_pretrained(folder, **options)
            tokenizer = _read_tokenizer(name, folder, Path(folder), **options)
        if gguf_file is not None:
            name_special_tokens(tokenizer, config)
        pooling = trained_pooling(Path(folder))
    except Exception as error:  # transformers raises many exception types
        if not trust_remote_code and gguf_file is None and brings_code(Path(folder)):
            raise ModelFormatError(advice_on_code(name)) from error
        raise ModelFormatError(
            f"The configuration or tokenizer of {name!r} cannot be read: {error}"
        ) from error
    config.name_or_path = name
    return PretrainedCheckpoint(
        name,
        folder,
        config,
        tokenizer,
        pooling,
        identity=_hash(folder, stamp),
        gguf_file=gguf_file,
        trust_remote_code=trust_remote_code,
    )


def _require_numbered_labels(name: str, file: Path) -> None:
    """Raise ModelFormatError if ``id2label`` cannot be read by transformers."""
    try:
        labels = json.loads(file.read_text("utf-8")).get("id2label") or {}
    except (ValueError, AttributeError):
        return  # reported by transformers
    if not isinstance(labels, dict) or not all(key.isdecimal() for key in labels):
        raise ModelFormatError(
            f"id2label in config.json of {name!r} must be an object with the numbers "
            f"of the outputs as keys, such as {{'0': 'negative'}}. Got {labels}."
        )


def _read_tokenizer(name: str, folder: str, model_folder: Path, **options: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # may be saved with both enabled
        backend.no_truncation()
        backend.no_padding()
        if lower_cases(model_folder):
            own = [] if backend.normalizer is None else [backend.normalizer]
            backend.normalizer = Sequence([Lowercase(), *own])
    name_tokenizer(tokenizer, folder, name)
    return tokenizer


def _hash(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()


def _require_repo_id(name: str, folder: Path) -> None:
    if folder.is_file():
        raise ModelNotFoundError(
            f"model={name!r} is a file. Pass the directory that holds the model, or a "
            "file that ends in .gguf."
        )
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"model={name!r}: there is no such directory. Check the path, relative to "
            f"{Path.cwd()}."
        ) from error


def attention_for(auto_class: Any, config: Any) -> str:
    """Return the attention implementation, overriding that of the configuration.

    A configuration may name a kernel to be downloaded.
    """
    return "sdpa" if supports_sdpa(model_class(auto_class, config)) else "eager"


def require_shapes(where: object, mismatched: Iterable[Any]) -> None:
    """Raise ModelFormatError if weights have other shapes than their configuration.

    Parameters
    ----------
    where : object
        Location for the error message.
    mismatched : iterable of (str, shape, shape)
        Name, actual and expected shape of each such weight.
    """
    for key, found, expected in sorted(mismatched):
        raise ModelFormatError(
            f"{where}: the weight {key!r} has the shape {tuple(found)} instead of "
            f"{tuple(expected)}, as config.json has it. If it belongs to the head, "
            "correct id2label: it must name each output."
        )


def _require_encoder_weights(
    checkpoint: PretrainedCheckpoint, module: Any, missing: Any
) -> None:
    prefix = module.base_model_prefix + "."
    has_head = hasattr(module, module.base_model_prefix)
    # With pooling, only the encoder of an encoder-decoder is used.
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
