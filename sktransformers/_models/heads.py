"""Encoder models with a head: one embedding and one vector of outputs per sequence.

With ``positions``, e.g. for token classification, there is one per position instead.
Positions are flat indices into the padded batch.

Both classes implement the same interface: ``embed`` for embeddings, a call for outputs,
and ``encoder`` and ``head`` for their parts.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel

from .._compat import (
    forward_arguments,
    model_class,
    model_types,
    set_activation_checkpointing,
    with_submodule,
)
from .._text.tokenization import SpecialTokens
from ..exceptions import ModelFormatError
from .forward_state import ForwardState
from .loading import PretrainedCheckpoint, load_module

_NEW_HEAD_DROPOUT = 0.1


class PooledModel(nn.Module):
    """An encoder, a pooling over its last hidden states, and a linear head.

    Parameters
    ----------
    encoder : nn.Module
        Model whose output has a ``last_hidden_state``.
    n_outputs : int
        Number of outputs of the head.
    pooling : {"mean", "cls", "last", "positions"}
        Mean of the tokens, first token, last token, or each of the given positions.
    """

    kind = "pooled"
    has_new_head = True
    predicts_tokens = False

    def __init__(self, encoder: Any, n_outputs: int, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(_NEW_HEAD_DROPOUT)
        width = _find_width(self._hidden_states, encoder)
        self.head = nn.Linear(width, n_outputs, dtype=encoder.dtype)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def module(self) -> Any:
        """The transformers model that is saved as the checkpoint: the encoder."""
        return self.encoder

    @property
    def width(self) -> int:
        """Number of values in an embedding."""
        return int(self.head.in_features)

    def name_labels(self, names: list[str]) -> None:
        """Do nothing, as the configuration of an encoder has no labels."""

    def embed(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return one embedding per row or position, of shape (n_rows, hidden_size)."""
        hidden = self._hidden_states(**inputs)
        if positions is not None:
            return hidden.flatten(0, 1)[positions]
        return pool(hidden, inputs["attention_mask"], self.pooling)

    def _hidden_states(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states."""
        hidden: torch.Tensor = self.encoder(**inputs).last_hidden_state
        return hidden

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the head, of shape (n_rows, n_outputs)."""
        embeddings = self.dropout(self.embed(**inputs))
        return self.head(embeddings.to(self.head.weight.dtype))


class ArchitectureModel(nn.Module):
    """A model with the classification head of its own architecture.

    Parameters
    ----------
    model : PreTrainedModel
        Model loaded by ``AutoModelForSequenceClassification`` or
        ``AutoModelForTokenClassification``.
    """

    kind = "architecture"
    has_new_head = False
    predicts_tokens = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.pooling = "last" if is_decoder(model.config) else "mean"

    @property
    def module(self) -> Any:
        """The transformers model that is saved as the checkpoint."""
        return self.model

    @property
    def encoder(self) -> Any:
        """The model below the head."""
        return self.model.base_model

    @property
    def head(self) -> nn.Module:
        """The layers that the architecture adds to its base model."""
        below = self.model.base_model
        return nn.ModuleList(m for m in self.model.children() if m is not below)

    @functools.cached_property
    def width(self) -> int:
        """Number of values in an embedding."""
        return _find_width(self._hidden_states, self.model)

    def _hidden_states(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states below the head."""
        is_plain = "input_ids" in forward_arguments(self.encoder)
        if is_plain and not self.model.config.is_encoder_decoder:
            return self.encoder(**inputs).last_hidden_state
        # Only the forward pass around it knows the inputs, such as the decoder's.
        below = _BelowHead(self.encoder)
        try:
            with_submodule(self.model, self.model.base_model_prefix, below)(**inputs)
        except below.Output as output:
            return output.args[0].last_hidden_state
        raise AssertionError("the head does not use the model below it")

    def embed(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return one embedding per row or position, of shape (n_rows, hidden_size)."""
        hidden = self._hidden_states(**inputs)
        if positions is not None:
            return hidden.flatten(0, 1)[positions]
        return pool(hidden, inputs["attention_mask"], self.pooling)

    def name_labels(self, names: list[str]) -> None:
        """Set ``id2label`` and ``label2id`` in the configuration."""
        self.model.config.id2label = dict(enumerate(names))
        self.model.config.label2id = {name: i for i, name in enumerate(names)}

    def forward(
        self, positions: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the outputs of the head, of shape (n_rows, n_outputs)."""
        logits: torch.Tensor = self.model(**inputs).logits
        return logits if positions is None else logits.flatten(0, 1)[positions]


def _find_width(hidden_states: Callable[..., torch.Tensor], module: Any) -> int:
    """Return the width of the last hidden states, as a forward pass gives it.

    It is not always ``hidden_size``: OPT projects its last states, and Reformer has two
    streams of them.
    """
    ids = torch.zeros((1, 16), dtype=torch.long, device=module.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        with ForwardState(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
            return int(hidden_states(**inputs).shape[-1])
    except Exception as error:  # of any type
        raise ModelFormatError(
            f"{type(module).__name__} cannot be given texts alone: {error} Choose a "
            "model whose only inputs are token ids."
        ) from error


class _BelowHead(nn.Module):
    """Raise the output of a module, to leave the forward pass of the one around it."""

    class Output(Exception):  # noqa: N818, not an error
        """Holds the output."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise self.Output(self.module(*args, **kwargs))


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool the hidden states of each sequence into one vector.

    Parameters
    ----------
    hidden : Tensor of shape (n_rows, n_tokens, hidden_size)
        Last hidden states.
    mask : Tensor of shape (n_rows, n_tokens)
        Attention mask: 1 for tokens, 0 for padding on the right.
    pooling : {"mean", "cls", "last"}
        Mean of the tokens, first token or last token.

    Returns
    -------
    Tensor of shape (n_rows, hidden_size)
        Pooled embeddings.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if hidden.shape[1] != mask.shape[1]:  # pooled by the model, as Funnel does
        return hidden.mean(dim=1)
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
    if hidden.dtype != torch.float64:
        hidden = hidden.float()  # sums in half precision are inaccurate
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def is_decoder(config: Any) -> bool:
    """Return whether a model is decoder-only, such as GPT-2."""
    # Masked language models such as BERT also have a causal class.
    kind = config.model_type
    return kind in model_types("CAUSAL_LM") and kind not in model_types("MASKED_LM")


def choose_pooling(checkpoint: PretrainedCheckpoint, pooling: str) -> str:
    """Resolve ``pooling="auto"``.

    A trained classification head is kept, and a sentence-transformers model keeps its
    pooling. Otherwise use the last token for decoders, else the mean of the tokens.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint of the model.
    pooling : {"auto", "mean", "cls", "last", "head"}
        Value of the parameter.

    Returns
    -------
    {"mean", "cls", "last", "head"}
        Resolved pooling.
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


def choose_tagging(checkpoint: PretrainedCheckpoint, labels: list[str]) -> str:
    """Return "head" if a trained head has exactly these labels, else "positions"."""
    try:
        is_same = sorted(checkpoint.label_names) == sorted(labels)
    except ModelFormatError:
        is_same = False
    is_trained = checkpoint.has_trained_head("TokenClassification")
    return "head" if is_trained and is_same else "positions"


def build(
    checkpoint: PretrainedCheckpoint,
    *,
    n_outputs: int,
    pooling: str,
    dtype: torch.dtype,
    head: str = "SequenceClassification",
) -> PooledModel | ArchitectureModel:
    """Load a checkpoint and add the requested head.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint of the model.
    n_outputs : int
        Number of outputs of the head.
    pooling : {"auto", "mean", "cls", "last", "head", "positions"}
        Pooling before a new head, or "head" for that of the architecture.
    dtype : torch.dtype
        Data type of the weights.
    head : {"SequenceClassification", "TokenClassification"}, optional
        Head of the architecture, used with ``pooling="head"``.

    Returns
    -------
    PooledModel or ArchitectureModel
        The model, in evaluation mode.
    """
    pooling = choose_pooling(checkpoint, pooling)
    module = load_module(
        checkpoint, n_outputs=n_outputs, pooling=pooling, head=head, dtype=dtype
    )
    if pooling == "head":
        return with_own_head(module, checkpoint.tokenizer)
    disable_cache(module.config)
    if module.config.is_encoder_decoder:
        module = module.get_encoder()
        if model_class(AutoModel, module.config) is None:
            raise ModelFormatError(
                f"The encoder of {checkpoint.name!r} cannot be used alone, as no class "
                f"of transformers reads a {type(module.config).__name__}. Pass "
                "pooling='head', or choose another model."
            )
    return PooledModel(module, n_outputs, pooling).eval()


def with_own_head(module: Any, tokenizer: Any) -> ArchitectureModel:
    """Wrap a model with the head of its architecture.

    To find the last token of a text, the heads of decoders look for the token of
    padding and those of encoder-decoders for the token that ends a text. Their ids are
    taken from the tokenizer, as the configuration of a checkpoint may lack them or
    disagree.

    Parameters
    ----------
    module : PreTrainedModel
        Its configuration is modified in place.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.

    Returns
    -------
    ArchitectureModel
        The model, in evaluation mode.
    """
    config, special = module.config, SpecialTokens.of(tokenizer)
    finds_last = config.is_encoder_decoder or is_decoder(config)
    for part in (config, config.get_text_config()):
        # Other architectures may number positions from this id.
        if finds_last or getattr(part, "pad_token_id", None) is None:
            part.pad_token_id = special.pad_id
    if config.is_encoder_decoder and special.suffix:
        config.eos_token_id = special.suffix[-1]
    disable_cache(config)
    return ArchitectureModel(module).eval()


def disable_cache(config: Any) -> None:
    """Keep no keys and values, as no tokens are generated."""
    if getattr(config, "use_cache", False):
        config.use_cache = False


def set_trainable(model: PooledModel | ArchitectureModel, trainable: str | int) -> None:
    """Freeze all parameters that are not trainable.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Modified in place.
    trainable : "all", "head" or int
        Parameters to train; an int is the number of top layers in addition to the head.

    Raises
    ------
    ValueError
        If ``trainable`` exceeds the number of layers.
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
    """Enable or disable activation (gradient) checkpointing.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Modified in place.
    active : bool
        Whether to recompute activations in the backward pass.
    """
    set_activation_checkpointing(model.encoder, active=active)


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """Return the layers of an encoder: its module list with the most parameters."""
    lists = [m for m in encoder.modules() if isinstance(m, nn.ModuleList)]
    return max(
        lists,
        key=lambda layers: sum(p.numel() for p in layers.parameters()),
        default=nn.ModuleList(),
    )


def order_outputs(model: ArchitectureModel, order: list[int]) -> None:
    """Reorder the outputs of a trained head: output ``i`` is old output ``order[i]``.

    Parameters
    ----------
    model : ArchitectureModel
        Modified in place.
    order : list of int
        Permutation of the outputs.
    """
    if order == sorted(order):
        return
    linear = _output_layer(model.head, len(order))
    with torch.no_grad():
        linear.weight.copy_(linear.weight[order].clone())
        if linear.bias is not None:
            linear.bias.copy_(linear.bias[order].clone())


def _output_layer(head: nn.Module, n_outputs: int) -> nn.Linear:
    """Return the last linear layer of a head."""
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    if not layers or layers[-1].out_features != n_outputs:
        raise ModelFormatError(
            "The head of this architecture has no linear layer as its last one, so "
            "that its outputs can be neither reordered nor rescaled. Pass "
            "pooling='mean' (or 'cls', 'last') to put a new head in its place."
        )
    return layers[-1]


def standardize_head(head: nn.Module, mean: np.ndarray, scale: np.ndarray) -> None:
    """Rescale a trained head so that it outputs ``(output - mean) / scale``.

    Parameters
    ----------
    head : nn.Module
        Head whose last linear layer is modified in place; a missing bias is added.
    mean, scale : ndarray of shape (n_outputs,)
        Mean and scale of the current outputs.
    """
    linear = _output_layer(head, len(mean))
    shift, factor = (torch.from_numpy(v).to(linear.weight) for v in (mean, 1 / scale))
    with torch.no_grad():
        if linear.bias is None:
            linear.bias = nn.Parameter(torch.zeros_like(shift))
        linear.bias.sub_(shift).mul_(factor)
        linear.weight.mul_(factor[:, None])
