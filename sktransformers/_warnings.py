"""Warnings that point at the user's line, from any depth of calls."""

import inspect
import os
import warnings
from pathlib import Path

import joblib
import sklearn

# scikit-learn's searches and pipelines call the estimators, and joblib the searches.
_SKIPPED = tuple(
    f"{Path(file).parent}{os.sep}"
    for file in (__file__, sklearn.__file__, joblib.__file__)
)


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning for the innermost line that is not of a library.

    Since Python 3.12, ``warnings.warn`` can skip files, too.

    Parameters
    ----------
    message : str
        The message.
    category : type
        Class of the warning.
    """
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_code.co_filename.startswith(_SKIPPED):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
