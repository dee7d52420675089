"""Which attention implementation suits which work, and one of our own."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from .._compat import attention_implementation, eager_attention_mask
from .dropout import fast_dropout
from .files import quiet

PLAIN = "sktransformers_plain"
_LONG = 256  # tokens, from which the fused kernel wins
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


def training_attention(config: Any, device: torch.device, lengths: np.ndarray) -> str:
    """Name the implementation that trains fastest.

    On a CPU PyTorch's fused attention has a slow backward pass at short lengths, and
    none at all with dropout. Two plain matrix products around a softmax are two to six
    times as fast there.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's.
    device : torch.device
        Where it runs.
    lengths : ndarray of shape (n_rows,)
        Tokens in each row.

    Returns
    -------
    str
        A name for :func:`set_attention`.
    """
    current = attention_implementation(config)
    if device.type != "cpu" or current != "sdpa":  # else it may know more than we do
        return current
    text_config = config.get_text_config()
    has_dropout = any(getattr(text_config, name, None) for name in _DROPOUTS)
    typical = np.average(lengths, weights=lengths)  # the length a token mostly meets
    return PLAIN if has_dropout or typical <= _LONG else current


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
    """Compute attention by plain matrix products, all in one format.

    Of all that a step makes, the scores are the most: one for each head and each pair
    of tokens. Transformers' own plain attention has them in float32 where autocast
    lowers only the products; here they stay in the products' format, and softmax sums
    up in float32 inside. It is called as ``transformers.AttentionInterface`` says.
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
                # Not infinite: a row that sees nothing would be no numbers.
                scores += bias.to(dtype).clamp_min(torch.finfo(dtype).min)
        shares = functional.softmax(scores, dim=-1)
        shares = fast_dropout(shares, dropout, module.training)
        outputs = shares @ value
    return outputs.transpose(1, 2).contiguous(), None


# In transformers' own registry, under a name that nobody else has.
AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, eager_attention_mask())


def set_attention(model: nn.Module, implementation: str) -> None:
    """Change the attention implementation of all pre-trained parts of a model.

    Parameters
    ----------
    model : PooledModel or ArchitectureModel
        Changed in place; left as it is where its architecture has no choice.
    implementation : str
        A name that transformers knows.
    """
    encoder: Any = model.encoder
    with quiet():  # it warns where there is no choice
        encoder.set_attn_implementation(implementation)
