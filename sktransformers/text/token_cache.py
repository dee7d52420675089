"""The tokens of texts read lately: in a search the same texts come again and again.

Kept in memory, for as long as their tokenizer is, and never pickled or written.
"""

from typing import Any
from weakref import WeakKeyDictionary

_MOST_BYTES = 2**26
_BYTES_OF_AN_ENTRY = 150  # of the dictionary and two objects, beside their contents


class TokenCache:
    """Ids by text, up to some memory; what is full starts anew.

    Parameters
    ----------
    most_bytes : int, default=2**26
        Memory that texts and ids may take.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._ids: dict[str, bytes] = {}
        self._most_bytes = most_bytes
        self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, text: str) -> bytes | None:
        """Return the ids of a text, 4 bytes each, or None if they are not known."""
        return self._ids.get(text)

    def add(self, text: str, ids: bytes) -> None:
        """Keep the ids of a text."""
        # At most 4 bytes a character: asking for the true size takes longer.
        self._n_bytes += 4 * len(text) + len(ids) + _BYTES_OF_AN_ENTRY
        if self._n_bytes > self._most_bytes:
            # A new dictionary, for another thread may be reading the old one.
            self._ids, self._n_bytes = {}, 0
            return
        self._ids[text] = ids


_CACHES: WeakKeyDictionary[Any, tuple[Any, TokenCache]] = WeakKeyDictionary()


def cache_of(tokenizer: Any) -> TokenCache:
    """Return the cache of a tokenizer: a new one, if tokens were added to it since."""
    state = len(tokenizer), getattr(tokenizer, "split_special_tokens", None)
    known = _CACHES.get(tokenizer)
    if known is None or known[0] != state:
        known = _CACHES[tokenizer] = state, TokenCache()
    return known[1]
