"""In-memory cache of token ids, as a grid search tokenizes the same texts repeatedly.

The cache lives as long as its tokenizer and is never pickled or saved.
"""

from typing import Any
from weakref import WeakKeyDictionary

_MAX_BYTES = 2**26
_BYTES_PER_ENTRY = 150  # overhead of the dictionary entry and its two objects


class TokenCache:
    """Cache of token ids by text, cleared when its memory limit is exceeded.

    Parameters
    ----------
    most_bytes : int, default=2**26
        Maximum size of texts and ids in bytes.
    """

    def __init__(self, most_bytes: int = _MAX_BYTES) -> None:
        self._ids: dict[str, bytes] = {}
        self._most_bytes = most_bytes
        self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, text: str) -> bytes | None:
        """Return the token ids of a text as int32 bytes, or None if not cached."""
        return self._ids.get(text)

    def add(self, text: str, ids: bytes) -> None:
        """Add the token ids of a text."""
        # Upper bound of 4 bytes per character, as computing the exact size is slow.
        self._n_bytes += 4 * len(text) + len(ids) + _BYTES_PER_ENTRY
        if self._n_bytes > self._most_bytes:
            # Replaced, not cleared, as another thread may be reading the dictionary.
            self._ids, self._n_bytes = {}, 0
            return
        self._ids[text] = ids


_CACHES: WeakKeyDictionary[Any, tuple[Any, TokenCache]] = WeakKeyDictionary()


def cache_of(tokenizer: Any) -> TokenCache:
    """Return the cache of a tokenizer; adding tokens to it invalidates the cache."""
    state = len(tokenizer), getattr(tokenizer, "split_special_tokens", None)
    known = _CACHES.get(tokenizer)
    if known is None or known[0] != state:
        known = _CACHES[tokenizer] = state, TokenCache()
    return known[1]
