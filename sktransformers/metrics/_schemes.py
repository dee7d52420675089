"""Tagging schemes: parse tags, detect the scheme and extract entities.

A tag is "O" or consists of a prefix, a hyphen and an entity type, such as "B-PER"; in
the scheme "plain" any string is a tag.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .._text.ragged import offsets_of

# Schemes that mark the last word of an entity. They differ only in the letters.
_CLOSED = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
_LETTERS = {"IO": "I", "IOB1": "BI", "BIO": "BI", **_CLOSED}
SCHEMES = ("plain", "IO", "IOB1", "BIO", *_CLOSED)

# Position of a word in its entity.
_OUTSIDE, _BEGIN, _INSIDE, _LAST, _SINGLE = range(5)
_ROLES = {
    letter: role
    for role, letters in enumerate(("O", "B", "IM", "EL", "SUW"))
    for letter in letters
}
_UNTYPED = "_"


@dataclass(frozen=True)
class EncodedTags:
    """Tags of all texts as one array of integers.

    Attributes
    ----------
    codes : ndarray of shape (n_words,)
        Index of each word's tag in `classes`.
    offsets : ndarray of shape (n_texts + 1,)
        Start of each text in `codes`, and the end of the last one.
    classes : list of str
        Sorted distinct tags.
    """

    codes: np.ndarray
    offsets: np.ndarray
    classes: list[str]


@dataclass(frozen=True)
class Spans:
    """Entities in the order of the words.

    Attributes
    ----------
    text : ndarray of shape (n_entities,)
        Index of the text.
    type : ndarray of shape (n_entities,)
        Index of the entity type in the `types` of the table.
    start, end : ndarray of shape (n_entities,)
        Index in the text of the first word, and of the word after the last one.
    """

    text: np.ndarray
    type: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


def encode_tags(tags: Iterable[Sequence[str]], name: str = "y") -> EncodedTags:
    """Validate tag lists and encode the tags as integers.

    Parameters
    ----------
    tags : iterable of sequences of str
        Tags of each text; lists, tuples, arrays or Series.
    name : str, default="y"
        Name of `tags` in error messages.

    Returns
    -------
    EncodedTags
        Encoded tags, offsets of the texts, and distinct tags.

    Raises
    ------
    ValueError
        If `tags` contains anything but sequences of str; the message gives the index.
    """
    if isinstance(tags, (str, bytes)) or not isinstance(tags, Iterable):
        raise ValueError(
            f"{name} must hold a list of tags for each text. Got {tags!r:.80} of type "
            f"{type(tags).__name__} instead."
        )
    texts = [
        text if type(text) in (list, tuple) else _to_list(text, f"{name}[{i}]")
        for i, text in enumerate(tags)
    ]
    flat = list(chain.from_iterable(texts))
    try:
        distinct = set(flat)
        all_str = all(isinstance(tag, str) for tag in distinct)
    except TypeError:  # not hashable, so not a str
        all_str = False
    if not all_str:
        raise ValueError(_describe_first_non_str(texts, name))
    classes = sorted(map(str.__str__, distinct))
    position = {tag: i for i, tag in enumerate(classes)}
    codes = np.fromiter(map(position.__getitem__, flat), np.int64, len(flat))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return EncodedTags(codes, offsets_of(lengths), classes)


def _to_list(text: Any, name: str) -> list[Any]:
    is_sequence = (
        hasattr(text, "__len__")
        and hasattr(text, "__getitem__")
        and not isinstance(text, (str, bytes, dict))
        and getattr(text, "ndim", 1) == 1
    )
    if not is_sequence:
        article = "an" if type(text).__name__[0] in "aeiou" else "a"
        raise ValueError(
            f"{name} is {article} {type(text).__name__}, {text!r:.80}; it must be a "
            "list of tags, one for each word of the text."
        )
    return list(text)


def _describe_first_non_str(texts: list[Any], name: str) -> str:
    text, word, tag = next(
        (i, j, tag)
        for i, tags in enumerate(texts)
        for j, tag in enumerate(tags)
        if not isinstance(tag, str)
    )
    return (
        f"{name}[{text}][{word}] is {tag!r:.80}, of type {type(tag).__name__}; a tag "
        "must be a str."
    )


def split_tag(tag: str) -> tuple[str, str] | None:
    """Return the prefix and the entity type of a tag, or None if it has no prefix.

    "O" has the type ""; a prefix without a type, such as "B", has the type "_".
    """
    if tag == "O":
        return "O", ""
    if tag[:1] not in _ROLES or tag[:1] == "O":
        return None
    if len(tag) == 1:
        return tag, _UNTYPED
    if len(tag) == 2 or tag[1] != "-":
        return None
    return tag[0], tag[2:]


class TagTable:
    """Prefixes and entity types of the tags of a scheme.

    Parameters
    ----------
    classes : sequence of str
        Distinct tags.
    scheme : str or None
        One of `SCHEMES`. None: prefixes of all schemes except "plain".

    Attributes
    ----------
    prefixes : list of str
        Prefix of each class, a letter of the scheme or "O". In the scheme "plain" it
        is "I" except for "O".
    types : list of str
        Sorted entity types. In the scheme "plain", all classes except "O".
    type_codes : ndarray of shape (n_classes,)
        Index of each class's type in `types`, -1 for "O".
    roles : ndarray of shape (n_classes,)
        Prefixes as integers; "M" equals "I", "L" equals "E", and "U" and "W" equal "S".

    Raises
    ------
    ValueError
        If the scheme is unknown, or a class is not valid in it.
    """

    def __init__(self, classes: Iterable[str], scheme: str | None) -> None:
        if scheme is not None and scheme not in SCHEMES:
            raise ValueError(
                f"scheme must be one of {SCHEMES}. Got {scheme!r} instead."
            )
        self.classes = [str(tag) for tag in classes]
        self.scheme = scheme
        pairs = [_parse(tag, scheme) for tag in self.classes]
        self.prefixes = [prefix for prefix, _ in pairs]
        self.types = sorted(
            {entity_type for prefix, entity_type in pairs if prefix != "O"}
        )
        position = {entity_type: i for i, entity_type in enumerate(self.types)}
        self.type_codes = np.array(
            [-1 if p == "O" else position[t] for p, t in pairs], dtype=np.int64
        )
        self.roles = np.array([_ROLES[p] for p in self.prefixes], dtype=np.int8)


def _parse(tag: str, scheme: str | None) -> tuple[str, str]:
    """Return the prefix and entity type of a tag."""
    if tag == "O":
        return "O", ""
    if scheme == "plain":
        return "I", tag
    letters = _LETTERS[scheme] if scheme else "BIESLUMW"
    pair = split_tag(tag)
    if pair is None or pair[0] not in letters:
        starts = ", ".join(f"'{letter}-'" for letter in letters)
        which = f"of the scheme {scheme!r}" if scheme else "with an entity type"
        raise ValueError(
            f"{tag!r} is not a valid tag {which}: a tag must be 'O' or begin with one "
            f"of {starts}. Name the scheme that the tags follow, one of {SCHEMES}; "
            "'plain' accepts any tag."
        )
    return pair


def scheme_of(encoded: EncodedTags) -> str:
    """Infer the scheme from encoded tags.

    Parameters
    ----------
    encoded : EncodedTags
        Tags of all texts.

    Returns
    -------
    str
        One of `SCHEMES`; "plain" also if the scheme cannot be inferred.
    """
    if not has_prefixes(encoded.classes):
        return "plain"
    table = TagTable(encoded.classes, None)
    letters = set(table.prefixes) - {"O"}
    if letters == {"I"}:
        return "IO"
    if not letters <= {"B", "I"}:
        # "E" without "B" is a tag of IOE, which is not supported.
        whole = "B" in letters or not letters & set("IELM")
        fits = [s for s, used in _CLOSED.items() if whole and letters <= set(used)]
        return fits[0] if fits else "plain"
    if table.types == [_UNTYPED]:
        return "BIO"
    roles, _, after_same = _in_context(encoded.codes, encoded.offsets, table)
    # In IOB1, "B" occurs only between adjacent entities of the same type.
    return "IOB1" if after_same[roles == _BEGIN].all() else "BIO"


def has_prefixes(classes: Iterable[str]) -> bool:
    """Return whether there are tags other than "O", all with a prefix.

    Single letters are prefixes only if the tags are exactly "B" and "I", or, as in word
    segmentation, "B", "M", "E" and perhaps "S"; otherwise they are plain tags.
    """
    classes = set(classes)
    inside = classes - {"O"}
    if any(len(tag) == 1 for tag in inside):
        return inside == {"B", "I"} or set("BME") <= inside <= set("BMES")
    return bool(inside) and all(split_tag(tag) is not None for tag in inside)


def allowed_transitions(
    classes: Iterable[str], scheme: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start, transition and end constraints of a scheme.

    Parameters
    ----------
    classes : sequence of str
        Distinct tags.
    scheme : str
        One of `SCHEMES`; "plain" and "IO" have no constraints.

    Returns
    -------
    start : ndarray of shape (n_classes,)
        Boolean mask of the tags that are allowed at the start of a text.
    between : ndarray of shape (n_classes, n_classes)
        Boolean mask of allowed transitions, from the row's tag to the column's.
    end : ndarray of shape (n_classes,)
        Boolean mask of the tags that are allowed at the end of a text.

    Raises
    ------
    ValueError
        If the scheme is unknown, or a class is not valid in it.
    """
    table = TagTable(classes, scheme)
    roles, types = table.roles, table.type_codes
    n = len(roles)
    start, end = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    between = np.ones((n, n), dtype=bool)
    if scheme in ("plain", "IO"):
        return start, between, end
    is_open = np.isin(roles, (_BEGIN, _INSIDE))
    continues = is_open[:, None] & (types[:, None] == types)
    needs_open = np.isin(roles, (_BEGIN,) if scheme == "IOB1" else (_INSIDE, _LAST))
    start, between = ~needs_open, continues | ~needs_open
    if scheme in _CLOSED:
        between &= ~is_open[:, None] | needs_open
        end = ~is_open
    return start, between, end


def find_entities(
    codes: np.ndarray, offsets: np.ndarray, table: TagTable, *, strict: bool = False
) -> Spans:
    """Extract the entities that the tags encode.

    Parameters
    ----------
    codes : ndarray of shape (n_words,)
        Index of each word's tag in the table's classes, all texts concatenated.
    offsets : ndarray of shape (n_texts + 1,)
        Start of each text in `codes`, and the end of the last one.
    table : TagTable
        Prefixes and types of the tags.
    strict : bool, default=False
        Ignore entities whose tags are not valid in the table's scheme. False interprets
        any sequence of tags as conlleval does: an entity begins where the type changes,
        at "B" and "S", and after "E" and "S". Has no effect in the schemes "plain" and
        "IO".

    Returns
    -------
    Spans
        Entities in the order of the words.

    Raises
    ------
    ValueError
        If `strict` is True and the table has no scheme.
    """
    if strict and table.scheme is None:
        raise ValueError("strict=True needs a TagTable with a scheme; this has none.")
    roles, is_first, after_same = _in_context(codes, offsets, table)
    is_open = (roles == _BEGIN) | (roles == _INSIDE)
    joined = after_same & ((roles == _INSIDE) | (roles == _LAST))
    joined[1:] &= is_open[:-1]
    inside = may_begin = may_end = roles != _OUTSIDE
    if strict and table.scheme == "IOB1":
        stray = (roles == _BEGIN) & ~after_same
        inside = inside & ~stray
        joined[1:] &= ~stray[:-1]
        # "B-X B-Y": the entity X is not valid, as "B-Y" may only follow type Y.
        may_end = ~((roles == _BEGIN) & _shift_left(stray & ~is_first))
    elif strict and table.scheme == "BIO":
        may_begin = roles == _BEGIN
    elif strict and table.scheme in _CLOSED:
        may_begin = (roles == _BEGIN) | (roles == _SINGLE)
        may_end = (roles == _LAST) | (roles == _SINGLE)
    firsts = np.flatnonzero(inside & ~joined)
    lasts = np.flatnonzero(inside & ~_shift_left(joined))
    kept = may_begin[firsts] & may_end[lasts]
    firsts, lasts = firsts[kept], lasts[kept]
    text = np.searchsorted(offsets, firsts, side="right") - 1
    begins = offsets[text]
    types = table.type_codes[codes[firsts]]
    return Spans(text, types, firsts - begins, lasts + 1 - begins)


def _in_context(
    codes: np.ndarray, offsets: np.ndarray, table: TagTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return roles and masks of first words and of words with the preceding type."""
    roles, types = table.roles[codes], table.type_codes[codes]
    is_first = np.zeros(len(codes), dtype=bool)
    is_first[offsets[offsets < len(codes)]] = True
    after_same = ~is_first
    after_same[1:] &= types[1:] == types[:-1]
    return roles, is_first, after_same


def _shift_left(values: np.ndarray) -> np.ndarray:
    """Return the value of the next word for each word; False for the last."""
    shifted = np.zeros_like(values)
    shifted[:-1] = values[1:]
    return shifted
