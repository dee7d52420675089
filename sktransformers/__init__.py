"""Hugging Face transformers as scikit-learn estimators.

Importing the package imports neither torch nor transformers: each public name is
loaded when it is first used, and the heavy libraries when a model is first fitted.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets, exceptions, inspection, metrics, utils
    from ._classifier import TransformerClassifier
    from ._generator import TransformerGenerator
    from ._regressor import TransformerRegressor
    from ._tagger import TransformerTagger
    from ._versions import show_versions

__version__ = "0.1.0.dev0"

__all__ = [
    "TransformerClassifier",
    "TransformerGenerator",
    "TransformerRegressor",
    "TransformerTagger",
    "__version__",
    "datasets",
    "exceptions",
    "inspection",
    "metrics",
    "show_versions",
    "utils",
]

_HOME_OF = {
    "TransformerClassifier": "._classifier",
    "TransformerGenerator": "._generator",
    "TransformerRegressor": "._regressor",
    "TransformerTagger": "._tagger",
    "show_versions": "._versions",
}
_SUBPACKAGES = {"datasets", "exceptions", "inspection", "metrics", "utils"}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name], __name__), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
