"""Forward passes by runtimes that are made for CPUs, in place of PyTorch's.

Knows nothing of text, labels or scikit-learn. A model and examples of its inputs come
in; what comes out is called as the model is. Nothing is written to disk.
"""

import contextlib
import copy
import importlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .._compat import without_telemetry
from .inference import Inputs

Pass = Callable[[list[np.ndarray]], np.ndarray]

# Absolute and relative; a runtime that is further off has not understood the model.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.2}

_TALKATIVE = ("torch.onnx", "transformers.modeling_utils")

# What a conversion silences is global, so threads take turns.
_CONVERTING = threading.RLock()


class AcceleratedModel:
    """Stands for a model in prediction; another runtime computes its forward passes.

    The model's ``forward`` is converted here, its ``embed`` when it is first called. A
    copy or pickle holds the model alone, and converts it again when it is called. Calls
    from several threads are safe.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the CPU; with ``embed``, as all of ours have.
    backend : {"openvino", "onnx"}
        The runtime; one that passes :func:`check`.
    precision : str
        Number format of the matrix products.
    examples : list of dict of str to Tensor
        Inputs on which the runtime must agree with the model. The first ones are also
        what the model is traced with: several rows of several tokens.

    Raises
    ------
    RuntimeError
        The runtime cannot take the model, or its outputs are not the model's.
    """

    def __init__(
        self, model: Any, backend: str, precision: str, examples: list[Inputs]
    ) -> None:
        self._model = model
        self._backend = backend
        self._precision = precision
        self._examples = examples
        self._passes: dict[str, Pass] = {}
        self._converted("forward")

    def serves(self, model: nn.Module, device: torch.device, precision: str) -> bool:
        """Whether it stands for this model there, in that precision."""
        is_same = model is self._model and precision == self._precision
        return is_same and device.type == "cpu"

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs, of shape (n_rows, n_outputs)."""
        return _call(self._converted("forward"), inputs)

    def embed(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return one vector a row, of shape (n_rows, hidden_size)."""
        return _call(self._converted("embed"), inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds in this process alone."""
        return {**self.__dict__, "_passes": {}}

    def _converted(self, method: str) -> Pass:
        if method not in self._passes:
            with _CONVERTING:
                if method not in self._passes:
                    self._passes[method] = self._convert(method)
        return self._passes[method]

    def _convert(self, method: str) -> Pass:
        runtime = _RUNTIMES[self._backend]
        # What the caller has switched on for torch is not to become part of the result.
        with (
            _quiet(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            runtime.load()
            try:
                module = _Method(_twin(self._model), method, self._examples[0])
                inputs = tuple(self._examples[0].values())
                converted = runtime.compile(module, inputs, self._precision)
                self._compare(method, converted)
            except Exception as error:  # the libraries raise errors of many kinds
                reason = str(error).strip().partition("\n")[0].rstrip(".")
                raise RuntimeError(
                    f"{runtime.title} cannot stand in for this model: {reason}. "
                    "Predict without it, or try the other backend."
                ) from error
        return converted

    def _compare(self, method: str, converted: Pass) -> None:
        """Raise where the runtime does not compute what the model does."""
        tolerance = _TOLERANCES[self._precision]
        for inputs in self._examples:
            expected = getattr(self._model, method)(**inputs)
            difference = (_call(converted, inputs) - expected).abs()
            if not (difference <= tolerance * (1 + expected.abs())).all():
                raise ValueError(
                    f"on an example its outputs are off by {difference.max():.2g}; "
                    f"{tolerance} is allowed."
                )


def _call(converted: Pass, inputs: Inputs) -> torch.Tensor:
    return torch.from_numpy(converted([tensor.numpy() for tensor in inputs.values()]))


class _Method(nn.Module):
    """A method of a module as a module of its own, with positional inputs."""

    def __init__(self, model: nn.Module, method: str, names: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self._method = method
        self._names = list(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self._names, inputs, strict=True))
        output: torch.Tensor = getattr(self.model, self._method)(**named)
        return output


def _twin(model: nn.Module) -> nn.Module:
    """Return a copy with the same weights; one that keeps nothing for a next token."""
    shared = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    for module in twin.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False
    return twin


def _compile_openvino(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], precision: str
) -> Pass:
    import openvino

    model = openvino.convert_model(module.eval(), example_input=inputs)
    options = {
        # Left alone it would use bfloat16 wherever the processor can.
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        # The share of the cores that joblib and others give to this process, and not
        # always the first ones, which all processes would crowd on.
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    # A request is made in microseconds, and cannot be shared by threads.
    return lambda arrays: compiled.create_infer_request().infer(arrays)[0]


def _compile_onnx(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], _precision: str
) -> Pass:
    import onnxruntime

    shapes = (
        tuple(dict.fromkeys(range(x.ndim), torch.export.Dim.DYNAMIC) for x in inputs),
    )
    program = torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # it would be kept for every shape
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


@dataclass(frozen=True)
class _Runtime:
    """A library that computes forward passes.

    Attributes
    ----------
    title : str
        Its name.
    packages : tuple of str
        What must be installed.
    precisions : tuple of str
        What it can compute in.
    compile : callable
        From a module, example inputs and a precision to a pass.
    """

    title: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    compile: Callable[[nn.Module, tuple[torch.Tensor, ...], str], Pass]

    def load(self) -> None:
        """Import what is needed."""
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
    """Refuse what no runtime can do, before anything is converted.

    Parameters
    ----------
    backend : str
        Name of the runtime.
    device : torch.device
        Where the model is to predict.
    precision : str
        In which format.

    Raises
    ------
    ValueError
        There is no such runtime, it cannot compute in this precision, or the device is
        not the CPU.
    ImportError
        The runtime is not installed.
    """
    if backend not in _RUNTIMES:
        raise ValueError(
            f"backend must be one of {sorted(_RUNTIMES)} or None. Got {backend!r}."
        )
    runtime = _RUNTIMES[backend]
    if device.type != "cpu":
        raise ValueError(
            f"{runtime.title} predicts on the CPU here, but the device is {device}. "
            "Call set_params(device='cpu') before, or predict with torch."
        )
    if precision not in runtime.precisions:
        raise ValueError(
            f"{runtime.title} predicts in {' or '.join(runtime.precisions)}, not in "
            f"{precision}. Change inference_precision; with precision='float64', "
            "predict with torch."
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
    """Keep from the user what only the libraries' own developers can act on."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    with _CONVERTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
