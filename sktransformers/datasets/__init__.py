"""Real text that every machine has, for examples, tests and first experiments."""

from ._docstrings import load_docstrings

__all__ = ["load_docstrings"]
