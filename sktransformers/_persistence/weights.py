"""Write and read the weights and configuration of a model as a HF checkpoint."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    GenerationConfig,
)

from .._compat import model_class
from .._hardware.devices import weights_dtype
from .._json import Schema, read_json, write_json
from .._models.building import build_model
from .._models.files import quiet
from .._models.heads import ArchitectureModel, PooledModel, standardize_head
from .._models.language_model import LanguageModel
from .._models.loading import attention_for, require_shapes
from .._tasks import Task
from ..exceptions import ModelFormatError

WEIGHTS, HEAD, CONFIG = "model.safetensors", "head.safetensors", "config.json"
MODULES, POOLING, LENGTH = (
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
_WITH_HEAD = {
    "SequenceClassification": AutoModelForSequenceClassification,
    "TokenClassification": AutoModelForTokenClassification,
}
# Settings that could download code, or read other files.
_REFUSED = {
    *("auto_map", "custom_generate", "quantization_config", "kernel_config"),
    *("attn_implementation", "_attn_implementation", "trust_remote_code"),
    *("experts_implementation", "_experts_implementation", "use_kernels"),
    *("tokenizer_file", "vocab_file", "merges_file", "fast_tokenizer_files"),
}
_SETTINGS = (CONFIG, "generation_config.json", "tokenizer_config.json")


class ModelDescription(Schema):
    """What is needed to build a model before its weights are read."""

    kind: Literal["pooled", "architecture", "language"]
    pooling: Literal["mean", "cls", "last", "positions"] | None
    dtype: Literal["float32", "float64"]


def describe_model(model: Any) -> ModelDescription:
    """Describe a model.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        Model of a fitted estimator.

    Returns
    -------
    ModelDescription
        Description to save.
    """
    return ModelDescription(
        kind=model.kind,
        pooling=model.pooling if model.has_new_head else None,
        dtype="float64" if model.encoder.dtype == torch.float64 else "float32",
    )


def has_remote_code(estimator: Any) -> bool:
    """Return whether the fitted model or tokenizer is custom code of its checkpoint."""
    parts = estimator.model_.module, estimator.tokenizer_
    return any(type(p).__module__.startswith("transformers_modules") for p in parts)


def build_described(checkpoint: Any, model: ModelDescription, task: Task) -> Any:
    """Build a model as in fit, before its own weights are restored.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        The checkpoint that the model was fitted from.
    model : ModelDescription
        Description from :func:`describe_model`.
    task : Task
        Task of the estimator.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        The model in evaluation mode, with the names of the labels.
    """
    dtype, pooling = weights_dtype(model.dtype), model.pooling or "head"
    built = build_model(checkpoint, task, pooling=pooling, dtype=dtype)
    built.name_labels(task.label_names())
    return built


def check_description(model: ModelDescription, task: Task, where: object) -> None:
    """Validate the description of a model.

    Parameters
    ----------
    model : ModelDescription
        Description from :func:`describe_model`.
    task : Task
        Task of the estimator.
    where : object
        Location for the error message.

    Raises
    ------
    ModelFormatError
        If the estimator cannot have such a model.
    """
    poolings = ("positions",) if task.predicts_words else ("mean", "cls", "last")
    known: dict[str, tuple[str | None, ...]]
    known = {"pooled": poolings, "architecture": (None,)}
    if task.head is None:
        known = {"language": (None,)}
    if model.pooling not in known.get(model.kind, ()):
        raise ModelFormatError(f"{where}: unsupported model: {model}.")


def write_model(
    folder: Path,
    model: Any,
    task: Task,
    *,
    generation: dict[str, Any] | None = None,
) -> None:
    """Write a model in a format that transformers can load, too.

    Parameters
    ----------
    folder : Path
        Directory to write to.
    model : PooledModel, ArchitectureModel or LanguageModel
        Model without an adapter; not changed.
    task : Task
        Task of the estimator.
    generation : dict or None
        Generation configuration of a generative model.

    Raises
    ------
    OSError
        If a file cannot be written; the message names it.
    """
    module = model.module
    copied = _copy_sharing_weights(module)
    if model.has_new_head:
        write_tensors(folder / HEAD, model.head.state_dict())
    elif not model.predicts_tokens:
        copied.config.problem_type = task.problem_type
        ArchitectureModel(copied).name_labels(task.label_names())
        if task.units is not None:
            mean, scale = task.units
            # The checkpoint predicts in the original units, which rounds the weights.
            # The exact weights are in a separate file.
            write_tensors(folder / HEAD, model.head.state_dict())
            copied = ArchitectureModel(copy.deepcopy(copied).cpu())
            standardize_head(copied.head, -mean / scale, 1 / scale)
            copied = copied.model
    if generation is not None:
        copied.generation_config = GenerationConfig(**generation)
    with quiet(), os_errors_naming(folder / WEIGHTS):
        if model.has_new_head and module.config.is_encoder_decoder:
            _write_encoder(folder, copied)
        else:
            copied.save_pretrained(folder, max_shard_size="100TB")
    clean_settings(folder)


def _copy_sharing_weights(module: Any) -> Any:
    """Return a copy of a module with the same weights and its own configuration."""
    copied = object.__new__(type(module))
    copied.__dict__.update(module.__dict__, config=copy.deepcopy(module.config))
    for name in ("hf_quantizer", "quantization_method"):  # of a dequantized checkpoint
        copied.__dict__.pop(name, None)
    return copied


def _write_encoder(folder: Path, encoder: Any) -> None:
    """Write the encoder of an encoder-decoder, named as in the whole model."""
    tensors = {f"encoder.{name}": t for name, t in encoder.state_dict().items()}
    with torch.device("meta"):
        whole = AutoModel.from_config(encoder.config)
    shared = whole.get_input_embeddings().weight
    for name, tensor in whole.state_dict(keep_vars=True).items():
        if tensor is shared and "." in name and not name.startswith("decoder."):
            tensors.setdefault(name, encoder.get_input_embeddings().weight)
    kind = model_class(AutoModelForTextEncoding, encoder.config) or type(whole)
    encoder.config.architectures = [kind.__name__]
    encoder.config.save_pretrained(folder)
    write_tensors(folder / WEIGHTS, tensors)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to a safetensors file.

    Parameters
    ----------
    path : Path
        The file.
    tensors : dict of str to Tensor
        Tensors on any device.

    Raises
    ------
    OSError
        If the file cannot be written; the message names it.
    """
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with os_errors_naming(path):
        save_file(plain, path, metadata={"format": "pt"})


@contextlib.contextmanager
def os_errors_naming(path: Path) -> Iterator[None]:
    """Convert errors of libraries that write a file to OSError with its name."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # safetensors and tokenizers raise their own types
        raise OSError(f"{path.name}: {error}") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; raise ModelFormatError with its name if that fails."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    return tensors


def read_model(
    folder: Path, config: Any, description: ModelDescription, task: Task
) -> Any:
    """Read a model that was written by :func:`write_model`.

    Parameters
    ----------
    folder : Path
        Its directory, whose manifest was checked.
    config : PreTrainedConfig
        Configuration in this directory.
    description : ModelDescription
        Its validated description.
    task : Task
        Task of the estimator.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        The model in evaluation mode.

    Raises
    ------
    ModelFormatError
        If a weight is missing, unexpected or of another shape.
    """
    dtype = weights_dtype(description.dtype)
    if description.kind == "language":
        is_encoder_decoder = config.is_encoder_decoder
        auto_class = (
            AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
        )
        return LanguageModel(read_module(folder, config, auto_class, dtype)).eval()
    if description.kind == "pooled":
        is_encoder_only = config.is_encoder_decoder
        module = read_module(
            folder,
            config,
            AutoModel,
            dtype,
            may_be_missing=_is_outside_encoder if is_encoder_only else None,
        )
        module = module.get_encoder() if is_encoder_only else module
        pooled = PooledModel(module, task.n_outputs, description.pooling or "")
        read_head(folder, pooled.head)
        return pooled.eval()
    if config.num_labels != task.n_outputs:
        raise ModelFormatError(
            f"{folder / CONFIG} has {config.num_labels} labels, but the estimator "
            f"has {task.n_outputs}."
        )
    has_head = task.units is not None
    model = ArchitectureModel(
        read_module(
            folder,
            config,
            _WITH_HEAD[task.head or ""],
            dtype,
            # Not every architecture's head has a bias.
            may_be_unexpected=(lambda name: name.endswith(".bias"))
            if has_head
            else None,
        )
    )
    if has_head:
        read_head(folder, model.head)
    return model.eval()


def read_head(folder: Path, head: nn.Module) -> None:
    """Read the weights of a head from their separate file.

    Parameters
    ----------
    folder : Path
        Directory of the file.
    head : nn.Module
        Changed in place.

    Raises
    ------
    ModelFormatError
        If the weights do not match the head.
    """
    tensors = read_tensors(folder / HEAD)
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
    if linear.bias is None and tensors.keys() - head.state_dict().keys():
        linear.bias = nn.Parameter(torch.zeros_like(linear.weight[:, 0]))
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFormatError(f"{folder / HEAD} does not match: {error}") from error


def read_module(
    folder: Path,
    config: Any,
    auto_class: Any,
    dtype: torch.dtype,
    *,
    may_be_missing: Any = None,
    may_be_unexpected: Any = None,
) -> Any:
    """Read a complete checkpoint, without executing custom code.

    Parameters
    ----------
    folder : Path
        The directory.
    config : PreTrainedConfig
        Not changed.
    auto_class : type
        Auto class of transformers to load it with.
    dtype : torch.dtype
        Data type of the weights.
    may_be_missing, may_be_unexpected : callable or None
        Takes the name of a weight and returns whether it may be missing from, or be
        unexpected in, the checkpoint.

    Returns
    -------
    PreTrainedModel
        The model in evaluation mode.

    Raises
    ------
    ModelFormatError
        If the checkpoint cannot be read, or weights are missing or unexpected.
    """
    try:
        with quiet():
            module, report = auto_class.from_pretrained(
                folder,
                config=copy.deepcopy(config),
                local_files_only=True,
                dtype=dtype,
                attn_implementation=attention_for(auto_class, config),
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # transformers and safetensors raise their own types
        raise ModelFormatError(
            f"{folder / WEIGHTS} cannot be read as {auto_class.__name__}: {error}"
        ) from error
    missing = [
        k for k in report["missing_keys"] if not (may_be_missing and may_be_missing(k))
    ]
    unexpected = report["unexpected_keys"]
    unexpected = [
        k for k in unexpected if not (may_be_unexpected and may_be_unexpected(k))
    ]
    require_shapes(folder / WEIGHTS, report["mismatched_keys"])
    if missing or unexpected:
        raise ModelFormatError(
            f"{folder / WEIGHTS}: weights are missing ({sorted(missing)[:3]}) or "
            f"unexpected ({sorted(unexpected)[:3]})."
        )
    return module.eval()


def _is_outside_encoder(name: str) -> bool:
    return not name.startswith("encoder.")


def clean_settings(folder: Path) -> None:
    """Remove settings that could download code, or read other files."""
    for name in _SETTINGS:
        path = folder / name
        if path.is_file():
            settings = read_json(path, dict[str, Any])
            write_json(path, _without_refused(settings))


def require_clean_settings(folder: Path) -> None:
    """Raise ModelFormatError if settings could download code, or read other files.

    Parameters
    ----------
    folder : Path
        Directory of a saved model.
    """
    for name in _SETTINGS:
        path = folder / name
        if path.is_file():
            settings = read_json(path, dict[str, Any])
            if _without_refused(settings) != settings:
                raise ModelFormatError(
                    f"{path} has a setting that is not allowed, as it could run code "
                    f"or read other files: one of {sorted(_REFUSED)}."
                )


def _without_refused(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_refused(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_refused(v) for k, v in value.items() if k not in _REFUSED}


def write_pooling(folder: Path, model: Any, max_length: int) -> None:
    """Write the files with which sentence-transformers computes the same embeddings.

    Parameters
    ----------
    folder : Path
        Directory of the encoder.
    model : PooledModel
        Model whose pooling is written.
    max_length : int
        Maximum number of tokens per text.
    """
    (folder / POOLING).parent.mkdir()
    for name, content in pooling_files(model.pooling, model.head.in_features).items():
        write_json(folder / name, content)
    write_json(folder / LENGTH, {"max_seq_length": max_length, "do_lower_case": False})


def pooling_files(pooling: str, width: int) -> dict[str, Any]:
    """Return the content of the sentence-transformers files, by file name."""
    modes = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
    kind = "sentence_transformers.models"
    modules = [("", f"{kind}.Transformer"), ("1_Pooling", f"{kind}.Pooling")]
    return {
        MODULES: [
            {"idx": i, "name": str(i), "path": path, "type": name}
            for i, (path, name) in enumerate(modules)
        ],
        POOLING: {
            "word_embedding_dimension": width,
            **{f"pooling_mode_{mode}": name == pooling for name, mode in modes.items()},
        },
    }


def require_pooling(folder: Path, model: Any) -> None:
    """Raise ModelFormatError if the sentence-transformers files were changed.

    Parameters
    ----------
    folder : Path
        Directory of a saved model.
    model : PooledModel
        The model that was read.
    """
    for name, content in pooling_files(model.pooling, model.head.in_features).items():
        if read_json(folder / name, type(content)) != content:
            raise ModelFormatError(
                f"{folder / name} is inconsistent with pooling={model.pooling!r}."
            )
