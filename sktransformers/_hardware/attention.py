"""Selection of the attention implementation, and a plain one for training on CPUs."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from .._compat import attention_implementation, eager_attention_mask
from .._models.files import quiet
from .dropout import fast_dropout

PLAIN = "sktransformers_plain"
_MAX_PLAIN_LENGTH = 256  # tokens; the fused kernel is faster for longer rows
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


def training_attention(config: Any, device: torch.device, lengths: np.ndarray) -> str:
    """Return the name of the attention implementation that trains fastest.

    On CPUs, PyTorch's fused attention has a slow backward pass for short sequences and
    is not available with dropout. Plain attention, two matrix products and a softmax,
    is two to six times as fast there.

    Parameters
    ----------
    config : PreTrainedConfig
        Configuration of the model.
    device : torch.device
        Device of the model.
    lengths : ndarray of shape (n_rows,)
        Number of tokens in each row.

    Returns
    -------
    str
        Name for :func:`set_attention`.
    """
    current = attention_implementation(config)
    if device.type != "cpu" or current != "sdpa":  # do not override another choice
        return current
    text_config = config.get_text_config()
    has_dropout = any(getattr(text_config, name, None) for name in _DROPOUTS)
    typical = np.average(lengths, weights=lengths)  # mean row length of a token
    return PLAIN if has_dropout or typical <= _MAX_PLAIN_LENGTH else current


def plain_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention by plain matrix products, all in the dtype of ``value``.

    The attention scores, one for each head and pair of tokens, take most of the memory
    of a training step. The eager attention of transformers keeps them in float32 under
    autocast. Here they stay in the lower precision, and only the softmax accumulates in
    float32 internally. The signature is that of ``transformers.AttentionInterface``.
    """
    n_groups = getattr(module, "num_key_value_groups", 1)
    if n_groups > 1:
        key, value = (part.repeat_interleave(n_groups, dim=1) for part in (key, value))
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    dtype = value.dtype
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * scaling).to(dtype) @ key.to(dtype).transpose(2, 3)
        for bias in (position_bias, attention_mask):
            if bias is not None:
                # Finite: the softmax of a fully masked row would be NaN.
                scores += bias.to(dtype).clamp_min(torch.finfo(dtype).min)
        weights = functional.softmax(scores, dim=-1)
        weights = fast_dropout(weights, dropout, module.training)
        outputs = weights @ value
    return outputs.transpose(1, 2).contiguous(), None


# Register under a unique name in the registry of transformers.
AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, eager_attention_mask())


def set_attention(model: nn.Module, implementation: str) -> None:
    """Set the attention implementation of a model's encoder.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Modified in place. Left unchanged if its architecture supports only one
        implementation.
    implementation : str
        Name of a registered attention implementation of transformers.
    """
    encoder: Any = model.encoder
    with quiet():  # transformers warns if only one implementation is supported
        encoder.set_attn_implementation(implementation)
