"""Fitted estimators in, pictures out."""

from ._entities import EntityDisplay
from ._loss_curve import LossCurveDisplay

__all__ = ["EntityDisplay", "LossCurveDisplay"]
