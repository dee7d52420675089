"""Displays of the training history and of predicted entities."""

from ._entities import EntityDisplay
from ._loss_curve import LossCurveDisplay

__all__ = ["EntityDisplay", "LossCurveDisplay"]
