"""Hugging Face transformers as scikit-learn estimators.

Importing the package imports neither torch nor transformers. Public names are imported
lazily on first access, and torch and transformers when a model is first loaded.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import datasets, exceptions, inspection, metrics
    from ._estimators.classifier import TransformerClassifier
    from ._estimators.generator import TransformerGenerator
    from ._estimators.regressor import TransformerRegressor
    from ._estimators.tagger import TransformerTagger
    from ._show_versions import show_versions

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
]

_MODULE_OF = {
    "TransformerClassifier": "._estimators.classifier",
    "TransformerGenerator": "._estimators.generator",
    "TransformerRegressor": "._estimators.regressor",
    "TransformerTagger": "._estimators.tagger",
    "show_versions": "._show_versions",
}
_SUBPACKAGES = {"datasets", "exceptions", "inspection", "metrics"}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
