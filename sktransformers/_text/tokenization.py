"""Tokenization of texts, and the special tokens that a tokenizer adds to them.

Padding and truncation are never set on the tokenizer, because concurrent calls with
different lengths would interfere. Special tokens that are written in a text are text.
"""

import functools
import itertools
import json
import re
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from .ragged import CHUNK, Ragged

_Result = TypeVar("_Result")

_MAX_BYTES = 2**26
_BYTES_PER_ENTRY = 150  # overhead of the dictionary entry and its two objects

_FOR_NO_TEXT = ("eos", "bos", "unk", "mask")
# Texts in several scripts, one of which every tokenizer knows.
_PROBES = ("a", "A", "1", "一", "あ", "가", "ж", "λ", "ب", "א", "ก", "क", ".")


def tokenize(
    tokenizer: Any, texts: list[str], *, split_special_tokens: bool = True
) -> Ragged:
    """Tokenize texts without adding special tokens, padding or truncation.

    The token ids of recent texts are cached.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Padding and truncation of its backend are switched off.
    texts : list of str
        Lone surrogates, which tokenizers cannot encode, are replaced by U+FFFD.
    split_special_tokens : bool, default=True
        Whether special tokens that are written in a text, such as "</s>", are
        tokenized like any other text. False for prompts, whose template has special
        tokens; the text in it is to be passed through :func:`escape_special_tokens`.

    Returns
    -------
    Ragged
        Token ids of each text.
    """
    return Ragged.from_rows(_iter_ids(tokenizer, texts, split_special_tokens))


def count_dropped(texts: list[str], lengths: np.ndarray) -> int:
    """Return the number of texts without tokens that are more than white space."""
    return sum(bool(texts[i].strip()) for i in np.flatnonzero(lengths == 0))


def escape_special_tokens(tokenizer: Any, text: str) -> str:
    """Return the text with a space inside of the special tokens written in it.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer whose special tokens of more than one character are searched for.
    text : str
        A text.

    Returns
    -------
    str
        A text in which no special token occurs.
    """
    return state_of(tokenizer).written.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)


def backend_encodings(
    tokenizer: Any, texts: list[str], *, fast: bool = False, split: bool = True
) -> list[Any]:
    """Encode texts by the backend of a fast tokenizer.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Tokenizer whose backend neither pads nor truncates.
    texts : list of str
        Texts.
    fast : bool, default=False
        Whether the offsets are not needed.
    split : bool, default=True
        Whether special tokens written in a text are text.

    Returns
    -------
    list of tokenizers.Encoding
        Ids and offsets of each text.
    """
    state, backend = state_of(tokenizer), tokenizer.backend_tokenizer
    texts = list(map(_replace_surrogates, texts))

    def encode(backend: Any, texts: list[str]) -> list[Any]:
        encode_batch = backend.encode_batch_fast if fast else backend.encode_batch
        items: list[Any] = encode_batch(texts, add_special_tokens=False)
        return items

    items = encode(backend, texts)
    found = state.find_special([item.ids for item in items], texts) if split else []
    if found:
        again = [texts[i] for i in found]
        try:
            backend = state.backend_without_special(backend)
        except Exception:  # parts written in Python cannot be copied
            again = [escape_special_tokens(tokenizer, text) for text in again]
        for i, item in zip(found, encode(backend, again), strict=True):
            items[i] = item
    return items


def _iter_ids(tokenizer: Any, texts: list[str], split: bool) -> Iterator[bytes]:
    read_ids = _read_in_python
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        _reset_backend(tokenizer, tokenizer.backend_tokenizer)
        read_ids = _read_ids
    state = state_of(tokenizer)
    cache = state.cache if split else state.cache_with_special
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        known = {text: ids for text in chunk if (ids := cache.get(text)) is not None}
        new = [text for text in dict.fromkeys(chunk) if text not in known]
        rows = read_ids(tokenizer, new, split) if new else []
        for text, row in zip(new, rows, strict=True):
            known[text] = array("i", row).tobytes()
            cache.add(text, known[text])
        yield from map(known.__getitem__, chunk)


def _read_ids(tokenizer: Any, texts: list[str], split: bool) -> list[list[int]]:
    """Return the token ids of texts that are not cached."""
    items = backend_encodings(tokenizer, texts, fast=True, split=split)
    return [item.ids for item in items]


def _read_in_python(tokenizer: Any, texts: list[str], split: bool) -> list[list[int]]:
    """Return the token ids of texts by a tokenizer without a backend."""

    def read(texts: list[str], **options: Any) -> list[list[int]]:
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False, **options)
        rows: list[list[int]] = encoded["input_ids"]
        return rows

    texts = list(map(_replace_surrogates, texts))
    rows, state = read(texts), state_of(tokenizer)
    for i in state.find_special(rows, texts) if split else ():
        again = read([texts[i]], split_special_tokens=True)
        if state.find_special(again, [texts[i]]):  # looks up whole words, "[SEP]" too
            again = read([escape_special_tokens(tokenizer, texts[i])])
        (rows[i],) = again
    return rows


def _reset_backend(tokenizer: Any, backend: Any) -> None:
    """Reset settings that a previous call of the tokenizer may have left."""
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens


def _replace_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class TokenCache:
    """Cache of token ids by text, cleared when its memory limit is exceeded.

    A grid search tokenizes the same texts repeatedly. The cache lives as long as its
    tokenizer and is never pickled or saved.

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


class TokenizerState:
    """What is known of a tokenizer: cached ids and its special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.cache = TokenCache()
        self.cache_with_special = TokenCache()
        added = getattr(tokenizer, "added_tokens_decoder", {}).items()
        names = {str(token) for _, token in added if token.special}
        # A single character, such as "!" for padding, is text wherever it is written.
        self._names = {n for n in names | {*tokenizer.all_special_tokens} if len(n) > 1}
        ids = set(tokenizer.convert_tokens_to_ids(sorted(self._names)))
        self._unk_id = tokenizer.unk_token_id
        self._ids = ids - {self._unk_id, None}
        pattern = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self.written = re.compile(pattern or r"(?!)")
        self._backend: Any = None

    def find_special(self, rows: list[list[int]], texts: list[str]) -> list[int]:
        """Return the indices of the texts with special tokens in them."""
        return [
            i
            for i, (row, text) in enumerate(zip(rows, texts, strict=True))
            # The unknown token stands for other texts, too.
            if not self._ids.isdisjoint(row)
            or (self._unk_id in row and self.written.search(text) is not None)
        ]

    def backend_without_special(self, backend: Any) -> Any:
        """Return a copy of the backend that finds no special tokens in texts."""
        if self._backend is None:
            self._backend = _without_special_tokens(backend, self._names)
        return self._backend


def _without_special_tokens(backend: Any, names: set[str]) -> Any:
    """Return a copy of a backend that finds special tokens nowhere in a text.

    The ``encode_special_tokens`` of the backend is not enough: a vocabulary with the
    special tokens in it, such as that of SentencePiece, finds them by itself. So they
    get names that no text contains.
    """
    state = json.loads(backend.to_str())
    state |= {"truncation": None, "padding": None, "post_processor": None}
    model, secret = state["model"], uuid.uuid4().hex
    merges = (m if isinstance(m, str) else " ".join(m) for m in model.get("merges", ()))
    names = names - {merge.replace(" ", "", 1) for merge in merges}
    renamed = {name: secret + name for name in names}
    for token in state["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {renamed.get(k, k): i for k, i in vocabulary.items()}
    else:
        model["vocab"] = [(renamed.get(k, k), score) for k, score in vocabulary]
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]
    copy = type(backend).from_str(json.dumps(state))
    copy.encode_special_tokens = True
    return copy


_STATES: WeakKeyDictionary[Any, tuple[Any, TokenizerState]] = WeakKeyDictionary()


def state_of(tokenizer: Any) -> TokenizerState:
    """Return the state of a tokenizer; adding tokens to it invalidates the state."""
    version = len(tokenizer), getattr(tokenizer, "split_special_tokens", None)
    known = _STATES.get(tokenizer)
    if known is None or known[0] != version:
        known = _STATES[tokenizer] = version, TokenizerState(tokenizer)
    return known[1]


def per_tokenizer(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Cache a function of a tokenizer, its last argument, as long as that lives."""
    known: WeakKeyDictionary[Any, _Result] = WeakKeyDictionary()

    @functools.wraps(function)
    def cached(*args: Any) -> _Result:
        tokenizer = args[-1]
        if tokenizer not in known:
            known[tokenizer] = function(*args)
        return known[tokenizer]

    return cached


@dataclass(frozen=True)
class SpecialTokens:
    """Special token ids that a tokenizer adds around and between the texts of a row.

    Attributes
    ----------
    prefix, separator, suffix : list of int
        Token ids before, between and after the texts.
    pad_id : int
        Id of the padding token.
    empty : list of int
        The single token of a row without any, as a model needs at least one.
    single_types, pair_types : list of int
        Token type ids of a row of one text and of two, in which a text counts as a
        single token. Zeros are not passed to the model.
    """

    prefix: list[int]
    separator: list[int]
    suffix: list[int]
    pad_id: int
    empty: list[int]
    single_types: list[int]
    pair_types: list[int]

    @classmethod
    @per_tokenizer
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Infer the special tokens from an encoded text and an encoded text pair."""
        text, plain = _find_known_text(tokenizer)
        single, pair = tokenizer(text), tokenizer(text, text)
        ids, both = single["input_ids"], pair["input_ids"]
        start, size = _find(ids, plain), len(plain)
        end = start + size
        second = end + _find(both[end:], plain)
        separator, eos = both[end:second], tokenizer.eos_token_id
        between = [*range(end, second)]
        if not separator and eos is not None:
            # GPT-2 and similar add no separator of their own
            separator, between = [eos], [start]
        suffix = ids[end:]
        before = [*range(start + 1)]
        after_single = range(end, end + len(suffix))
        after_pair = range(second + size, second + size + len(suffix))
        pad_id = tokenizer.pad_token_id
        if pad_id is None:
            # It is masked, but some heads take the last other token for the end.
            others = (eos, tokenizer.bos_token_id, tokenizer.unk_token_id)
            pad_id = next((i for i in others if i not in (None, *suffix[-1:])), 0)
        return cls(
            prefix=ids[:start],
            separator=separator,
            suffix=suffix,
            pad_id=pad_id,
            empty=[] if start or suffix else [first_id(tokenizer, _FOR_NO_TEXT)],
            single_types=_types_at([*before, *after_single], single),
            pair_types=_types_at([*before, *between, second, *after_pair], pair),
        )

    def count(self, n_columns: int) -> int:
        """Return the number of special tokens in a row of ``n_columns`` texts."""
        n_separators = (n_columns - 1) * len(self.separator)
        return len(self.prefix) + len(self.suffix) + n_separators

    def types(self, n_columns: int) -> list[int]:
        """Return the token type ids of a row, in which a text counts as one token."""
        if n_columns == 1:
            return self.single_types
        end = len(self.pair_types) - len(self.suffix)
        second = self.pair_types[end - 1]
        more = [second] * ((n_columns - 2) * (len(self.separator) + 1))
        return [*self.pair_types[:end], *more, *self.pair_types[end:]]


def _find_known_text(tokenizer: Any) -> tuple[str, list[int]]:
    """Return a text that the tokenizer does not drop, and its token ids."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    others = (tokenizer.decode([i]) for i in range(len(tokenizer)))
    for text in itertools.chain(_PROBES, others):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if ids and special.isdisjoint(ids):
            return text, ids
    return "", []


def first_id(tokenizer: Any, names: Iterable[str]) -> int:
    """Return the id of the first of the named special tokens that a tokenizer has.

    Padding comes last: some models mask its id themselves.
    """
    for name in (*names, "pad"):
        if (token_id := getattr(tokenizer, f"{name}_token_id", None)) is not None:
            return int(token_id)
    return 0


def _types_at(positions: list[int], encoded: Any) -> list[int]:
    """Return the token type ids of an encoded text at the given positions."""
    types = dict(enumerate(encoded.get("token_type_ids") or ()))
    return [types.get(position, 0) for position in positions]


def _find(ids: list[int], wanted: list[int]) -> int:
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return start
    return 0
