"""Scores of written texts, such as translations and summaries.

Knows nothing of how they were written.
"""

import unicodedata
from typing import Any

import regex
from sklearn.metrics import make_scorer

from .._compat import StrOptions, validate_params
from ..exceptions import TextTypeError, TextValueError
from ..text.inputs import describe, read_column

# Those of sacrebleu that need no model from the network.
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
    """Compute chrF, the F-score of the n-grams of characters that texts share.

    Of the sequences of one to six characters, spaces left out, recall counts twice as
    much as precision [1]_. They are counted in all the texts together: this is the
    score of a corpus, not a mean over texts. No words have to be told apart, so that it
    suits any language. Computed by sacrebleu [2]_ with its defaults, and divided by
    100.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        The reference texts, one for each text.
    y_pred : list, array or Series of str, of shape (n_texts,)
        The texts that were written.

    Returns
    -------
    float
        The score, from 0 to 1, the best. Texts that are all empty score 0.

    Raises
    ------
    ImportError
        sacrebleu is not installed; the ``generation`` extra brings it.
    ValueError
        `y_true` and `y_pred` differ in their numbers of texts, have none, or hold
        something that is not a str; the message names the row.
    TypeError
        One of them is no container of texts.

    See Also
    --------
    bleu_score : Another score of translations.
    rouge_l_score : A score of summaries.
    chrf : This score as a scorer, for ``scoring=chrf``.

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
    """Compute BLEU, the precision of the n-grams of words that texts share.

    The geometric mean of the precisions of one to four words in a row, times a penalty
    if the texts are shorter than the references [1]_. They are counted in all the texts
    together: this is the score of a corpus, not a mean over texts. Computed by
    sacrebleu [2]_ with its defaults, and divided by 100.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        The reference texts, one for each text, not split into words before.
    y_pred : list, array or Series of str, of shape (n_texts,)
        The texts that were written.
    tokenize : {"auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"}, \
default="auto"
        How sacrebleu splits texts into words; scores are only to be compared where it
        is the same. "13a" is the usual way for languages that put spaces between words,
        "intl" the same with all of Unicode's punctuation, "zh" takes each Chinese
        character for a word, "char" any character, and "none" splits at spaces alone.
        "ja-mecab" and "ko-mecab" find Japanese and Korean words, with packages that
        ``pip install 'sacrebleu[ja]'`` or ``'sacrebleu[ko]'`` brings.

        "auto" is "13a", unless most letters of `y_true` are of scripts without spaces:
        then "zh" if 19 out of 20 of these are Chinese characters, and otherwise "char",
        as for Japanese or Thai. sacrebleu's tokenizers that download a model are not
        offered.

    Returns
    -------
    float
        The score, from 0 to 1, the best. Where no text has four words it is 0.

    Raises
    ------
    ImportError
        sacrebleu is not installed, which the ``generation`` extra brings, or what
        `tokenize` needs is not.
    ValueError
        `y_true` and `y_pred` differ in their numbers of texts, have none, or hold
        something that is not a str; the message names the row.
    TypeError
        One of them is no container of texts.

    See Also
    --------
    chrf_score : A score that does without words, for any language.
    rouge_l_score : A score of summaries.
    bleu : This score as a scorer, for ``scoring=bleu``.

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
        # Forced, it does not log that texts look as if they were split into words.
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

    The longest common subsequence of a text and its reference is the most words that
    both have in the same order, whatever stands between them [1]_. Precision is its
    share of the text's words, recall its share of the reference's, and the score of a
    text their harmonic mean.

    Words are runs of letters and digits, whatever their case; punctuation does not
    count. In Chinese, Japanese and other scripts without spaces each character is a
    word. There is no stemming: of English texts this is the rougeL of the package
    rouge-score with its defaults.

    Parameters
    ----------
    y_true : list, array or Series of str, of shape (n_texts,)
        The reference texts, one for each text.
    y_pred : list, array or Series of str, of shape (n_texts,)
        The texts that were written.

    Returns
    -------
    float
        The mean over texts, from 0 to 1, the best. A text without words scores 0, even
        if its reference has none either.

    Raises
    ------
    ValueError
        `y_true` and `y_pred` differ in their numbers of texts, have none, or hold
        something that is not a str; the message names the row.
    TypeError
        One of them is no container of texts.

    See Also
    --------
    chrf_score : A score of translations that goes by characters.
    bleu_score : A score of translations that goes by words.
    rouge_l : This score as a scorer, for ``scoring=rouge_l``.

    References
    ----------
    .. [1] C.-Y. Lin (2004). "ROUGE: A Package for Automatic Evaluation of Summaries".
       https://aclanthology.org/W04-1013

    Examples
    --------
    Of five words each, four are common to both and in the same order:

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
    return [str.__str__(value) for value in values]  # numpy.str_ and others


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
    # Rounding takes a perfect BLEU a little above 100.
    return min(float(result.score) / 100, 1.0)


def _tokenizer_for(texts: list[str]) -> str:
    n_unspaced = sum(len(_UNSPACED_LETTER.findall(text)) for text in texts)
    if 2 * n_unspaced <= sum(len(_LETTER.findall(text)) for text in texts):
        return "13a"
    n_han = sum(len(_HAN_LETTER.findall(text)) for text in texts)
    return "zh" if n_han >= 0.95 * n_unspaced else "char"


def _words(text: str) -> list[str]:
    # Composed, so that accents look the same however they were typed.
    words: list[str] = _WORD.findall(unicodedata.normalize("NFC", text.casefold()))
    return words


def _rouge_l(reference: list[str], words: list[str]) -> float:
    # 2PR / (P + R) with P = common / len(words) and R = common / len(reference)
    n_words = len(reference) + len(words)
    return 2 * _n_common(reference, words) / n_words if n_words else 0.0


def _n_common(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table at a time, held in the bits of an integer: a bit is 0 where
    the lengths in the row go up by one. After H. Hyyrö (2004), "Bit-parallel
    LCS-length computation revisited".
    """
    long, short = sorted((first, second), key=len, reverse=True)
    places: dict[str, int] = {}
    for i, word in enumerate(long):
        places[word] = places.get(word, 0) | (1 << i)
    every_bit = (1 << len(long)) - 1
    row = every_bit
    for word in short:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & every_bit
    return len(long) - row.bit_count()


def _make_scorer(score: Any, what: str) -> Any:
    """Return a scorer with a documentation of its own."""
    name = score.__name__.removesuffix("_score")
    scorer = make_scorer(score)
    scorer.__doc__ = f"""Score an estimator by the {what} of the texts it writes.

    To be passed as ``scoring`` to cross-validation and searches.

    Parameters
    ----------
    estimator : estimator
        Fitted; its ``predict`` returns a str for each text.
    X : sequence of shape (n_texts,)
        The texts, as the estimator takes them.
    y_true : list, array or Series of str, of shape (n_texts,)
        The reference texts.
    sample_weight : None, default=None
        There are no weights: :func:`{score.__name__}` takes none.
    **kwargs : dict
        Other metadata, if scikit-learn's metadata routing is enabled.

    Returns
    -------
    float
        The score, from 0 to 1, the best.

    See Also
    --------
    {score.__name__} : The same from texts.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktransformers.metrics import {name}
    >>> cross_val_score(generator, X, y, scoring={name})  # doctest: +SKIP
    """
    return scorer


chrf = _make_scorer(chrf_score, "chrF")
bleu = _make_scorer(bleu_score, "BLEU")
rouge_l = _make_scorer(rouge_l_score, "ROUGE-L")
