"""Exceptions and warnings of the package.

Each exception is a subclass of :class:`SktransformersError` and of a built-in exception
such as ``ValueError`` or ``OSError``, and can be caught as either.
"""

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "DivergenceError",
    "DroppedTextWarning",
    "ExplanationWarning",
    "HeadMismatchError",
    "ModelNotFoundError",
    "ModelFormatError",
    "ModelSaveError",
    "OutOfMemoryError",
    "SktransformersError",
    "TextTypeError",
    "TextValueError",
    "TruncationWarning",
    "UnsupportedVersionError",
]


class SktransformersError(Exception):
    """Base class of the exceptions of this package."""


class TextTypeError(SktransformersError, TypeError):
    """Raised if the type of X is not supported."""


class TextValueError(SktransformersError, ValueError):
    """Raised if X contains something other than texts; the message gives the row."""


class ModelNotFoundError(SktransformersError, OSError):
    """Raised if a model is found neither locally nor on the Hugging Face Hub."""


class ModelFormatError(SktransformersError, ValueError):
    """Raised if the files of a model are missing, damaged or not supported."""


class ModelSaveError(SktransformersError, OSError):
    """Raised if a model cannot be written, or would overwrite other files."""


class HeadMismatchError(SktransformersError, ValueError):
    """Raised if the trained head of a checkpoint does not match y."""


class DivergenceError(SktransformersError, ArithmeticError):
    """Raised if a training loss or the outputs of a model are infinite or NaN."""


class OutOfMemoryError(SktransformersError, MemoryError):
    """Raised if a single sample does not fit into the memory of the device."""


class CheckpointError(SktransformersError, OSError):
    """Raised if a training checkpoint cannot be written, or is of another fit."""


class UnsupportedVersionError(SktransformersError, ImportError):
    """Raised if the installed version of a dependency is not supported."""


class CheckpointWarning(UserWarning):
    """Issued if a damaged training checkpoint is ignored."""


class DroppedTextWarning(UserWarning):
    """Issued if the tokenizer drops all characters of a text or word."""


class TruncationWarning(UserWarning):
    """Issued if texts are longer than ``max_length`` and are truncated."""


class ExplanationWarning(UserWarning):
    """Issued if texts are explained by another method than the most accurate one."""
