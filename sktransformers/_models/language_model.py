"""Language models with the interface of the training loop."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .._compat import with_submodule


class LanguageModel(nn.Module):
    """A language model that returns next-token logits at the given positions.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder model with its language modelling head.
    """

    kind = "language"
    has_new_head = False
    predicts_tokens = True
    pooling = None

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def module(self) -> Any:
        """The transformers model that is saved as the checkpoint."""
        return self.model

    def name_labels(self, names: list[str]) -> None:
        """Do nothing, as a language model has no labels."""

    @property
    def encoder(self) -> Any:
        """The model below the output layer."""
        return self.model.base_model

    @property
    def head(self) -> nn.Module:
        """An empty module list, as there is no newly initialized head."""
        return nn.ModuleList()

    def forward(self, positions: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits, of shape (n_positions, n_tokens_in_vocabulary).

        The output layer is applied to the hidden states at ``positions`` only, as it is
        the most expensive layer of a small model.
        """
        model = _with_positions(self.model, positions)
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
        return logits if logits.ndim == 2 else logits.flatten(0, 1)[positions]

    def losses(self, targets: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of each target, of shape (n_positions,)."""
        logits = self(**inputs)
        if logits.dtype != torch.float64:
            logits = logits.float()
        return functional.cross_entropy(logits, targets, reduction="none")


def _with_positions(model: Any, positions: torch.Tensor) -> Any:
    """Return a shallow copy with the output layer restricted to the positions.

    The model is not modified, as another thread may be generating with it. Return it
    unchanged if the output layer is not one of its direct children.
    """
    output = model.get_output_embeddings()
    for name, child in model.named_children():
        if child is output:
            return with_submodule(model, name, _LayerAtPositions(output, positions))
    return model


class _LayerAtPositions(nn.Module):
    """An output layer applied to the hidden states at some positions."""

    def __init__(self, layer: nn.Module, positions: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.positions = positions

    @property
    def weight(self) -> Any:
        """Weight of the wrapped layer, as some models check its dtype."""
        return self.layer.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits, of shape (n_positions, n_tokens_in_vocabulary)."""
        logits: torch.Tensor = self.layer(hidden.flatten(0, 1)[self.positions])
        return logits
