"""Metrics of generated texts: chrF, BLEU and ROUGE-L."""

import unicodedata
from typing import Any

import regex

from .._compat import StrOptions, validate_params
from .._text.inputs import describe, read_column
from ..exceptions import TextTypeError, TextValueError
from ._scorers import make_documented_scorer

# Tokenizers of sacrebleu that do not download a model.
_TOKENIZERS = {"13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"}

# Scripts without spaces between words.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_UNSPACED_LETTER = regex.compile(rf"(?V1)[\p{{L}}&&{_UNSPACED}]")
_HAN_LETTER = regex.compile(r"(?V1)[\p{L}&&\p{Han}]")
_LETTER = regex.compile(r"\p{L}")
_WORD = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{N}}]&&{_UNSPACED}]\p{{M}}*"  # a character with its marks
    rf"|[[\p{{L}}\p{{N}}]--{_UNSPACED}]"  # or a run of letters and digits
    rf"[[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d]--{_UNSPACED}]*"
)


def chrf_score(y_true: Any, y_pred: Any) -> float:
    """Compute chrF, the character n-gram F-score.

    The F-score of n-grams of one to six characters without spaces, where recall has
    twice the weight of precision [1]_. This is a corpus-level score, computed over all
    texts, not a mean over texts. As it requires no word segmentation, it is suitable
    for any language. It is computed by sacrebleu [2]_ with default settings and divided
    by 100.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        Reference texts, one per generated text.
    y_pred : list, array or Series of str, of shape (n_texts,)
        Generated texts.

    Returns
    -------
    float
        Score between 0 and 1 (best); 0 if all texts are empty.

    Raises
    ------
    ImportError
        If sacrebleu is not installed; the ``generation`` extra installs it.
    ValueError
        If `y_true` and `y_pred` have different numbers of texts, are empty, or contain
        anything but str; the message gives the row.
    TypeError
        If `y_true` or `y_pred` is not a container of texts.

    See Also
    --------
    bleu_score : Word n-gram metric of translations.
    rouge_l_score : Metric of summaries.
    chrf : Scorer, for ``scoring=chrf``.

    References
    ----------
    .. [1] M. Popović (2015). "chrF: character n-gram F-score for automatic MT
       evaluation". https://aclanthology.org/W15-3049
    .. [2] M. Post (2018). "A Call for Clarity in Reporting BLEU Scores".
       https://aclanthology.org/W18-6319

    Examples
    --------
    >>> from sktransformers.metrics import chrf_score
    >>> y_true = ["The cat sat on the mat.", "It was asleep."]
    >>> y_pred = ["The cats sat on a mat.", "It slept."]
    >>> round(chrf_score(y_true, y_pred), 3)
    0.405
    """
    references, texts = _check_both(y_true, y_pred)
    metric = _import_sacrebleu("chrf_score").CHRF()
    return _fraction(metric.corpus_score(texts, [references]))


@validate_params(
    {"tokenize": [StrOptions({"auto", *_TOKENIZERS})]},
    prefer_skip_nested_validation=True,
)
def bleu_score(y_true: Any, y_pred: Any, *, tokenize: str = "auto") -> float:
    """Compute BLEU, the precision of word n-grams with a brevity penalty.

    The geometric mean of the precisions of n-grams of one to four words, times a
    penalty if the texts are shorter than the references [1]_. This is a corpus-level
    score, computed over all texts, not a mean over texts. It is computed by sacrebleu
    [2]_ with default settings and divided by 100.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        Reference texts, one per generated text, not tokenized.
    y_pred : list, array or Series of str, of shape (n_texts,)
        Generated texts.
    tokenize : {"auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"}, \
default="auto"
        Tokenizer of sacrebleu; scores are only comparable with the same tokenizer.
        "13a" is the standard for languages with spaces between words, "intl" also
        splits at all Unicode punctuation, "zh" splits Chinese into characters, "char"
        splits all text into characters, and "none" splits at spaces only. "ja-mecab"
        and "ko-mecab" segment Japanese and Korean words and require
        ``pip install 'sacrebleu[ja]'`` or ``'sacrebleu[ko]'``.

        "auto" is "13a", unless most letters of `y_true` belong to scripts without
        spaces: then "zh" if at least 95 % of these letters are Chinese characters, and
        "char" otherwise, as for Japanese or Thai. Tokenizers of sacrebleu that download
        a model are not supported.

    Returns
    -------
    float
        Score between 0 and 1 (best); 0 if no text has four words.

    Raises
    ------
    ImportError
        If sacrebleu (extra ``generation``) or a package that `tokenize` requires is not
        installed.
    ValueError
        If `y_true` and `y_pred` have different numbers of texts, are empty, or contain
        anything but str; the message gives the row.
    TypeError
        If `y_true` or `y_pred` is not a container of texts.

    See Also
    --------
    chrf_score : Character n-gram metric, suitable for any language.
    rouge_l_score : Metric of summaries.
    bleu : Scorer, for ``scoring=bleu``.

    References
    ----------
    .. [1] K. Papineni, S. Roukos, T. Ward and W.-J. Zhu (2002). "BLEU: a Method for
       Automatic Evaluation of Machine Translation". https://aclanthology.org/P02-1040
    .. [2] M. Post (2018). "A Call for Clarity in Reporting BLEU Scores".
       https://aclanthology.org/W18-6319

    Examples
    --------
    >>> from sktransformers.metrics import bleu_score
    >>> y_true = ["The cat sat on the mat.", "It was asleep."]
    >>> y_pred = ["The cat sat on a mat.", "It slept."]
    >>> round(bleu_score(y_true, y_pred), 3)
    0.387
    >>> bleu_score(["猫坐在垫子上"], ["猫坐在垫子上"])
    1.0
    """
    references, texts = _check_both(y_true, y_pred)
    sacrebleu = _import_sacrebleu("bleu_score")
    if tokenize == "auto":
        tokenize = _tokenizer_for(references)
    try:
        # force=True suppresses the log message that texts look tokenized.
        metric = sacrebleu.BLEU(tokenize=tokenize, force=True)
    except RuntimeError as error:
        language = tokenize.removesuffix("-mecab")
        raise ImportError(
            f"tokenize={tokenize!r} needs packages that are not installed: "
            f"pip install 'sacrebleu[{language}]'"
        ) from error
    return _fraction(metric.corpus_score(texts, [references]))


def rouge_l_score(y_true: Any, y_pred: Any) -> float:
    """Compute ROUGE-L, the mean F1 score of longest common subsequences of words.

    Precision is the length of the longest common subsequence of a text and its
    reference divided by the number of words of the text, recall the same divided by the
    number of words of the reference, and the score of a text is their harmonic mean
    [1]_.

    Words are case-insensitive runs of letters and digits; punctuation is ignored. In
    Chinese, Japanese and other scripts without spaces each character is a word. No
    stemming is applied: for English texts, the score equals the rougeL of the package
    rouge-score with default settings.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        Reference texts, one per generated text.
    y_pred : list, array or Series of str, of shape (n_texts,)
        Generated texts.

    Returns
    -------
    float
        Mean over texts, between 0 and 1 (best). The score of a text without words is 0,
        even if its reference has no words either.

    Raises
    ------
    ValueError
        If `y_true` and `y_pred` have different numbers of texts, are empty, or contain
        anything but str; the message gives the row.
    TypeError
        If `y_true` or `y_pred` is not a container of texts.

    See Also
    --------
    chrf_score : Character n-gram metric of translations.
    bleu_score : Word n-gram metric of translations.
    rouge_l : Scorer, for ``scoring=rouge_l``.

    References
    ----------
    .. [1] C.-Y. Lin (2004). "ROUGE: A Package for Automatic Evaluation of Summaries".
       https://aclanthology.org/W04-1013

    Examples
    --------
    Four of five words are in the longest common subsequence:

    >>> from sktransformers.metrics import rouge_l_score
    >>> y_true = ["Police killed the gunman today."]
    >>> y_pred = ["Police kill the gunman today."]
    >>> rouge_l_score(y_true, y_pred)
    0.8
    """
    both = zip(*_check_both(y_true, y_pred), strict=True)
    scores = [_rouge_l(_words(reference), _words(text)) for reference, text in both]
    return sum(scores) / len(scores)


def _check_both(y_true: Any, y_pred: Any) -> tuple[list[str], list[str]]:
    true, pred = _check_texts(y_true, "y_true"), _check_texts(y_pred, "y_pred")
    if len(true) != len(pred):
        raise TextValueError(
            "y_true must hold a reference for each text of y_pred. Got "
            f"{len(true)} texts in y_true, but {len(pred)} in y_pred."
        )
    return true, pred


def _check_texts(y: Any, name: str) -> list[str]:
    try:
        values = read_column(y)
    except (TextTypeError, TextValueError) as error:
        raise type(error)(
            f"{name} must be a list, array or Series of str, even for a single text. "
            f"Got {describe(y)} instead."
        ) from error
    if not values:
        raise TextValueError(f"{name} is empty. A score needs at least one text.")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise TextValueError(
                f"{name}[{row}] must be a str: each text has one reference. Got "
                f"{describe(value)} instead."
            )
    return [str.__str__(value) for value in values]  # convert numpy.str_ etc.


def _import_sacrebleu(needed_by: str) -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError(
            f"{needed_by} needs the package {error.name!r}, which is not installed: "
            "pip install 'sktransformers-text[generation]'"
        ) from error
    return sacrebleu


def _fraction(result: Any) -> float:
    # Because of rounding, a perfect BLEU can exceed 100.
    return min(float(result.score) / 100, 1.0)


def _tokenizer_for(texts: list[str]) -> str:
    n_unspaced = sum(len(_UNSPACED_LETTER.findall(text)) for text in texts)
    if 2 * n_unspaced <= sum(len(_LETTER.findall(text)) for text in texts):
        return "13a"
    n_han = sum(len(_HAN_LETTER.findall(text)) for text in texts)
    return "zh" if n_han >= 0.95 * n_unspaced else "char"


def _words(text: str) -> list[str]:
    # NFC, so that composed and decomposed accents are equal.
    words: list[str] = _WORD.findall(unicodedata.normalize("NFC", text.casefold()))
    return words


def _rouge_l(reference: list[str], words: list[str]) -> float:
    # 2PR / (P + R) with P = common / len(words) and R = common / len(reference)
    n_words = len(reference) + len(words)
    return 2 * _n_common(reference, words) / n_words if n_words else 0.0


def _n_common(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel dynamic programming: each row of the table is an integer in which a bit
    is 0 where the length increases by one. See H. Hyyrö (2004), "Bit-parallel
    LCS-length computation revisited".
    """
    long, short = sorted((first, second), key=len, reverse=True)
    positions: dict[str, int] = {}
    for i, word in enumerate(long):
        positions[word] = positions.get(word, 0) | (1 << i)
    every_bit = (1 << len(long)) - 1
    row = every_bit
    for word in short:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & every_bit
    return len(long) - row.bit_count()


chrf = make_documented_scorer(chrf_score, "chrF of its generated texts")
bleu = make_documented_scorer(bleu_score, "BLEU of its generated texts")
rouge_l = make_documented_scorer(rouge_l_score, "ROUGE-L of its generated texts")
