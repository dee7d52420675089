"""Character offsets of tokens."""

from typing import Any

import numpy as np

from .tokenization import backend_encodings, tokenize


def token_offsets(
    tokenizer: Any, texts: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return where the tokens of :func:`~.tokenization.tokenize` stand in their texts.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer.
    texts : list of str
        Texts.

    Returns
    -------
    starts, ends : ndarray of shape (n_tokens,)
        Character offsets of the tokens of all texts, concatenated.
    offsets : ndarray of shape (n_texts + 1,)
        The tokens of text ``i`` are ``offsets[i]:offsets[i + 1]``.

        A single None is returned if the tokenizer knows no offsets.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return None
    ids = tokenize(tokenizer, texts)  # also resets the backend
    items = backend_encodings(tokenizer, texts)
    spans = np.array([span for item in items for span in item.offsets], dtype=np.int64)
    starts, ends = spans.reshape(-1, 2).T
    return starts, ends, ids.offsets
