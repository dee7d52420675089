"""A fitted model's weights and configuration, as a Hugging Face checkpoint and back."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from ..engine.start import standardize_head
from ..exceptions import ModelFormatError
from ..models.adapters import has_adapter
from ..models.files import quiet
from ..models.language import LanguageModel
from ..models.loading import attention_for
from ..models.modules import ArchitectureModel, PooledModel
from ._json import read_json, require_type, write_json

WEIGHTS, HEAD, CONFIG = "model.safetensors", "head.safetensors", "config.json"
MODULES, POOLING, LENGTH = (
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_WITH_HEAD = {
    "SequenceClassification": AutoModelForSequenceClassification,
    "TokenClassification": AutoModelForTokenClassification,
}
# What could have code fetched, or files read from elsewhere.
_REFUSED = {
    *("auto_map", "custom_generate", "quantization_config", "kernel_config"),
    *("attn_implementation", "_attn_implementation", "trust_remote_code"),
    *("experts_implementation", "_experts_implementation", "use_kernels"),
    *("tokenizer_file", "vocab_file", "merges_file", "fast_tokenizer_files"),
}
_SETTINGS = (CONFIG, "generation_config.json", "tokenizer_config.json")


def describe_model(model: Any) -> dict[str, Any]:
    """Return what has to be known of a model before its weights are read.

    Parameters
    ----------
    model : PooledModel, ArchitectureModel or LanguageModel
        Of a fitted estimator.

    Returns
    -------
    dict
        To be written as JSON.
    """
    is_pooled = isinstance(model, PooledModel)
    kind = "language" if isinstance(model, LanguageModel) else "architecture"
    return {
        "kind": "pooled" if is_pooled else kind,
        "pooling": model.pooling if is_pooled else None,
        "dtype": str(model.encoder.dtype).removeprefix("torch."),
        "has_adapter": has_adapter(model),
    }


def check_description(description: dict[str, Any], task: str, where: object) -> None:
    """Require that such a model is one that an estimator can have.

    Parameters
    ----------
    description : dict
        As :func:`describe_model` gives it.
    task : str
        Of the estimator, in transformers' words.
    where : object
        Named in the message.

    Raises
    ------
    ModelFormatError
        It is none.
    """
    poolings: dict[str, tuple[Any, ...]] = {"pooled": ("mean", "cls", "last")}
    if task == "TokenClassification":
        poolings = {"pooled": ("positions",)}
    if task == "language":
        poolings = {}
    known = {**poolings, "language" if task == "language" else "architecture": (None,)}
    if (
        description["pooling"] not in known.get(str(description["kind"]), ())
        or str(description["dtype"]) not in _DTYPES
    ):
        raise ModelFormatError(f"{where}: there is no such model: {description}.")


def write_model(
    folder: Path,
    model: Any,
    target: Any,
    *,
    problem: str | None = None,
    generation: dict[str, Any] | None = None,
) -> None:
    """Write a model, so that transformers reads it too.

    Parameters
    ----------
    folder : Path
        Where to.
    model : PooledModel, ArchitectureModel or LanguageModel
        Without an adapter; not changed.
    target : Target
        What it has learned.
    problem : str or None
        What transformers calls it.
    generation : dict or None
        How a model that writes does so.

    Raises
    ------
    OSError
        A file cannot be written; the message names it.
    """
    module = model.encoder if isinstance(model, PooledModel) else model.model
    twin = _twin(module)
    if isinstance(model, PooledModel):
        write_tensors(folder / HEAD, model.head.state_dict())
    elif isinstance(model, ArchitectureModel):
        twin.config.problem_type = problem
        ArchitectureModel(twin).name_labels([str(label) for label in target.classes])
        if hasattr(target, "scale"):
            # The file has numbers in their units, and what rounding took is beside it.
            write_tensors(folder / HEAD, model.head.state_dict())
            twin = ArchitectureModel(copy.deepcopy(twin).cpu())
            standardize_head(twin.head, -target.mean / target.scale, 1 / target.scale)
            twin = twin.model
    if generation is not None:
        twin.generation_config = GenerationConfig(**generation)
    with quiet(), naming(folder / WEIGHTS):
        if isinstance(model, PooledModel) and module.config.is_encoder_decoder:
            _write_lower_half(folder, twin)
        else:
            twin.save_pretrained(folder, max_shard_size="100TB")
    clean_settings(folder)


def _twin(module: Any) -> Any:
    """Return what shares all weights, with settings of its own."""
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__, config=copy.deepcopy(module.config))
    for name in ("hf_quantizer", "quantization_method"):  # of a file that was unpacked
        twin.__dict__.pop(name, None)
    return twin


def _write_lower_half(folder: Path, encoder: Any) -> None:
    """Write the encoder of an encoder-decoder, under the names it has in the whole."""
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
    """Write tensors to a file of safetensors.

    Parameters
    ----------
    path : Path
        The file.
    tensors : dict of str to Tensor
        On any device.

    Raises
    ------
    OSError
        The file cannot be written; the message names it.
    """
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with naming(path):
        save_file(plain, path, metadata={"format": "pt"})


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make errors of libraries that write a file OSErrors that name it."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # safetensors and tokenizers have kinds of their own
        raise OSError(f"{path.name}: {error}") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of safetensors; ModelFormatError names it if that fails."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    return tensors


def read_model(
    folder: Path, config: Any, description: dict[str, Any], target: Any, task: str
) -> Any:
    """Read a model that :func:`write_model` has written.

    Parameters
    ----------
    folder : Path
        Its directory, checked.
    config : PreTrainedConfig
        As read from there.
    description : dict
        As :func:`describe_model` gave it, checked.
    target : Target
        What was learned.
    task : str
        Of the estimator.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        In evaluation mode.

    Raises
    ------
    ModelFormatError
        A weight is missing, unexpected or of another shape.
    """
    kind, dtype = description["kind"], _DTYPES[description["dtype"]]
    if kind == "language":
        is_pair = config.is_encoder_decoder
        auto_class = AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM
        return LanguageModel(read_module(folder, config, auto_class, dtype)).eval()
    if kind == "pooled":
        is_lower_half = config.is_encoder_decoder
        module = read_module(
            folder,
            config,
            AutoModel,
            dtype,
            may_miss=_is_above if is_lower_half else None,
        )
        module = module.get_encoder() if is_lower_half else module
        pooled = PooledModel(module, target.n_outputs, description["pooling"])
        read_head(folder, pooled.head)
        return pooled.eval()
    if config.num_labels != target.n_outputs:
        raise ModelFormatError(
            f"{folder / CONFIG}: there are {config.num_labels} labels, and the "
            f"estimator has {target.n_outputs}."
        )
    has_head = hasattr(target, "scale")
    model = ArchitectureModel(
        read_module(
            folder,
            config,
            _WITH_HEAD[task],
            dtype,
            # Not every architecture's head has a bias.
            may_exceed=(lambda name: name.endswith(".bias")) if has_head else None,
        )
    )
    if has_head:
        read_head(folder, model.head)
    return model.eval()


def read_head(folder: Path, head: nn.Module) -> None:
    """Read weights that lie in a file of their own into a head.

    Parameters
    ----------
    folder : Path
        Where the file is.
    head : nn.Module
        Changed in place.

    Raises
    ------
    ModelFormatError
        They are not the head's.
    """
    tensors = read_tensors(folder / HEAD)
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
    if linear.bias is None and tensors.keys() - head.state_dict().keys():
        linear.bias = nn.Parameter(torch.zeros_like(linear.weight[:, 0]))
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFormatError(f"{folder / HEAD} has other weights: {error}") from error


def read_module(
    folder: Path,
    config: Any,
    auto_class: Any,
    dtype: torch.dtype,
    *,
    may_miss: Any = None,
    may_exceed: Any = None,
    only_safetensors: bool = True,
) -> Any:
    """Read a checkpoint and all of it, in safetensors and with no code of its own.

    Parameters
    ----------
    folder : Path
        The directory.
    config : PreTrainedConfig
        Not changed.
    auto_class : type
        What of transformers reads it.
    dtype : torch.dtype
        Format of the weights.
    may_miss, may_exceed : callable or None
        Says whether a weight of some name may be missing, or be there in vain.
    only_safetensors : bool, default=True
        Whether weights in PyTorch's older format are refused. torch reads nothing but
        tensors from them.

    Returns
    -------
    PreTrainedModel
        In evaluation mode.

    Raises
    ------
    ModelFormatError
        It cannot be read, or has not exactly the weights.
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
                use_safetensors=True if only_safetensors else None,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors have kinds of their own
        raise ModelFormatError(
            f"{folder / WEIGHTS} cannot be read as {auto_class.__name__}: {error}"
        ) from error
    missing = [k for k in report["missing_keys"] if not (may_miss and may_miss(k))]
    unexpected = report["unexpected_keys"]
    unexpected = [k for k in unexpected if not (may_exceed and may_exceed(k))]
    if missing or unexpected or report.get("mismatched_keys"):
        raise ModelFormatError(
            f"{folder / WEIGHTS}: weights are missing ({sorted(missing)[:3]}) or "
            f"unexpected ({sorted(unexpected)[:3]})."
        )
    return module.eval()


def _is_above(name: str) -> bool:
    return not name.startswith("encoder.")


def clean_settings(folder: Path) -> None:
    """Take out of settings what could have code fetched, or files from elsewhere."""
    for name in _SETTINGS:
        path = folder / name
        if path.is_file():
            settings = read_json(path)
            write_json(path, _without_refused(settings))


def require_clean_settings(folder: Path) -> None:
    """Raise ModelFormatError where settings name code, or files elsewhere.

    Parameters
    ----------
    folder : Path
        Of a saved model.
    """
    for name in _SETTINGS:
        path = folder / name
        if path.is_file():
            settings = require_type(read_json(path), dict, path)
            if _without_refused(settings) != settings:
                raise ModelFormatError(
                    f"{path} names code to run, kernels to fetch or files to read, "
                    f"which is refused: one of {sorted(_REFUSED)}."
                )


def _without_refused(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_refused(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_refused(v) for k, v in value.items() if k not in _REFUSED}


def write_pooling(folder: Path, model: Any, max_length: int) -> None:
    """Let sentence-transformers make the same embeddings.

    Parameters
    ----------
    folder : Path
        Where the encoder lies.
    model : PooledModel
        Its pooling is written down.
    max_length : int
        Tokens of a text that are read.
    """
    (folder / POOLING).parent.mkdir()
    for name, content in pooling_files(model.pooling, model.head.in_features).items():
        write_json(folder / name, content)
    write_json(folder / LENGTH, {"max_seq_length": max_length, "do_lower_case": False})


def pooling_files(pooling: str, width: int) -> dict[str, Any]:
    """Return what sentence-transformers reads, by the files' names."""
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
    """Raise ModelFormatError if what sentence-transformers reads was changed.

    Parameters
    ----------
    folder : Path
        Of a saved model.
    model : PooledModel
        As read.
    """
    for name, content in pooling_files(model.pooling, model.head.in_features).items():
        if read_json(folder / name) != content:
            raise ModelFormatError(
                f"{folder / name} does not fit pooling={model.pooling!r}."
            )


def read_foreign_head(checkpoint: Any, task: str, dtype: torch.dtype) -> Any:
    """Read a model with a head that somebody else has trained.

    Parameters
    ----------
    checkpoint : Checkpoint
        With such a head.
    task : str
        What it is for.
    dtype : torch.dtype
        Format of the weights.

    Returns
    -------
    PreTrainedModel
        In evaluation mode.

    Raises
    ------
    ModelFormatError
        A weight is missing.
    """
    return read_module(
        Path(checkpoint.folder),
        checkpoint.config,
        _WITH_HEAD[task],
        dtype,
        may_exceed=bool,  # whatever its name is
        only_safetensors=False,
    )
