"""Tools for those who write text estimators of their own."""

from . import estimator_checks

__all__ = ["estimator_checks"]
