"""How good predictions are that scikit-learn's metrics do not take."""

from ._entities import (
    entity_f1,
    entity_f1_score,
    entity_precision,
    entity_precision_score,
    entity_recall,
    entity_recall_score,
)
from ._report import entity_classification_report

__all__ = [
    "entity_classification_report",
    "entity_f1",
    "entity_f1_score",
    "entity_precision",
    "entity_precision_score",
    "entity_recall",
    "entity_recall_score",
]
