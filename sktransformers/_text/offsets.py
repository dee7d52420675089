"""Character offsets of tokens."""

from typing import Any

import numpy as np

from .encoding import Ragged, tokenize


def token_offsets(
    tokenizer: Any, texts: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return where the tokens of :func:`~.encoding.tokenize` stand in their texts.

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
    ids = tokenize(tokenizer, texts)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    items = backend.encode_batch(
        [text.encode("utf-8", "replace").decode() for text in texts],
        add_special_tokens=False,
    )
    again = Ragged.from_rows([item.ids for item in items])
    if not np.array_equal(again.values, ids.values):
        return None
    spans = np.array([span for item in items for span in item.offsets], dtype=np.int64)
    starts, ends = spans.reshape(-1, 2).T
    return starts, ends, ids.offsets
