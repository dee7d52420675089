"""Errors and warnings of the package; each error is also a builtin one.

Catching :class:`SktransformersError` catches everything that is raised here on
purpose; catching the builtin (``ValueError``, ``OSError`` ...) works as usual.
"""

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "DivergenceError",
    "HeadMismatchError",
    "ModelNotFoundError",
    "ModelFormatError",
    "ModelSaveError",
    "OutOfMemoryError",
    "SktransformersError",
    "TextTypeError",
    "TextValueError",
    "TruncationWarning",
    "UncachedGenerationWarning",
    "UnsupportedVersionError",
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


class ModelSaveError(SktransformersError, OSError):
    """A model could not be written, or there is something that it must not replace."""


class HeadMismatchError(SktransformersError, ValueError):
    """A checkpoint's trained head has another number of labels than y."""


class DivergenceError(SktransformersError, ArithmeticError):
    """The training loss became infinite or not a number."""


class OutOfMemoryError(SktransformersError, MemoryError):
    """Not even one row fits into the memory of the device."""


class CheckpointError(SktransformersError, OSError):
    """A checkpoint cannot be written, or belongs to another fit."""


class UnsupportedVersionError(SktransformersError, ImportError):
    """An installed library lacks something that its supported versions have."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was left out."""


class TruncationWarning(UserWarning):
    """Some texts were longer than ``max_length`` and were cut."""


class UncachedGenerationWarning(UserWarning):
    """Text is generated without a key-value cache that is known here: more slowly."""
