"""What a forward pass leaves behind in a model, and how to undo it.

Most models compute and forget. Some switch their kind of attention for good once a
short text comes (BigBird), derive settings from the first text (Reformer) or keep
frequencies for the longest one so far (dynamic rotary embeddings), which would make
outputs depend on earlier texts.
"""

from operator import is_
from typing import Any

from torch import nn

from .._compat import attribute_dicts


class ForwardState:
    """Attributes, buffers and submodules of a model as they are now.

    As a context manager, it undoes the changes made inside.

    Parameters
    ----------
    model : nn.Module
        The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._saved: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (attributes, dict(attributes)) for attributes in attribute_dicts(model)
        ]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Undo all changes since; tensors written to in place stay as they are."""
        for attributes, saved in self._saved:
            is_same = len(attributes) == len(saved)
            if not (is_same and all(map(is_, attributes.values(), saved.values()))):
                attributes.clear()
                attributes.update(saved)
