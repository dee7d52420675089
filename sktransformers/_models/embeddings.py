"""Token embeddings: one for each token of the tokenizer."""

from typing import Any

import numpy as np
import torch

from ..exceptions import ModelFormatError
from .files import quiet


def embeddings_of(module: Any) -> Any:
    """Return the token embeddings of a model, or None if it looks none up by id."""
    try:
        table = module.get_input_embeddings()
    except NotImplementedError:  # such as CANINE, which hashes characters
        return None
    return table if hasattr(table, "weight") else None  # Perceiver gives its latents


def add_embeddings(model: Any, tokenizer: Any) -> bool:
    """Add an embedding for each token that was added to the tokenizer only.

    It is the mean of all others, and so are the weights of an output layer, so that a
    model always becomes the same, whatever the state of random generators.

    Parameters
    ----------
    model : TextModel
        Modified in place.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.

    Returns
    -------
    bool
        Whether embeddings were missing.

    Raises
    ------
    ModelFormatError
        If the architecture does not support it.
    """
    module = model.module
    table, n_tokens = embeddings_of(module), _count_tokens(tokenizer)
    if table is None or n_tokens <= (n_known := _count_rows(table)):
        return False
    try:
        with torch.random.fork_rng(), quiet():
            module.resize_token_embeddings(n_tokens, mean_resizing=False)
    except Exception as error:  # of many types
        raise ModelFormatError(
            f"The tokenizer has {n_tokens} tokens, but the model has embeddings of "
            f"{n_known} only, and more cannot be added: {error}"
        ) from error
    with torch.no_grad():
        for layer in (embeddings_of(module), module.get_output_embeddings()):
            for parameter in () if layer is None else layer.parameters():
                parameter[n_known:] = parameter[:n_known].mean(dim=0)
    return True


def require_embeddings(model: Any, tokenizer: Any, ids: np.ndarray) -> None:
    """Raise ModelFormatError if the model has no embedding of a token.

    Parameters
    ----------
    model : TextModel
        The model.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.
    ids : ndarray of int
        Ids of tokens.
    """
    table, largest = embeddings_of(model.module), int(ids.max(initial=0))
    if table is None or largest < (n_known := _count_rows(table)):
        return
    token = tokenizer.convert_ids_to_tokens(largest)
    raise ModelFormatError(
        f"The model has no embedding of the token {token!r} (id {largest}), which was "
        f"added to the tokenizer: it has {n_known} embeddings for "
        f"{_count_tokens(tokenizer)} tokens. Train it with max_epochs of 1 or more, "
        "which adds the embeddings, or call "
        "model.resize_token_embeddings(len(tokenizer)) in transformers, train, and "
        "save the model again."
    )


def _count_rows(table: Any) -> int:
    """Return the number of rows of an embedding layer, or of one wrapped by another."""
    return int(getattr(table, "num_embeddings", len(table.weight)))


def _count_tokens(tokenizer: Any) -> int:
    """Return the number of token ids; those of added tokens may leave gaps."""
    return max(len(tokenizer), 1 + max(tokenizer.added_tokens_decoder, default=-1))
