"""Token type ids: those of the tokenizer that the model has embeddings of."""

import dataclasses
import sys
from typing import Any

from transformers import AutoModel

from .._compat import forward_arguments, model_class
from .._text.tokenization import SpecialTokens


def special_tokens_of(tokenizer: Any, config: Any, n_columns: int) -> SpecialTokens:
    """Return the special tokens of a tokenizer, for a model.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.
    config : PreTrainedConfig
        Configuration of the model.
    n_columns : int
        Number of text columns.

    Returns
    -------
    SpecialTokens
        The special tokens; without token type ids if the model has no embeddings for
        some of them.
    """
    special = SpecialTokens.of(tokenizer)
    largest = max(special.types(n_columns))
    if not largest or largest < count_token_types(config):
        return special
    return dataclasses.replace(
        special,
        single_types=[0] * len(special.single_types),
        pair_types=[0] * len(special.pair_types),
    )


def count_token_types(config: Any) -> int:
    """Return the number of token types of a model; 0 if it takes no token type ids."""
    architecture = model_class(AutoModel, config)
    if architecture and "token_type_ids" not in forward_arguments(architecture):
        return 0
    count = getattr(config, "type_vocab_size", None)
    return sys.maxsize if count is None else int(count)
