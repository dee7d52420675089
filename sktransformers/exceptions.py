"""Errors and warnings of the package; each error is also a builtin one.

Catching :class:`SktransformersError` catches everything that is raised here on
purpose; catching the builtin (``ValueError``, ``OSError`` ...) works as usual.
"""

__all__ = [
    "DivergenceError",
    "HeadMismatchError",
    "ModelNotFoundError",
    "ModelFormatError",
    "SktransformersError",
    "TextTypeError",
    "TextValueError",
    "TruncationWarning",
]


class SktransformersError(Exception):
    """Base class of the errors raised by this package."""


class TextTypeError(SktransformersError, TypeError):
    """X is a kind of container that cannot hold texts."""


class TextValueError(SktransformersError, ValueError):
    """X holds something that is not a text; the message names the row."""


class ModelNotFoundError(SktransformersError, OSError):
    """A model is neither a directory, nor installed, nor cached, nor on the hub."""


class ModelFormatError(SktransformersError, ValueError):
    """A model directory lacks its weights, configuration or tokenizer."""


class HeadMismatchError(SktransformersError, ValueError):
    """A checkpoint's trained head has another number of labels than y."""


class DivergenceError(SktransformersError, ArithmeticError):
    """The training loss became infinite or not a number."""


class TruncationWarning(UserWarning):
    """Some texts were longer than ``max_length`` and were cut."""
