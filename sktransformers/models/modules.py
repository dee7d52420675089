"""Modules that turn ids into one vector, and one set of outputs, for each row.

Given positions, they give those of each position instead: of the words to be tagged,
say. Positions count through the padded rows, one after the other.

Both kinds offer the same: ``embed`` for vectors, a call for outputs, ``encoder`` and
``head`` for their parts, so that no other code has to tell them apart.
"""

from typing import Any

import torch
from torch import nn

from .._compat import model_types, set_activation_checkpointing
from .loading import Checkpoint, load_module

_NEW_HEAD_DROPOUT = 0.1


class PooledModel(nn.Module):
    """An encoder, a pooling over its last hidden states, and a linear head.

    Parameters
    ----------
    encoder : nn.Module
        A model with a ``last_hidden_state``.
    n_outputs : int
        Outputs of the head.
    pooling : {"mean", "cls", "last", "positions"}
        Mean over the tokens, first token, last token, or each of given positions.
    """

    def __init__(self, encoder: Any, n_outputs: int, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(_NEW_HEAD_DROPOUT)
        width = encoder.config.get_text_config().hidden_size
        self.head = nn.Linear(width, n_outputs, dtype=encoder.dtype)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def embed(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return one vector a row, of shape (n_rows, hidden_size), or a position."""
        hidden = self.encoder(**inputs).last_hidden_state
        if positions is not None:
            return hidden.flatten(0, 1)[positions]
        return pool(hidden, inputs["attention_mask"], self.pooling)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs, of shape (n_rows, n_outputs)."""
        embeddings = self.dropout(self.embed(**inputs))
        return self.head(embeddings.to(self.head.weight.dtype))


class ArchitectureModel(nn.Module):
    """A model with the classification head of its own architecture.

    Parameters
    ----------
    model : PreTrainedModel
        As ``AutoModelForSequenceClassification`` gives it, or its like for tokens.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.pooling = "last" if is_decoder(model.config) else "mean"

    @property
    def encoder(self) -> Any:
        """The model below the head."""
        return self.model.base_model

    @property
    def head(self) -> nn.Module:
        """Whatever the architecture adds to its base model."""
        below = self.model.base_model
        return nn.ModuleList(m for m in self.model.children() if m is not below)

    def embed(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return one vector a row, of shape (n_rows, hidden_size), or a position."""
        hidden = self.encoder(**inputs).last_hidden_state
        if positions is not None:
            return hidden.flatten(0, 1)[positions]
        return pool(hidden, inputs["attention_mask"], self.pooling)

    def name_labels(self, names: list[str]) -> None:
        """Write the outputs' labels into the configuration, for whoever loads it."""
        self.model.config.id2label = dict(enumerate(names))
        self.model.config.label2id = {name: i for i, name in enumerate(names)}

    def forward(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the head's outputs, of shape (n_rows, n_outputs)."""
        logits: torch.Tensor = self.model(**inputs).logits
        return logits if positions is None else logits.flatten(0, 1)[positions]


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce the hidden states of each row to one vector.

    Parameters
    ----------
    hidden : Tensor of shape (n_rows, n_tokens, hidden_size)
        Last hidden states.
    mask : Tensor of shape (n_rows, n_tokens)
        1 for tokens, 0 for padding on the right.
    pooling : {"mean", "cls", "last"}
        What to take.

    Returns
    -------
    Tensor of shape (n_rows, hidden_size)
        The vectors.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    if hidden.dtype != torch.float64:
        hidden = hidden.float()  # a sum in lower precision would lose much
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def is_decoder(config: Any) -> bool:
    """Whether a model reads from left to right, as GPT-2 does."""
    # BERT's kind can be used for both, and was trained to fill in masked words.
    kind = config.model_type
    return kind in model_types("CAUSAL_LM") and kind not in model_types("MASKED_LM")


def choose_pooling(checkpoint: Checkpoint, pooling: str) -> str:
    """Resolve ``pooling="auto"``.

    A trained classification head is kept; a sentence encoder is pooled as it was
    trained; else the mean of the tokens is taken, or the last token of a decoder.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    pooling : {"auto", "mean", "cls", "last", "head"}
        The user's choice.

    Returns
    -------
    {"mean", "cls", "last", "head"}
        What to build.
    """
    if pooling != "auto":
        return pooling
    if checkpoint.has_trained_head("SequenceClassification"):
        return "head"
    if checkpoint.pooling is not None:
        return checkpoint.pooling
    if checkpoint.config.is_encoder_decoder:
        return "head"
    return "last" if is_decoder(checkpoint.config) else "mean"


def choose_tagging(checkpoint: Checkpoint, labels: list[str]) -> str:
    """Return "head" where a trained head gives these labels, else "positions"."""
    trained = checkpoint.config.id2label or {}
    is_same = sorted(map(str, trained.values())) == sorted(labels)
    is_trained = checkpoint.has_trained_head("TokenClassification")
    return "head" if is_trained and is_same else "positions"


def build(
    checkpoint: Checkpoint,
    *,
    n_outputs: int,
    pooling: str,
    dtype: torch.dtype,
    task: str = "SequenceClassification",
) -> PooledModel | ArchitectureModel:
    """Read a checkpoint and put the asked-for head on it.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    n_outputs : int
        Outputs of the head.
    pooling : {"auto", "mean", "cls", "last", "head", "positions"}
        What the head reads.
    dtype : torch.dtype
        Format of the weights.
    task : {"SequenceClassification", "TokenClassification"}, optional
        What the head of an architecture is for.

    Returns
    -------
    PooledModel or ArchitectureModel
        In evaluation mode.
    """
    pooling = choose_pooling(checkpoint, pooling)
    module = load_module(
        checkpoint, n_outputs=n_outputs, pooling=pooling, task=task, dtype=dtype
    )
    if getattr(module.config, "use_cache", False):
        module.config.use_cache = False  # for a next token, which nobody asks for
    if pooling == "head":
        return ArchitectureModel(module).eval()
    if module.config.is_encoder_decoder:
        module = module.get_encoder()
    return PooledModel(module, n_outputs, pooling).eval()


def set_trainable(model: PooledModel | ArchitectureModel, trainable: str | int) -> None:
    """Freeze what does not train.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Changed in place.
    trainable : "all", "head" or int
        An int is the number of top layers that train with the head.
    """
    model.requires_grad_(True)
    if trainable == "all":
        return
    n_top = 0 if trainable == "head" else int(trainable)
    stack = model.encoder
    if stack.config.is_encoder_decoder and hasattr(stack, "decoder"):
        stack = stack.decoder
    layers = layers_of(stack)
    if n_top > len(layers):
        raise ValueError(
            f"trainable={n_top}, but the model has {len(layers)} layers. Pass "
            "trainable='all' to train everything."
        )
    if n_top == 0 or stack is not model.encoder:
        model.encoder.requires_grad_(False)
    if n_top:
        stack.requires_grad_(True)
        first = next(layers[-n_top].parameters())
        for parameter in stack.parameters():  # in the order of the forward pass
            if parameter is first:
                break
            parameter.requires_grad_(False)
    model.head.requires_grad_(True)


def set_checkpointing(model: PooledModel | ArchitectureModel, *, active: bool) -> None:
    """Recompute activations in the backward pass, or keep them again.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Changed in place.
    active : bool
        Whether to recompute.
    """
    set_activation_checkpointing(model.encoder, active=active)


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """Return the encoder's stack of layers: the list that has most of its weights."""
    lists = [m for m in encoder.modules() if isinstance(m, nn.ModuleList)]
    return max(
        lists,
        key=lambda layers: sum(p.numel() for p in layers.parameters()),
        default=nn.ModuleList(),
    )


def order_outputs(model: ArchitectureModel, order: list[int]) -> None:
    """Reorder a trained head's outputs: new output ``i`` is old output ``order[i]``.

    Parameters
    ----------
    model : ArchitectureModel
        Changed in place.
    order : list of int
        A permutation.
    """
    linear = [m for m in model.head.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        linear.weight.copy_(linear.weight[order].clone())
        if linear.bias is not None:
            linear.bias.copy_(linear.bias[order].clone())
