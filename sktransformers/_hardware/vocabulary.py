"""Restrict training to the embeddings of tokens that occur in the training data.

Most parameters of a small model are token embeddings, and most tokens do not occur in
the training data. The gradients of their embeddings are zero, but AdamW would still
process all of them in every step. Weight decay, which would change them too, is not
applied to them here: they keep their pre-trained values.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .._models.embeddings import embeddings_of


class CompactEmbedding(nn.Module):
    """An embedding layer of which only the rows of some token ids are trained.

    Token ids are not renumbered, as models use them for more than embeddings. In
    training mode only the trained ids are supported, in evaluation mode all ids.

    Parameters
    ----------
    full : nn.Embedding
        Embedding layer of the whole vocabulary. Frozen in place.
    ids : Tensor of shape (n_trained,)
        Token ids whose embeddings are trained, ascending.
    """

    def __init__(self, full: nn.Embedding, ids: torch.Tensor) -> None:
        super().__init__()
        self.full = full.requires_grad_(False)
        self.num_embeddings = full.num_embeddings
        self.weight = nn.Parameter(full.weight.detach()[ids])
        rows = torch.full((full.num_embeddings,), -1, device=ids.device)
        rows[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("ids", ids)
        self.register_buffer("rows", rows)
        self.padding_row: int | None = None
        if full.padding_idx is not None:  # the padding embedding gets no gradient
            row = int(rows[full.padding_idx])
            self.padding_row = row if row >= 0 else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, of shape (*ids.shape, width)."""
        rows = self.rows[ids]
        if self.training:
            return functional.embedding(rows, self.weight, self.padding_row)
        trained = functional.embedding(rows.clamp_min(0), self.weight)
        return torch.where((rows >= 0).unsqueeze(-1), trained, self.full(ids))

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """Return the trained rows of values for all token ids."""
        return values[self.ids]

    def put(
        self, values: torch.Tensor, others: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return values for all token ids: the trained rows, and zeros or others."""
        whole = torch.zeros_like(self.full.weight) if others is None else others.clone()
        whole[self.ids] = values
        return whole

    def expand(self) -> nn.Embedding:
        """Return the full embedding layer, updated with the trained rows."""
        with torch.no_grad():
            self.full.weight[self.ids] = self.weight
        return self.full.requires_grad_(True)


def compact_vocabulary(model: nn.Module, encoder: Any, ids: np.ndarray) -> None:
    """Train only the embeddings of the given token ids.

    Parameters
    ----------
    model : nn.Module
        Whole model, modified in place. Left unchanged if its token embeddings are
        frozen, tied to another layer, or not a plain :class:`torch.nn.Embedding`.
    encoder : PreTrainedModel
        Encoder of the model, which has the token embeddings.
    ids : ndarray of int
        Token ids of the training data, with or without duplicates.
    """
    full = embeddings_of(encoder)
    if type(full) is not nn.Embedding or not full.weight.requires_grad:
        return
    if sum(_has_parameter(module, full.weight) for module in model.modules()) > 1:
        return  # tied to an output layer
    used = np.union1d(ids, [] if full.padding_idx is None else [full.padding_idx])
    trained = torch.from_numpy(used.astype(np.int64)).to(full.weight.device)
    _replace(model, full, CompactEmbedding(full, trained))


def compact_embeddings(model: nn.Module) -> dict[str, CompactEmbedding]:
    """Return the compact embeddings of a model by the names of their parameters."""
    modules = model.named_modules()
    return {f"{n}.weight": m for n, m in modules if isinstance(m, CompactEmbedding)}


def expand_vocabulary(model: nn.Module) -> None:
    """Undo :func:`compact_vocabulary`, keeping the trained embeddings.

    Parameters
    ----------
    model : nn.Module
        Modified in place.
    """
    for module in list(model.modules()):
        if isinstance(module, CompactEmbedding):
            _replace(model, module, module.expand())


def _has_parameter(module: nn.Module, parameter: nn.Parameter) -> bool:
    return any(own is parameter for own in module.parameters(recurse=False))


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module wherever it occurs in the model."""
    for path, child in list(model.named_modules(remove_duplicate=False)):
        if child is old:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, new)
