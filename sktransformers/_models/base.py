"""Protocol of the models: a pre-trained module with a head, of any architecture.

:class:`~.heads.PooledModel`, :class:`~.heads.ArchitectureModel` and
:class:`~.language_model.LanguageModel` implement it as :class:`torch.nn.Module`. Other
code uses the protocol only and never checks their types.
"""

from typing import Any, Protocol

import torch
from torch import nn


class TextModel(Protocol):
    """A pre-trained module with a head that maps its hidden states to outputs.

    Attributes
    ----------
    kind : {"pooled", "architecture", "language"}
        Identifier of the class in saved files.
    has_new_head : bool
        Whether the head is a new linear layer, to be initialized on the frozen
        embeddings, rather than part of the architecture.
    predicts_tokens : bool
        Whether the outputs are logits over the vocabulary.
    pooling : str or None
        How to pool the hidden states of a sequence into one vector.
    """

    kind: str
    has_new_head: bool
    predicts_tokens: bool
    pooling: str | None

    @property
    def encoder(self) -> Any:
        """The pre-trained module below the head."""

    @property
    def head(self) -> nn.Module:
        """The layers above the encoder."""

    @property
    def width(self) -> int:
        """Number of values in an embedding."""

    @property
    def module(self) -> Any:
        """The transformers model that is saved as the checkpoint."""

    def name_labels(self, names: list[str]) -> None:
        """Set the label names in the configuration, if it has labels."""

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Run the forward pass and return the outputs."""
