"""Optimizations of training in one context manager."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .._compat import attention_implementation
from .attention import set_attention, training_attention
from .dropout import set_fast_dropout
from .vocabulary import compact_vocabulary, expand_vocabulary


@contextlib.contextmanager
def fast_training(
    model: Any,
    device: torch.device,
    lengths: np.ndarray,
    token_ids: np.ndarray | None,
    *,
    compile: bool,
) -> Iterator[None]:
    """Optimize a model for training inside the context; restore it on exit.

    Selects the attention implementation for the lengths of the rows, uses fast dropout
    on CPUs, and restricts training to the embeddings of tokens that occur.

    Parameters
    ----------
    model : TextModel
        Modified in place. On exit its trained weights are kept and its modules
        restored.
    device : torch.device
        Device of the model.
    lengths : ndarray of shape (n_rows,)
        Number of tokens in each row.
    token_ids : ndarray of int or None
        Token ids of the training data, with or without duplicates. None trains the
        embeddings of all tokens.
    compile : bool
        Whether the model will be compiled, in which case fast dropout is not used.
    """
    config = model.encoder.config
    attention = attention_implementation(config)
    set_attention(model, training_attention(config, device, lengths))
    set_fast_dropout(model, active=device.type == "cpu" and not compile)
    if token_ids is not None:
        compact_vocabulary(model, model.encoder, token_ids)
    try:
        yield
    finally:
        expand_vocabulary(model)
        set_fast_dropout(model, active=False)
        set_attention(model, attention)
