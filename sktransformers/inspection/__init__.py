"""Explanations of predictions, and displays of entities and training histories."""

from ._attention import AttentionDisplay, AttentionMaps, attention_maps
from ._attributions import AttributionDisplay
from ._comparison import compare_models
from ._corpus import explain_corpus
from ._entities import EntityDisplay
from ._explain import explain
from ._explanation import Explanation
from ._fidelity import explanation_fidelity
from ._loss_curve import LossCurveDisplay

__all__ = [
    "AttentionDisplay",
    "AttentionMaps",
    "AttributionDisplay",
    "EntityDisplay",
    "Explanation",
    "LossCurveDisplay",
    "attention_maps",
    "compare_models",
    "explain",
    "explain_corpus",
    "explanation_fidelity",
]
