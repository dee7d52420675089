"""Extract the first paragraph of a docstring as plain text, and mask package names."""

import re

MASK = "NAME"

_MIN_WORDS = 8  # shorter texts are not specific: "Return a copy of self."
_MAX_WORDS = 120  # beyond this it is a licence or a list, not a summary
_MIN_LETTERS = 0.65  # share of letters among the characters that are not spaces

_SIGNATURE = re.compile(r"[\w.*]+\(.*\)\s*(->.*)?", re.DOTALL)
_UNDERLINE = re.compile(r"^\s*([=\-~^#*])\1{2,}\s*$", re.MULTILINE)
# Blocks that may follow the prose without a blank line.
_NEXT_BLOCK = re.compile(
    r"^\s*(\.\. |>>> |[-*+] |```|@|<|:(param|return|rtype|type)\b"
    r"|(Args?|Arguments|Parameters?|Returns?|Yields?|Raises?|Examples?|Notes?"
    r"|Usage|Inputs?|Outputs?|Attributes|Shape)\s*:+\s*$)",
    re.MULTILINE,
)
# Start of a docstring that is only a list of parameters.
_PARAMETER = re.compile(r"[`*]*\w+[`*]*\s*(\([^\n]*\)\s*(:|\n)|:\s*`|\s:\s)")
_TEMPLATE = re.compile(r"[{}]|%\(|\$\w")

_MARKUP = (
    (re.compile(r"https?://\S+"), ""),
    (re.compile(r"\[([^\][]+)\]\([^)]*\)"), r"\1"),  # [text](target)
    (re.compile(r"(?<![\w\]]):(?:\w+:)*[a-z]+:(?=[`\w])"), ""),  # :func:`numpy.sum`
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{0,2}"), r"\1"),  # `text <target>`_
    (re.compile(r"\[\d+\]_"), ""),  # [1]_
    (re.compile(r"`_{1,2}(?!\w)"), "`"),
    (re.compile(r"</?\w+/?>"), ""),
    (re.compile(r"(?<!\w)\|(\w+)\|_?"), r"\1"),
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*(?=\w)([^*]+?)(?<=\w)\*(?![\w*])"), r"\1"),
    (re.compile(r"`~?"), ""),
    (re.compile(r"::(?=\s|$)"), ":"),
)

# Names written as two words or with a hyphen.
_COMPOUND = re.compile(
    r"\b(hugging[\s-]+face|scikit(-\w+|[\s]+learn)?|data[\s-]+frames?|py[\s-]+torch)\b",
    re.IGNORECASE,
)
_DOTTED_NAME = re.compile(r"\w+(?:\.\w+)*")
# Names that contain one of these, such as `TorchScript` or `is_numpy_array`.
_REVEALING_PART = re.compile(
    r"numpy|scipy|sklearn|scikit|pandas|torch|transformers|hugging_?face|joblib"
    r"|ndarray|data_?frame|tensor|ufunc|multiindex|baseestimator|pretrainedmodel",
    re.IGNORECASE,
)
# Names with one of these between dots or underscores, such as `np.sum`.
_REVEALING_WORD = re.compile(
    r"(?<![a-z0-9])(np|pd|plt|sp|sk|sps|nn|hf|hub|series)(?![a-z0-9])",
    re.IGNORECASE,
)


def first_paragraph(docstring: str) -> str | None:
    """Return the first paragraph of prose on one line.

    Parameters
    ----------
    docstring : str
        Docstring without indentation.

    Returns
    -------
    paragraph : str or None
        None if the docstring does not start with prose of sufficient length, but with
        markup or a template.
    """
    for paragraph in re.split(r"\n\s*\n", docstring.strip()):
        # Skip the signatures of C functions and the headings of modules.
        if _SIGNATURE.fullmatch(paragraph.strip()) or _UNDERLINE.search(paragraph):
            continue
        if _TEMPLATE.search(paragraph) or _PARAMETER.match(paragraph):
            return None
        text = plain(paragraph)
        return text if _is_prose(text) else None
    return None


def plain(paragraph: str) -> str:
    """Strip markup and collapse white space."""
    paragraph = _NEXT_BLOCK.split(paragraph, maxsplit=1)[0]
    for pattern, replacement in _MARKUP:
        paragraph = pattern.sub(replacement, paragraph)
    return " ".join(paragraph.split())


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[\w)\]'\"]\.)\s+(?=[A-Z])", text, maxsplit=1)[0]


def mask_names(text: str) -> str:
    """Replace dotted names that reveal the package by `MASK`."""

    def mask(match: re.Match[str]) -> str:
        name = match[0]
        is_revealing = _REVEALING_PART.search(name) or _REVEALING_WORD.search(name)
        return MASK if is_revealing else name

    return _DOTTED_NAME.sub(mask, _COMPOUND.sub(MASK, text))


def is_prose_after_masking(text: str) -> bool:
    """Return whether a masked text still contains enough prose."""
    return _is_prose(text.replace(MASK, ""))


def _is_prose(text: str) -> bool:
    words = re.findall(r"(?<!\S)[\"'(]*[A-Za-z][A-Za-z'-]*(?=[\s.,;:!?)\"']|$)", text)
    characters = text.replace(" ", "")
    letters = sum(character.isalpha() for character in characters)
    has_length = len(words) >= _MIN_WORDS and len(text.split()) <= _MAX_WORDS
    return has_length and letters >= _MIN_LETTERS * len(characters)
