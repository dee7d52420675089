"""Models that write, as the training loop calls them."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


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

        def keep_positions(_layer: nn.Module, args: tuple[torch.Tensor]) -> Any:
            return (args[0].flatten(0, 1)[positions],)

        output = self.model.get_output_embeddings()
        handle = output.register_forward_pre_hook(keep_positions)
        try:
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
        finally:
            handle.remove()
        return logits

    def losses(self, targets: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Return how unexpected the targets were, of shape (n_positions,)."""
        scores = self(**inputs).float()
        return functional.cross_entropy(scores, targets, reduction="none")
