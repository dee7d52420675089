"""Models that write, as the training loop calls them."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .._compat import with_submodule


class LanguageModel(nn.Module):
    """A model that writes: outputs are the scores of the next token at positions.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder, with the head of its architecture.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> Any:
        """The model below the output layer."""
        return self.model.base_model

    @property
    def head(self) -> nn.Module:
        """What is new and learns faster than the rest: nothing."""
        return nn.ModuleList()

    def forward(self, positions: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the scores, of shape (n_positions, n_tokens_in_vocabulary).

        The output layer is the largest of a small model, so that it is given the
        positions alone. What the architecture does before and after it remains.
        """
        model = _read_at(self.model, positions)
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
        return logits if logits.ndim == 2 else logits.flatten(0, 1)[positions]

    def losses(self, targets: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return how unexpected the targets were, of shape (n_positions,)."""
        scores = self(**inputs)
        if scores.dtype != torch.float64:
            scores = scores.float()
        return functional.cross_entropy(scores, targets, reduction="none")


def _read_at(model: Any, positions: torch.Tensor) -> Any:
    """Return a twin whose output layer sees the positions alone, if it has such a one.

    The model itself is left as it is: it may be writing in another thread.
    """
    output = model.get_output_embeddings()
    for name, child in model.named_children():
        if child is output:
            return with_submodule(model, name, _AtPositions(output, positions))
    return model


class _AtPositions(nn.Module):
    """An output layer that is given a part of the hidden states."""

    def __init__(self, layer: nn.Module, positions: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.positions = positions

    @property
    def weight(self) -> Any:
        """The layer's own: some models look at its format."""
        return self.layer.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the scores, of shape (n_positions, n_tokens_in_vocabulary)."""
        scores: torch.Tensor = self.layer(hidden.flatten(0, 1)[self.positions])
        return scores
