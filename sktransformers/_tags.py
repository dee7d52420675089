"""Tags of words in, entities out: what the tag schemes mean.

Knows nothing of models, metrics or scikit-learn. A tag is "O" or a prefix, a hyphen and
an entity type, such as "B-PER"; in the scheme "plain" a tag is any string.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

SCHEMES = ("plain", "IO", "IOB1", "BIO", "BIOES", "BILOU")

_LETTERS = {
    "IO": "I",
    "IOB1": "BI",
    "BIO": "BI",
    "BIOES": "BIES",
    "BILOU": "BILU",
    None: "BIESLU",
}

# What a word is to its entity. BILOU is BIOES in other letters.
_OUTSIDE, _BEGIN, _INSIDE, _LAST, _SINGLE = range(5)
_ROLES = {
    letter: role
    for role, letters in enumerate(("O", "B", "I", "EL", "SU"))
    for letter in letters
}
_UNTYPED = "_"


@dataclass(frozen=True)
class EncodedTags:
    """The tags of all texts as one array.

    `codes` of shape (n_words,) holds the position of each word's tag among `classes`,
    the distinct tags, sorted. `offsets` of shape (n_texts + 1,) says where each text
    begins in `codes`, and where the last one ends.
    """

    codes: np.ndarray
    offsets: np.ndarray
    classes: list[str]


@dataclass(frozen=True)
class Spans:
    """Entities in the order of the words, as arrays of shape (n_entities,).

    `text` holds the position of the text, `type` that of the entity type among the
    table's `types`, `start` the first word, counted from 0 in its text, and `end` the
    word after the last one.
    """

    text: np.ndarray
    type: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


def encode_tags(tags: Iterable[Sequence[str]], name: str = "y") -> EncodedTags:
    """Check tag lists and turn the tags into positions among the distinct ones.

    Parameters
    ----------
    tags : iterable of sequences of str
        The tags of each text; lists, tuples, arrays or Series.
    name : str, default="y"
        What to call `tags` in errors.

    Returns
    -------
    EncodedTags
        Positions, boundaries of the texts, and the distinct tags.

    Raises
    ------
    ValueError
        `tags` holds something other than sequences of str; the message says where.
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
    except TypeError:  # not hashable, so no str
        all_str = False
    if not all_str:
        raise ValueError(_describe_first_non_str(texts, name))
    classes = sorted(map(str.__str__, distinct))
    position = {tag: i for i, tag in enumerate(classes)}
    codes = np.fromiter(map(position.__getitem__, flat), np.int64, len(flat))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return EncodedTags(codes, np.concatenate([[0], np.cumsum(lengths)]), classes)


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

    "O" has no type, which is written as ""; a bare prefix such as "B" has the type "_".
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
    """What each tag of a scheme says of its word.

    Parameters
    ----------
    classes : sequence of str
        The distinct tags.
    scheme : str or None
        One of `SCHEMES`. None: tags of any scheme other than "plain".

    Attributes
    ----------
    prefixes : list of str
        The prefix of each class: "O", "B", "I", "E", "S", "L" or "U". In the scheme
        "plain" it is "I" for all but "O".
    types : list of str
        The entity types, sorted. In the scheme "plain", all classes but "O".
    type_codes : ndarray of shape (n_classes,)
        Position of each class's type among `types`, -1 for "O".
    roles : ndarray of shape (n_classes,)
        The prefixes as numbers; "L" and "E" share one, and so do "U" and "S".

    Raises
    ------
    ValueError
        The scheme is unknown, or a class is not among its tags.
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
    """Return prefix and type of a tag of the scheme."""
    if tag == "O":
        return "O", ""
    if scheme == "plain":
        return "I", tag
    letters = _LETTERS[scheme]
    pair = split_tag(tag)
    if pair is None or pair[0] not in letters:
        starts = ", ".join(f"'{letter}-'" for letter in letters)
        which = f"of the scheme {scheme!r}" if scheme else "with an entity type"
        raise ValueError(
            f"{tag!r} is no tag {which}: such a tag is 'O' or begins with one of "
            f"{starts}. Name the scheme that the tags follow, one of {SCHEMES}; "
            "'plain' takes every tag as it is."
        )
    return pair


def detect_scheme(tags: Iterable[Sequence[str]]) -> str:
    """Find the scheme that tags follow.

    Parameters
    ----------
    tags : iterable of sequences of str
        The tags of each text.

    Returns
    -------
    str
        One of `SCHEMES`. "plain" also where the tags follow no scheme, and where they
        are too few to tell.

    Raises
    ------
    ValueError
        `tags` holds something other than sequences of str.
    """
    return scheme_of(encode_tags(tags, "tags"))


def scheme_of(encoded: EncodedTags) -> str:
    """Find the scheme that encoded tags follow; see `detect_scheme`."""
    if not has_prefixes(encoded.classes):
        return "plain"
    table = TagTable(encoded.classes, None)
    letters = set(table.prefixes) - {"O"}
    if letters == {"I"}:
        return "IO"
    if letters & set("ESLU"):
        # Where there are no beginnings, "E" is of IOE, which is none of our schemes.
        whole = "B" in letters or not letters & set("IEL")
        fits = [s for s in ("BIOES", "BILOU") if whole and letters <= set(_LETTERS[s])]
        return fits[0] if fits else "plain"
    if table.types == [_UNTYPED]:
        return "BIO"
    roles, _, after_same = _in_context(encoded.codes, encoded.offsets, table)
    # In IOB1 a beginning only parts neighbours of one type.
    return "IOB1" if after_same[roles == _BEGIN].all() else "BIO"


def has_prefixes(classes: Iterable[str]) -> bool:
    """Return whether all tags but O have a prefix, and there are such tags.

    Letters alone are prefixes only where they are B and I; others are taken for tags of
    another kind.
    """
    classes = set(classes)
    inside = classes - {"O"}
    if any(len(tag) == 1 for tag in inside):
        return inside == {"B", "I"}
    return bool(inside) and all(split_tag(tag) is not None for tag in inside)


def allowed_transitions(
    classes: Iterable[str], scheme: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which tags may start a text, follow one another and end a text.

    Parameters
    ----------
    classes : sequence of str
        The distinct tags.
    scheme : str
        One of `SCHEMES`; "plain" and "IO" allow everything.

    Returns
    -------
    start : ndarray of shape (n_classes,)
        Whether a text may begin with the tag, bool.
    between : ndarray of shape (n_classes, n_classes)
        Whether the tag of the row may stand before that of the column, bool.
    end : ndarray of shape (n_classes,)
        Whether a text may end with the tag, bool.

    Raises
    ------
    ValueError
        The scheme is unknown, or a class is not among its tags.
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
    if scheme in ("BIOES", "BILOU"):
        between &= ~is_open[:, None] | needs_open
        end = ~is_open
    return start, between, end


def find_entities(
    codes: np.ndarray, offsets: np.ndarray, table: TagTable, *, strict: bool = False
) -> Spans:
    """Find the entities that tags spell out.

    Parameters
    ----------
    codes : ndarray of shape (n_words,)
        Position of each word's tag among the table's classes, all texts in a row.
    offsets : ndarray of shape (n_texts + 1,)
        Where each text begins in `codes`, and where the last one ends.
    table : TagTable
        What the tags mean.
    strict : bool, default=False
        Leave out entities that the table's scheme does not spell in this way. False
        reads any order of tags as conlleval does: an entity begins where its type
        changes, at "B" and "S", and after "E" and "S". In the schemes "plain" and "IO"
        there is no difference.

    Returns
    -------
    Spans
        The entities in the order of the words.

    Raises
    ------
    ValueError
        `strict` is True, and the table has no scheme.
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
        # "B-X B-Y" leaves X without an end, as the second tag can follow only Y.
        may_end = ~((roles == _BEGIN) & _of_next(stray & ~is_first))
    elif strict and table.scheme == "BIO":
        may_begin = roles == _BEGIN
    elif strict and table.scheme in ("BIOES", "BILOU"):
        may_begin = (roles == _BEGIN) | (roles == _SINGLE)
        may_end = (roles == _LAST) | (roles == _SINGLE)
    firsts = np.flatnonzero(inside & ~joined)
    lasts = np.flatnonzero(inside & ~_of_next(joined))
    kept = may_begin[firsts] & may_end[lasts]
    firsts, lasts = firsts[kept], lasts[kept]
    text = np.searchsorted(offsets, firsts, side="right") - 1
    begins = offsets[text]
    types = table.type_codes[codes[firsts]]
    return Spans(text, types, firsts - begins, lasts + 1 - begins)


def _in_context(
    codes: np.ndarray, offsets: np.ndarray, table: TagTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each word's role, whether a text begins, and whether the type stays."""
    roles, types = table.roles[codes], table.type_codes[codes]
    is_first = np.zeros(len(codes), dtype=bool)
    is_first[offsets[offsets < len(codes)]] = True
    after_same = ~is_first
    after_same[1:] &= types[1:] == types[:-1]
    return roles, is_first, after_same


def _of_next(values: np.ndarray) -> np.ndarray:
    """Return for each word what holds of the next one; False for the last."""
    shifted = np.zeros_like(values)
    shifted[:-1] = values[1:]
    return shifted
