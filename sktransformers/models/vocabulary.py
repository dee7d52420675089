"""A fit trains the embeddings of the tokens that occur in it, and no others.

Most of a small model is its vocabulary, and most of the vocabulary occurs in no
training text. Gradients of those rows are zero and AdamW leaves them where they are,
at the price of a pass over all of them in every step. Weight decay alone would move
them; they keep their pre-trained values here.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class CompactEmbedding(nn.Module):
    """An embedding whose rows for some ids are trained, and the others fixed.

    Ids stay what they are, for models read more than embeddings off them. In training
    mode there may be no other ids; in evaluation mode every id will do.

    Parameters
    ----------
    full : nn.Embedding
        The whole table; frozen.
    ids : Tensor of shape (n_trained,)
        Whose rows are trained, ascending.
    """

    def __init__(self, full: nn.Embedding, ids: torch.Tensor) -> None:
        super().__init__()
        self.full = full.requires_grad_(False)
        self.weight = nn.Parameter(full.weight.detach()[ids])
        rows = torch.full((full.num_embeddings,), -1, device=ids.device)
        rows[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("ids", ids)
        self.register_buffer("rows", rows)
        self.padding_row: int | None = None
        if full.padding_idx is not None:  # its row gets no gradient
            row = int(rows[full.padding_idx])
            self.padding_row = row if row >= 0 else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, of shape (*ids.shape, width)."""
        rows = self.rows[ids]
        if self.training:
            return functional.embedding(rows, self.weight, self.padding_row)
        trained = functional.embedding(rows.clamp_min(0), self.weight)
        return torch.where((rows >= 0).unsqueeze(-1), trained, self.full(ids))

    def expand(self) -> nn.Embedding:
        """Return the whole table with the trained rows in it."""
        with torch.no_grad():
            self.full.weight[self.ids] = self.weight
        return self.full.requires_grad_(True)


def compact_vocabulary(model: nn.Module, encoder: Any, ids: np.ndarray) -> None:
    """Let the encoder train the embeddings of the given ids alone.

    Parameters
    ----------
    model : nn.Module
        The whole model, changed in place; left as it is where its token embeddings
        are frozen, used for something else too, or of a kind of their own.
    encoder : PreTrainedModel
        The part of it that has the embeddings.
    ids : ndarray of int
        Ids that occur in the training, repeated or not.
    """
    full = encoder.get_input_embeddings()
    if type(full) is not nn.Embedding or not full.weight.requires_grad:
        return
    if sum(_owns(module, full.weight) for module in model.modules()) > 1:
        return  # an output layer shares them
    used = np.union1d(ids, [] if full.padding_idx is None else [full.padding_idx])
    trained = torch.from_numpy(used.astype(np.int64)).to(full.weight.device)
    _replace(model, full, CompactEmbedding(full, trained))


def expand_vocabulary(model: nn.Module) -> None:
    """Undo :func:`compact_vocabulary`; what was trained stays.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    """
    for module in list(model.modules()):
        if isinstance(module, CompactEmbedding):
            _replace(model, module, module.expand())


def _owns(module: nn.Module, parameter: nn.Parameter) -> bool:
    return any(own is parameter for own in module.parameters(recurse=False))


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, wherever that is held."""
    for path, child in list(model.named_modules(remove_duplicate=False)):
        if child is old:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, new)
