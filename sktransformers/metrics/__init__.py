"""Metrics and scorers for predicted entities and generated texts."""

from ._entities import (
    entity_classification_report,
    entity_f1,
    entity_f1_score,
    entity_precision,
    entity_precision_score,
    entity_recall,
    entity_recall_score,
)
from ._texts import bleu, bleu_score, chrf, chrf_score, rouge_l, rouge_l_score

__all__ = [
    "bleu",
    "bleu_score",
    "chrf",
    "chrf_score",
    "entity_classification_report",
    "entity_f1",
    "entity_f1_score",
    "entity_precision",
    "entity_precision_score",
    "entity_recall",
    "entity_recall_score",
    "rouge_l",
    "rouge_l_score",
]
