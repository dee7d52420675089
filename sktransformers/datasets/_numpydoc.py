"""Derive tagged tokens from numpydoc parameter lines.

The tags follow from the structure of a line, `name : type, default=value`, so that no
annotation is needed.
"""

import re
from collections.abc import Iterator

from ._text import first_sentence, plain

TAGS = ("B-DEFAULT", "B-NAME", "B-TYPE", "I-DEFAULT", "I-NAME", "I-TYPE", "O")

_MAX_TOKENS = 60
_MIN_DESCRIPTION = 5

_SECTION = re.compile(
    r"^(?:Other )?(?:Parameters|Attributes)\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)",
    re.DOTALL | re.MULTILINE,
)
# An unindented line and the indented lines below it.
_ENTRY = re.compile(
    r"^(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*) : (?P<kind>\S.*)\n"
    r"(?P<description>(?:[ \t]+\S.*\n?)+)",
    re.MULTILINE,
)
_TOKEN = re.compile(
    r"'[^'\s]*'|\"[^\"\s]*\""  # 'auto'
    r"|-?\d[\w.+-]*(?<![.+-])"  # -1e-3
    r"|\w+(?:[.'-]\w+)*"  # array-like, np.nan, user's
    r"|\.\.\.|->|[<>=!]=|\S"
)
_DEFAULT = re.compile(r"default(?:s to|\s+is)?\s*[=:]?\s*(?P<value>.+)", re.IGNORECASE)

TaggedTokens = tuple[tuple[str, ...], tuple[str, ...]]


def iter_tagged_parameters(docstring: str) -> Iterator[TaggedTokens]:
    """Yield the tokens and BIO tags of each documented parameter.

    Ambiguous lines are skipped, to avoid wrong tags.
    """
    for section in _SECTION.findall(docstring + "\n"):
        for entry in _ENTRY.finditer(section):
            tagged = _tag_entry(entry["names"], entry["kind"], entry["description"])
            if tagged is not None:
                yield tagged


def _tag_entry(names: str, kind: str, description: str) -> TaggedTokens | None:
    # Skip templates, and "::", which would make the separating colon ambiguous.
    if "%(" in kind or "::" in kind or not _is_balanced(kind):
        return None
    sentence = first_sentence(plain(description))
    words = _TOKEN.findall(sentence)
    # Skip defaults described in prose, which cannot be located.
    if "default" in sentence.lower() or len(words) < _MIN_DESCRIPTION:
        return None
    tagged_kind = _tag_kind(plain(kind))
    if tagged_kind is None:
        return None
    pairs = [*_tag_names(names), (":", "O"), *tagged_kind, *_outside(words)]
    if len(pairs) > _MAX_TOKENS:
        return None
    tokens, tags = zip(*pairs, strict=True)
    return tokens, tags


def _tag_names(names: str) -> Iterator[tuple[str, str]]:
    for position, name in enumerate(names.split(", ")):
        if position:
            yield ",", "O"
        yield from _tag_span(_TOKEN.findall(name), "NAME")


def _tag_kind(kind: str) -> list[tuple[str, str]] | None:
    """Tag the tokens after the colon; None if they are ambiguous."""
    types: list[str] = []
    rest: list[tuple[str, str]] = []
    for part in _split_at_commas(kind):
        if default := _DEFAULT.fullmatch(part):
            introduction = part[: default.start("value")]
            rest += _outside([",", *_TOKEN.findall(introduction)])
            rest += _tag_span(_TOKEN.findall(default["value"]), "DEFAULT")
        elif part == "optional":
            rest += _outside([",", part])
        elif rest or "default" in part or "optional" in part or not part:
            return None
        else:
            types += [",", part] if types else [part]
    if not types:
        return None
    return [*_tag_span(_TOKEN.findall(" ".join(types)), "TYPE"), *rest]


def _tag_span(tokens: list[str], label: str) -> list[tuple[str, str]]:
    return [(token, f"{'I' if i else 'B'}-{label}") for i, token in enumerate(tokens)]


def _outside(tokens: list[str]) -> list[tuple[str, str]]:
    return [(token, "O") for token in tokens]


def _split_at_commas(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _is_balanced(text: str) -> bool:
    brackets = all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))
    return brackets and text.count("'") % 2 == 0 and text.count('"') % 2 == 0
