"""Fitted estimators in, pictures out."""

from ._loss_curve import LossCurveDisplay

__all__ = ["LossCurveDisplay"]
