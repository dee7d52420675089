"""Text datasets for examples and tests, read from the installed packages."""

from ._docstrings import load_docstrings

__all__ = ["load_docstrings"]
