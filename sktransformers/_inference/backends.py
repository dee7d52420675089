"""Inference backends for CPUs: OpenVINO and ONNX Runtime.

Independent of text, labels and scikit-learn. A PyTorch model is converted in memory,
using example inputs; the result is called like the model.
"""

import contextlib
import ctypes
import importlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

from .._compat import without_telemetry
from .._models.files import quiet
from .._models.weights import copy_sharing_weights
from .forward import Inputs

ForwardPass = Callable[[list[np.ndarray]], np.ndarray]

# Absolute and relative tolerance between the outputs of the backend and PyTorch.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.2}

# Warning filters and log levels are global, so only one thread converts at a time.
_CONVERSION_LOCK = threading.RLock()


_ALIVE: WeakSet[ForwardPass] = WeakSet()


def _keep_inherited() -> None:
    """Never delete converted models in a forked process.

    OpenVINO's destructors wait for threads, which a forked process does not have.
    """
    for converted in _ALIVE:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(converted))


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_keep_inherited)


class AcceleratedModel:
    """A model whose forward passes are computed by an inference backend.

    The model's ``forward`` is converted on construction and its ``embed`` on first use.
    Copies and pickles contain only the PyTorch model, which is converted again on first
    use. Thread-safe.

    Parameters
    ----------
    model : nn.Module
        Model with an ``embed`` method, in evaluation mode, on the CPU.
    backend : {"openvino", "onnx"}
        Inference backend, validated by :func:`check`.
    precision : str
        Precision of the backend.
    examples : list of dict of str to Tensor
        Example inputs on which the outputs of the backend are compared with those of
        the model. The first ones, several rows of several tokens, are also used for
        tracing.

    Raises
    ------
    RuntimeError
        If the model cannot be converted, or the outputs differ from those of the model.
    """

    def __init__(
        self, model: Any, backend: str, precision: str, examples: list[Inputs]
    ) -> None:
        self._model = model
        self._backend = backend
        self._precision = precision
        self._examples = examples
        self._passes: dict[str, ForwardPass] = {}
        self._converted("forward")

    def matches(self, model: nn.Module, device: torch.device, precision: str) -> bool:
        """Return whether this is a conversion of the model, device and precision."""
        is_same = model is self._model and precision == self._precision
        return is_same and device.type == "cpu"

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the head, of shape (n_rows, n_outputs)."""
        return _call(self._converted("forward"), inputs)

    def embed(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, of shape (n_rows, hidden_size)."""
        return _call(self._converted("embed"), inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the converted models, which cannot be pickled."""
        return {**self.__dict__, "_passes": {}}

    def _converted(self, method: str) -> ForwardPass:
        if method not in self._passes:
            with _CONVERSION_LOCK:
                if method not in self._passes:
                    self._passes[method] = self._convert(method)
        return self._passes[method]

    def _convert(self, method: str) -> ForwardPass:
        runtime = _RUNTIMES[self._backend]
        # Keep the caller's torch modes, such as autocast, out of the converted model.
        with (
            _quiet(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            runtime.load()
            try:
                module = _MethodAsModule(
                    _copy_without_cache(self._model), method, self._examples[0]
                )
                inputs = tuple(self._examples[0].values())
                converted = runtime.compile(module, inputs, self._precision)
                self._compare(method, converted)
            except Exception as error:  # the libraries raise errors of many kinds
                reason = str(error).strip().partition("\n")[0].rstrip(".")
                raise RuntimeError(
                    f"{runtime.title} cannot run this model: {reason}. Predict with "
                    "PyTorch, or try the other backend."
                ) from error
        _ALIVE.add(converted)
        return converted

    def _compare(self, method: str, converted: ForwardPass) -> None:
        """Raise ValueError if the backend's outputs differ from the model's."""
        tolerance = _TOLERANCES[self._precision]
        for inputs in self._examples:
            expected = getattr(self._model, method)(**inputs)
            difference = (_call(converted, inputs) - expected).abs()
            if not (difference <= tolerance * (1 + expected.abs())).all():
                raise ValueError(
                    f"its outputs on an example are off by {difference.max():.2g}; "
                    f"the tolerance is {tolerance}."
                )


def _call(converted: ForwardPass, inputs: Inputs) -> torch.Tensor:
    return torch.from_numpy(converted([tensor.numpy() for tensor in inputs.values()]))


class _MethodAsModule(nn.Module):
    """Wrap a method of a module as a module with positional inputs."""

    def __init__(self, model: nn.Module, method: str, names: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self._method = method
        self._names = list(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self._names, inputs, strict=True))
        output: torch.Tensor = getattr(self.model, self._method)(**named)
        return output


def _copy_without_cache(model: nn.Module) -> nn.Module:
    """Return a copy that shares all weights and keeps no key-value cache."""
    copied: nn.Module = copy_sharing_weights(model)
    for module in copied.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False
    return copied


def _compile_openvino(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], precision: str
) -> ForwardPass:
    import openvino

    model = openvino.convert_model(module.eval(), example_input=inputs)
    options = {
        # By default OpenVINO uses bfloat16 if the processor supports it.
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        # Respect the number of threads that joblib assigns to this process. Without
        # pinning: parallel processes would all be pinned to the same cores.
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    # Infer requests are not thread-safe; creating one takes microseconds.
    return lambda arrays: compiled.create_infer_request().infer(arrays)[0]


def _compile_onnx(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], _precision: str
) -> ForwardPass:
    import onnxruntime

    shapes = (
        tuple(dict.fromkeys(range(x.ndim), torch.export.Dim.DYNAMIC) for x in inputs),
    )
    program = torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # it would be cached for every input shape
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


@dataclass(frozen=True)
class _Runtime:
    """An inference backend.

    Attributes
    ----------
    title : str
        Name for messages.
    packages : tuple of str
        Required packages.
    precisions : tuple of str
        Supported precisions.
    compile : callable
        Takes a module, example inputs and a precision, returns the forward pass.
    """

    title: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    compile: Callable[[nn.Module, tuple[torch.Tensor, ...], str], ForwardPass]

    def load(self) -> None:
        """Import the required packages."""
        with without_telemetry():
            for package in self.packages:
                importlib.import_module(package)


_RUNTIMES = {
    "openvino": _Runtime(
        "OpenVINO", ("openvino",), ("float32", "bfloat16"), _compile_openvino
    ),
    "onnx": _Runtime(
        "ONNX Runtime",
        ("onnx", "onnxscript", "onnxruntime"),
        ("float32",),
        _compile_onnx,
    ),
}


def check(backend: str, device: torch.device, precision: str) -> None:
    """Validate the backend, device and precision before conversion.

    Parameters
    ----------
    backend : str
        Name of the inference backend.
    device : torch.device
        Device for prediction.
    precision : str
        Precision of prediction.

    Raises
    ------
    ValueError
        If the backend is unknown or does not support the precision, or the device is
        not the CPU.
    ImportError
        If the backend is not installed.
    """
    if backend not in _RUNTIMES:
        raise ValueError(
            f"backend must be one of {sorted(_RUNTIMES)} or None. Got {backend!r}."
        )
    runtime = _RUNTIMES[backend]
    if device.type != "cpu":
        raise ValueError(
            f"{runtime.title} is supported only on the CPU. Got device {device}. "
            "Call set_params(device='cpu') first, or predict with PyTorch."
        )
    if precision not in runtime.precisions:
        raise ValueError(
            f"{runtime.title} predicts in {' or '.join(runtime.precisions)}, not in "
            f"{precision}. Change inference_precision; with precision='float64', "
            "predict with PyTorch."
        )
    try:
        with _quiet():
            runtime.load()
    except ImportError as error:
        raise ImportError(
            f"backend={backend!r} needs the package {error.name!r}, which is not "
            f"installed: pip install 'sktransformers-text[{backend}]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of the conversion that users cannot act on."""
    logger = logging.getLogger("torch.onnx")
    with _CONVERSION_LOCK, quiet(), warnings.catch_warnings(action="ignore"):
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
