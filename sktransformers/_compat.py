"""The one place that touches undocumented parts of other libraries.

Each function or alias says what it uses and why nothing documented will do.
``tests/test_compat.py`` has a test for each of them, so that a release which moves one
is noticed by name. All other modules use documented interfaces only; those of
:mod:`sklearn.callback` are documented but experimental.

Nothing heavy is imported at the top: torch and transformers are loaded by the functions
that need them.
"""

import contextlib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The private modules below are what scikit-learn's own estimators are written with;
# its guide for developers has no public counterpart of them.
from sklearn.base import BaseEstimator
from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    Interval,
    Options,
    StrOptions,
    validate_params,
)
from sklearn.utils.validation import _check_feature_names as check_feature_names
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import (
    _generate_get_feature_names_out as generate_get_feature_names_out,
)
from sklearn.utils.validation import _get_feature_names as get_feature_names

from .exceptions import UnsupportedVersionError

__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "attention_implementation",
    "attribute_dicts",
    "callbacks_of",
    "check_feature_names",
    "check_matplotlib_support",
    "check_sample_weight",
    "cpu_multiplies_bfloat16",
    "eager_attention_mask",
    "fit_context",
    "forward_arguments",
    "generate_get_feature_names_out",
    "get_feature_names",
    "has_recurrent_state",
    "init_kwargs_of",
    "is_nested_fit",
    "model_class",
    "model_types",
    "parameter_version",
    "read_gguf_once",
    "safe_indexing",
    "set_activation_checkpointing",
    "supports_sdpa",
    "table_of_fitted_attributes",
    "validate_parameters",
    "validate_params",
    "with_submodule",
    "without_telemetry",
]


# scikit-learn


def callbacks_of(estimator: Any) -> list[Any]:
    """Return the callbacks that ``set_callbacks`` has registered on an estimator.

    Uses the attribute ``_skl_callbacks``: there is no method that returns them.
    """
    return list(getattr(estimator, "_skl_callbacks", []))


def is_nested_fit(estimator: Any) -> bool:
    """Whether a search or pipeline with callbacks of its own fits the estimator.

    Uses the attribute ``_parent_callback_ctx``, which ``propagate_callback_context``
    sets: nothing else tells that an outer estimator already shows progress.
    """
    return hasattr(estimator, "_parent_callback_ctx")


def validate_parameters(estimator: Any) -> None:
    """Check an estimator's parameters against its ``_parameter_constraints``.

    Uses ``BaseEstimator._validate_params``, which ``fit`` calls through
    ``fit_context``; an estimator that is read from a file has no ``fit`` to call.
    """
    estimator._validate_params()


def table_of_fitted_attributes(estimator: Any, doc_link: str = "") -> Any:
    """Return the fitted attributes that an estimator's HTML representation shows.

    Uses ``BaseEstimator._get_fitted_attr_html``, which estimators override to shorten
    values: there is no public way.
    """
    return BaseEstimator._get_fitted_attr_html(estimator, doc_link)


# torch


def parameter_version(parameter: Any) -> int:
    """Return a number that changes whenever a tensor is written to in place.

    Uses ``Tensor._version``, by which autograd notices such writes: comparing the
    values instead would take as long as a prediction.
    """
    version: int = parameter._version
    return version


def cpu_multiplies_bfloat16() -> bool:
    """Whether torch multiplies matrices in bfloat16 natively on this processor.

    ``torch.cpu.get_capabilities`` names what the processor has, whether or not torch
    may use it. So this also uses ``torch.ops.mkldnn._is_mkldnn_bf16_supported``, which
    torch asks before it hands a product to oneDNN and which knows the limit set by
    ``ONEDNN_MAX_CPU_ISA``, but takes an emulation for support.
    """
    import torch

    if not (_has_bfloat16_instructions() and torch.backends.mkldnn.is_available()):
        return False
    limits = (os.environ.get(f"{name}_MAX_CPU_ISA", "") for name in ("ONEDNN", "DNNL"))
    if any(limit.upper() in _EMULATES_BFLOAT16 for limit in limits):
        return False
    return bool(_require(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", "torch")())


_EMULATES_BFLOAT16 = {"AVX512_CORE", "AVX512_CORE_VNNI"}


def _has_bfloat16_instructions() -> bool:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        names = ("amx_bf16", "avx512_bf16", "avx10_2", "bf16")  # the last on ARM
        return any(capabilities.get(name) for name in names)
    # torch 2.10 has only private functions for this.
    cpu = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def attribute_dicts(model: Any) -> list[dict[str, Any]]:
    """Return the dictionaries that hold what a model's forward pass may set.

    Uses ``Module._buffers`` and ``Module._modules``: assigning what ``state_dict`` and
    ``named_modules`` return would take as long as a prediction, and iterating over
    ``modules()`` a tenth of it. Only the modules of transformers and of remote code are
    looked at: torch's set nothing.
    """
    found: dict[int, dict[str, Any]] = {}
    stack = [model]
    while stack:
        module = stack.pop()
        children = module._modules
        stack.extend(child for child in children.values() if child is not None)
        if type(module).__module__.startswith("transformers"):
            attributes = vars(module)
            parts = [attributes, module._buffers, children]
            config = attributes.get("config")
            parts += [vars(config)] if hasattr(config, "__dict__") else []
            found.update((id(part), part) for part in parts)
    return list(found.values())


def with_submodule(module: Any, name: str, child: Any) -> Any:
    """Return a module that shares everything with another one except one child.

    Writes ``Module._modules`` of a shallow copy: assigning the attribute would change
    the original, which may be in use by another thread.
    """
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__, _modules={**module._modules, name: child})
    return twin


# transformers


def model_class(auto_class: Any, config: Any) -> Any:
    """Return the class that an auto class builds for a configuration, or None.

    Uses ``_model_mapping`` of the auto classes, which offer no way to ask before the
    weights are read.
    """
    mapping = _require(auto_class, "_model_mapping", "transformers")
    found = mapping.get(type(config), None)  # its get has no default
    return found[0] if isinstance(found, tuple) else found  # Funnel has two


def model_types(task: str) -> set[str]:
    """Return the values of ``config.model_type`` that have a model for a task.

    Uses the mappings of names behind the auto classes, for the same reason.

    Parameters
    ----------
    task : {"CAUSAL_LM", "MASKED_LM"}
        As in the name of the mapping.
    """
    module = importlib.import_module("transformers.models.auto.modeling_auto")
    name = f"MODEL_FOR_{task}_MAPPING_NAMES"
    return set(_require(module, name, "transformers"))


def supports_sdpa(architecture: Any) -> bool:
    """Whether an architecture computes attention by PyTorch's fused function.

    Uses ``PreTrainedModel._supports_sdpa``: asking for the implementation where it is
    missing raises an error, and the default may come from the checkpoint's files.
    """
    return bool(getattr(architecture, "_supports_sdpa", False))


def attention_implementation(config: Any) -> str:
    """Return the attention implementation that a model was built with.

    Uses ``config._attn_implementation``: ``set_attn_implementation`` has no getter.
    """
    return str(_require(config, "_attn_implementation", "transformers"))


def eager_attention_mask() -> Callable[..., Any]:
    """Return the function that builds the mask of plain (eager) attention.

    Uses :mod:`transformers.masking_utils`: an implementation that is registered with
    ``AttentionInterface`` needs a mask too, and only its registry is documented.
    """
    module = importlib.import_module("transformers.masking_utils")
    mask: Callable[..., Any] = _require(module, "eager_mask", "transformers")
    return mask


def forward_arguments(model: Any) -> set[str]:
    """Return the names of the arguments of the forward pass of a model or its class.

    What a model can be given (positions, token types) is told by its signature alone.
    """
    return set(inspect.signature(model.forward).parameters)


def has_recurrent_state(model: Any) -> bool:
    """Whether a model keeps a state that cannot be cut back, as Mamba does.

    Uses ``PreTrainedModel._is_stateful``: no documented attribute tells.
    """
    return bool(getattr(model, "_is_stateful", False))


def set_activation_checkpointing(model: Any, *, active: bool) -> None:
    """Recompute a model's activations in the backward pass, or keep them again.

    The documented methods were renamed from ``gradient_checkpointing_*``. The hooks
    that they register for frozen embeddings cannot be pickled and are not needed here,
    since the non-reentrant kind is asked for.
    """
    kind = "gradient"
    if hasattr(model, "activation_checkpointing_enable"):
        kind = "activation"
    if active:
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        model.disable_input_require_grads()
    else:
        getattr(model, f"{kind}_checkpointing_disable")()


def init_kwargs_of(tokenizer: Any) -> dict[str, Any]:
    """Return the settings that a tokenizer was read with, to be changed in place.

    Uses ``tokenizer.init_kwargs``, which is pickled and saved with the tokenizer and
    names the directory that it was read from.
    """
    settings: dict[str, Any] = _require(tokenizer, "init_kwargs", "transformers")
    return settings


@contextlib.contextmanager
def read_gguf_once(path: Path | None, *, last: bool = False) -> Iterator[None]:
    """Let the gguf package read a file once, and without a progress bar.

    transformers reads a GGUF file three times (configuration, tokenizer, weights), each
    time in Python, and builds the same table of names for each module. Replaces
    ``gguf.GGUFReader``, ``gguf.get_tensor_name_map`` and the progress bar of
    ``transformers.modeling_gguf_pytorch_utils`` inside of the context, so that it must
    be entered by one thread at a time. If transformers stops using these names, a file
    is read three times again; the test notices.

    Parameters
    ----------
    path : Path or None
        The file; None changes nothing.
    last : bool, default=False
        Whether to forget the content afterwards.
    """
    if path is None:
        yield
        return
    gguf = importlib.import_module("gguf")
    reader, stamp = gguf.GGUFReader, path.stat().st_mtime_ns
    replacements = [
        (gguf, "GGUFReader", lambda file: _read_gguf(reader, str(file), stamp)),
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
            _read_gguf.cache_clear()


@functools.lru_cache(maxsize=1)
def _read_gguf(reader: Any, file: str, _stamp: int) -> Any:
    return reader(file)


# OpenVINO and ONNX Runtime


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep OpenVINO and ONNX Runtime from reporting their use while they are imported.

    They would use the network and leave files in the home directory. Both decide on
    that once, at import: OpenVINO by whether ``openvino_telemetry`` can be imported,
    ONNX Runtime by ``ORT_DISABLE_TELEMETRY``.
    """
    package, variable = "openvino_telemetry", "ORT_DISABLE_TELEMETRY"
    is_imported, is_set = package in sys.modules, variable in os.environ
    if not is_imported:
        sys.modules[package] = None  # type: ignore[assignment]
    if not is_set:
        os.environ[variable] = "1"
    try:
        yield
    finally:
        if not is_imported:
            del sys.modules[package]
        if not is_set:
            del os.environ[variable]


def _require(owner: Any, name: str, library: str) -> Any:
    """Return an attribute, or raise an error that names library and version."""
    try:
        return getattr(owner, name)
    except AttributeError as error:
        from importlib.metadata import version

        place = getattr(owner, "__name__", type(owner).__name__)
        raise UnsupportedVersionError(
            f"{library} {version(library)} has no {place}.{name}, which sktransformers "
            "uses. Install a version that it supports (see constraints.txt and the "
            "installation guide), or upgrade sktransformers."
        ) from error
