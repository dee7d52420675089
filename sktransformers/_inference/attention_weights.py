"""Attention weights of a model for one text."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn


def attention_weights(model: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the attention weights of all layers and heads.

    Parameters
    ----------
    model : TextModel
        Fitted model. Not modified: a copy that shares its weights runs with the eager
        implementation of attention, the only one that returns weights.
    inputs : dict of str to ndarray of shape (1, n_tokens)
        Inputs of the model.

    Returns
    -------
    dict of str to ndarray of shape (n_layers, n_heads, n_queries, n_keys)
        Keys "attentions", or "encoder_attentions", "decoder_attentions" and
        "cross_attentions". Empty if the model has no attention.
    """
    weights: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()
    }
    encoder = copy.deepcopy(model, weights).eval().encoder
    encoder.set_attn_implementation("eager")
    device = next(encoder.parameters()).device
    tensors = {k: torch.from_numpy(v).to(device) for k, v in inputs.items()}
    with torch.inference_mode():
        outputs = encoder(**tensors, output_attentions=True, return_dict=True)
    found = {}
    for name in (
        *("attentions", "encoder_attentions"),
        *("decoder_attentions", "cross_attentions"),
    ):
        layers = [layer for layer in outputs.get(name) or () if layer is not None]
        if layers:
            stacked = torch.stack([layer[0].float() for layer in layers])
            found[name] = stacked.cpu().numpy()
    return found
