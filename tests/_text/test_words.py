"""Words of texts: what X may be, where strings are split, where each word is read."""

import re
from itertools import islice

import numpy as np
import pandas as pd
import polars as pl
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_sentences, make_word_tokenizer
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from sktransformers._text.encoding import encode
from sktransformers._text.ragged import Ragged, offsets_of
from sktransformers._text.tokenization import SpecialTokens
from sktransformers._text.words import SpaceMarks, Words, check_words, encode_words
from sktransformers.exceptions import TextTypeError, TextValueError

UNLIMITED = 10**6


def ragged(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


# What X may be

SOME = [["a", "good", "film"], ["so", "bad"]]
SQUARE = [["so", "good"], ["so", "bad"]]


@pytest.mark.parametrize(
    ("X", "rows"),
    [
        (SOME, SOME),
        (tuple(map(tuple, SOME)), SOME),
        (ragged(SOME), SOME),
        (ragged([np.array(row) for row in SOME]), SOME),
        (ragged([np.array(row, dtype=object) for row in SOME]), SOME),
        (np.array(SQUARE), SQUARE),
        (np.array(SQUARE, dtype=object), SQUARE),
        (pd.Series(SOME, index=[7, 0]), SOME),
        ([pd.Series(row, index=range(9, 9 - len(row), -1)) for row in SOME], SOME),
        (pl.Series(SOME), SOME),
        ([pl.Series(row) for row in SOME], SOME),
        (pd.DataFrame({"words": SOME}), SOME),
        (pl.DataFrame({"words": SOME}), SOME),
        ([[], ["so"], ()], [[], ["so"], []]),
        ([[], []], [[], []]),
        ([["New York", " ", ""]], [["New York", " ", ""]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_lists_of_words_in_every_container(X, rows):
    words = check_words(X)
    assert words.rows == rows
    assert all(type(word) is str for row in words.rows for word in row)
    assert all(type(row) is list for row in words.rows)
    assert words.lengths.tolist() == [len(row) for row in rows]
    assert len(words) == len(rows)
    assert words.texts is None


TEXTS = ["a good film", "", "so bad"]


@pytest.mark.parametrize(
    "X",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pd.Series(TEXTS, index=[1, 2, 0]),
        pd.Series(TEXTS, dtype="string"),
        pd.Series(TEXTS, dtype="category"),
        pl.Series(TEXTS),
        pd.DataFrame({"text": TEXTS}),
        pl.DataFrame({"text": TEXTS}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_strings_in_every_container(X):
    words = check_words(X)
    assert words.rows == [["a", "good", "film"], [], ["so", "bad"]]
    assert words.texts == TEXTS
    assert words.spans == [[(0, 1), (2, 6), (7, 11)], [], [(0, 2), (3, 6)]]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a film", TextValueError, "single str"),
        (b"a film", TextValueError, "single bytes"),
        (None, TextTypeError, "NoneType"),
        (3, TextTypeError, "int"),
        ({"a": ["film"]}, TextTypeError, "dict"),
        (iter([["a"]]), TextTypeError, "only once"),
        (np.array("a"), TextTypeError, "0-dimensional"),
        ([], TextValueError, "empty"),
        (pd.DataFrame({"a": ["b"], "c": ["d"]}), TextValueError, "2 columns"),
        ([["a"], "film"], TextValueError, r"X\[1\] must be a list.*'film'.*not both"),
        (["film", ["a"]], TextValueError, r"X\[1\] must be a str.*list of 1"),
        ([["a"], None], TextValueError, r"X\[1\] must be a list of words. Got None"),
        (["a", None], TextValueError, r"X\[1\] must be a str like X\[0\]. Got None"),
        (["a", float("nan")], TextValueError, r"X\[1\] .*nan \(float\)"),
        (pd.Series(["a", None], dtype="string"), TextValueError, r"X\[1\] .*NA"),
        ([None, "a"], TextValueError, r"X\[0\] .*None"),
        ([["a"], {"b"}], TextValueError, r"X\[1\] .*set"),
        ([["a"], ["b", 3]], TextValueError, r"X\[1\]\[1\] .*3 \(int\)"),
        ([["a", None]], TextValueError, r"X\[0\]\[1\] .*None"),
        ([["a"], [b"b"]], TextValueError, r"X\[1\]\[0\] .*bytes"),
        ([[["a"]]], TextValueError, r"X\[0\]\[0\] .*list of 1 items"),
        (np.zeros((2, 3)), TextValueError, r"X\[0\]\[0\] .*0\.0 \(float\)"),
        (np.zeros((2, 2, 2), dtype=str), TextValueError, r"X\[0\] .*ndarray"),
    ],
)
def test_what_holds_no_words_is_refused_by_row(X, error, message):
    with pytest.raises(error, match=message):
        check_words(X)


@pytest.mark.parametrize("pattern", ["(", "[a", "*", r"\p{Klingon}"])
def test_a_word_pattern_that_is_none(pattern):
    with pytest.raises(ValueError, match=f"word_pattern={re.escape(repr(pattern))}"):
        check_words(["a film"], pattern)


def test_ones_own_word_pattern():
    words = check_words(["a-b, c", ""], r"[^ ,]*")  # what is empty is no word
    assert words.rows == [["a-b", "c"], []]
    assert words.spans == [[(0, 3), (5, 6)], []]


# Where strings are split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ada's cat, 3rd.", "Ada|'|s|cat|,|3rd|."),
        ("snake_case a-b", "snake_case|a|-|b"),
        ("東京タワー。Hello世界", "東|京|タ|ワ|ー|。|Hello|世|界"),
        ("時々〇ヶ\U00020000x", "時|々|〇|ヶ|\U00020000|x"),
        ("か\u3099ﾀﾞ葛\U000e0100字\ufe00", "か\u3099|ﾀﾞ|葛\U000e0100|字\ufe00"),
        ("กำลังน้ำที่เธอ", "กำ|ลั|ง|น้ำ|ที่|เ|ธ|อ"),
        ("नमस्ते दुनिया।", "नमस्ते|दुनिया|।"),
        ("می‌خواهم کتاب", "می‌خواهم|کتاب"),
        ("한국어 글", "한국어|글"),
        ("cafe\u0301 e\u0301\u0302x", "cafe\u0301|e\u0301\u0302x"),
        ("👩‍🚀👍🏽 🇦🇨🇫🇷❤️x", "👩‍🚀|👍🏽|🇦🇨|🇫🇷|❤️|x"),
        ("#️⃣1️⃣", "#️⃣|1️⃣"),
        ("\x00a\u200bb", "\x00|a|\u200b|b"),
        ("\ud800a", "\ud800|a"),
        (" \t\r\n\u00a0\u3000\u2028", ""),
        (" a \n b\u3000c ", "a|b|c"),
        ("\u0301a", "\u0301a"),
    ],
    ids=ascii,
)
def test_the_default_word_pattern(text, words):
    assert "|".join(check_words([text]).rows[0]) == words


ODD = "aZé1_ \n\t\u00a0'.-中文ーカ゛ﾞกำ้\u0301\u3099\u0903नि\u094d\u200b\u200c\u200d"
ODD += "👩🚀👍🏽🇦🇨❤\ufe0f\u20e3\x00\x1c\ud800한\u1100\u1161\U000e0067\U00020000"


@given(st.text(st.sampled_from(ODD) | st.characters()))
@settings(max_examples=300, deadline=None)
def test_every_sign_is_in_exactly_one_word(text):
    words = check_words([text])
    assert [text[start:end] for start, end in words.spans[0]] == words.rows[0]
    ends = [0, *(end for _, end in words.spans[0])]
    starts = [*(start for start, _ in words.spans[0]), len(text)]
    between = "".join(text[a:b] for a, b in zip(ends, starts, strict=True))
    assert between == "" or between.isspace()
    assert all(a <= b for a, b in zip(ends, starts, strict=True))
    assert not any(word in " \n\t\u00a0" for word in words.rows[0])


def test_words_are_located_in_their_texts():
    words = check_words(["", "👩‍🚀 São Paulo\u0301, ok"])
    assert words.locate(1, 1, 3) == {"text": "São Paulo\u0301", "start": 4, "end": 14}
    assert words.take([1]).locate(0, 0, 1) == {"text": "👩‍🚀", "start": 0, "end": 3}
    words = check_words([[], ["in", "New", "York"]])
    assert words.locate(1, 1, 3) == {"text": "New York", "start": 1, "end": 3}
    assert words.take([1, 0, 1]).rows == [words.rows[1], [], words.rows[1]]


def test_spaces_are_known_of_where_the_pattern_skips_other_signs():
    words = check_words([" a-b, c", "d\te"], r"\w+")
    assert words.is_spaced() == [True, False, True, False, True]
    assert check_words([["a", "b"], [], ["c"]]).is_spaced() == [False, True, False]


# Windows

N_TOKENS = 1200
FIRST = 0x4E00  # of many letters of one kind


def make_character_tokenizer(n_prefix=1, n_suffix=1):
    """Return a tokenizer of single characters, each with an id of its own."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    alphabet = [*special, *"ab", *map(chr, range(FIRST, FIRST + N_TOKENS))]
    ids = {token: i for i, token in enumerate(alphabet)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    template = " ".join(["[CLS]"] * n_prefix + ["$A"] + ["[SEP]"] * n_suffix)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    )


SIZES = st.lists(st.lists(st.integers(1, 12), max_size=20), min_size=1, max_size=5)
TOKENIZERS = [make_character_tokenizer(*n) for n in ((1, 1), (1, 0), (0, 0), (2, 3))]


@given(
    SIZES,
    st.one_of(st.integers(1, 6), st.integers(1, 40)),
    st.sampled_from(TOKENIZERS),
)
@settings(max_examples=150, deadline=None)
def test_each_word_is_read_where_most_is_seen_on_both_sides(sizes, capacity, tokenizer):
    characters = map(chr, range(FIRST, FIRST + N_TOKENS))
    rows = [["".join(islice(characters, n)) for n in row] for row in sizes]
    special = SpecialTokens.of(tokenizer)
    max_length = capacity + special.count(1)
    words = Words(rows)
    encoding = encode_words(words, tokenizer, special, max_length=max_length)
    assert encoding.n_texts == len(rows)
    assert encoding.n_truncated == 0
    assert encoding.lengths.max(initial=0) <= max_length

    # In order, and at its first token.
    starts = np.repeat(encoding.ids.offsets[:-1], encoding.output_counts)
    read = encoding.ids.values[starts + encoding.positions.values]
    flat = [word for row in rows for word in row]
    assert read.tolist() == tokenizer.convert_tokens_to_ids([word[0] for word in flat])
    sample_index = np.repeat(encoding.sample_index, encoding.output_counts)
    assert (
        sample_index.tolist() == np.repeat(np.arange(len(rows)), words.lengths).tolist()
    )
    assert (encoding.output_counts > 0).all()

    # In the window, of all that there are, where it sees most where it sees less.
    ids = [tokenizer.convert_tokens_to_ids([*"".join(row)]) for row in rows]
    column = Ragged(np.concatenate(ids).astype(int), offsets_of([len(i) for i in ids]))
    every = encode([column], special, max_length=max_length, window=True)

    def least_context(window_ids, token, text):
        tokens = window_ids[len(special.prefix) : len(window_ids) - len(special.suffix)]
        place = np.flatnonzero(tokens == token)
        if not len(place):
            return -1
        left, right = place[0], len(tokens) - 1 - place[0]
        if tokens[0] == text[0]:
            left = UNLIMITED
        if tokens[-1] == text[-1]:
            right = UNLIMITED
        return min(left, right)

    every_row = np.split(every.ids.values, every.ids.offsets[1:-1])
    chosen = np.repeat(np.arange(len(encoding)), encoding.output_counts)
    chosen_rows = np.split(encoding.ids.values, encoding.ids.offsets[1:-1])
    for token, window, owner in zip(read, chosen, sample_index, strict=True):
        rivals = [every_row[i] for i in np.flatnonzero(every.sample_index == owner)]
        most = max(least_context(rival, token, ids[owner]) for rival in rivals)
        assert least_context(chosen_rows[window], token, ids[owner]) == most >= 0


def encode_with(tokenizer, X, max_length=UNLIMITED, pattern=r"\S+"):
    words = check_words(X, pattern)
    special = SpecialTokens.of(tokenizer)
    return encode_words(words, tokenizer, special, max_length=max_length)


def test_texts_without_words_are_in_no_window():
    tokenizer = make_word_tokenizer("bert")
    encoding = encode_with(tokenizer, [[], ["film"], [], []])
    assert encoding.sample_index.tolist() == [1]
    assert encoding.n_texts == 4
    nothing = encode_with(tokenizer, [[], []])
    assert (len(nothing), nothing.n_texts, nothing.n_outputs) == (0, 2, 0)


@pytest.mark.parametrize("word", ["", " ", "\u200b", "\x00", "\x07", "\ufffe", "กำ"])
def test_words_that_give_no_piece_count(word):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))  # knows no other
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>"
    )
    assert tokenizer(word)["input_ids"] == []
    encoding = encode_with(tokenizer, [["a", word, "b"], [word], [word, word]])
    assert encoding.ids.values.tolist() == [0, 2, 1, 2, 2, 2]
    assert encoding.positions.values.tolist() == [0, 1, 2, 0, 0, 1]


# Tokenizers

SENTENCES = [
    *make_sentences(100)[0],
    "我住在北京。",
    "北京是中国的首都。",
    "她去过上海和北京吗？",
    "上海很大。",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
ENDS = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
)
NAMES = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def wrap(tokenizer):
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **NAMES)


def make_bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=90, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = ENDS
    return wrap(tokenizer)


def make_byte_bpe(*, add_prefix_space=False):
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.pre_tokenizer = pieces
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=add_prefix_space
    )
    return wrap(tokenizer)


def make_sentencepiece(prepend_scheme):
    tokenizer = Tokenizer(models.Unigram())
    pieces = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = ENDS
    return wrap(tokenizer)


def make_llama():
    """Return a tokenizer of which the normalizer, not a pre-tokenizer, marks spaces."""
    alphabet = sorted({*"".join(SENTENCES).replace(" ", "▁"), "x"})
    ids = {token: i for i, token in enumerate([*SPECIAL, *alphabet, "▁a", "▁f", "il"])}
    merges = [("▁", "a"), ("▁", "f"), ("i", "l")]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.post_processor = ENDS
    return wrap(tokenizer)


MAKERS = {
    "bert": (make_bert, False),
    "whole words": (lambda: make_word_tokenizer("roberta"), False),
    "roberta": (make_byte_bpe, True),
    "roberta, space first": (lambda: make_byte_bpe(add_prefix_space=True), False),
    "sentencepiece, first": (lambda: make_sentencepiece("first"), False),
    "sentencepiece, always": (lambda: make_sentencepiece("always"), False),
    "sentencepiece, never": (lambda: make_sentencepiece("never"), True),
    "llama": (make_llama, False),
    "byt5, in Python": (transformers.ByT5Tokenizer, True),
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    make, is_spaced = MAKERS[request.param]
    tokenizer = make()
    assert SpaceMarks.of(tokenizer).in_text is is_spaced
    return tokenizer


def test_words_of_running_text_get_the_tokenizers_own_ids(tokenizer):
    texts = [*SENTENCES[:20], "The ACTOR, zebra's film!", "one", "我住在 北京 x", ""]
    encoding = encode_with(tokenizer, texts)
    expected = [tokenizer(text)["input_ids"] for text in texts if text]
    rows = np.split(encoding.ids.values, encoding.ids.offsets[1:-1])
    assert [row.tolist() for row in rows] == expected
    assert encoding.output_counts.tolist() == [len(t.split()) for t in texts if t]

    lists = encode_with(tokenizer, [text.split() for text in texts])
    assert np.array_equal(lists.ids.values, encoding.ids.values)
    assert np.array_equal(lists.positions.values, encoding.positions.values)


def test_each_word_is_read_at_its_first_token(tokenizer):
    text = "the story of zebra's music"
    encoding = encode_with(tokenizer, [text])
    prefix = len(SpecialTokens.of(tokenizer).prefix)
    words = text.split()
    until = [" ".join(words[:n]) for n in range(5)]
    sizes = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in until]
    positions = encoding.positions.values.tolist()
    tokens = tokenizer.convert_ids_to_tokens(encoding.ids.values.tolist())
    for read, size in zip(positions, sizes, strict=True):
        skipped = tokens[prefix + size : read]
        assert skipped in ([], ["▁"], ["Ġ"], [" "])
        assert tokens[read] not in ("▁", "Ġ", " ")


@pytest.mark.parametrize("kind", ["first", "always"])
def test_characters_are_read_behind_the_marker_of_a_space(kind):
    tokenizer = make_sentencepiece(kind)
    words = list("北京是中国的")
    encoding = encode_with(tokenizer, [words, words])
    read = encoding.ids.values[
        encoding.positions.values
        + np.repeat(encoding.ids.offsets[:-1], encoding.positions.lengths)
    ]
    pieces = tokenizer.convert_ids_to_tokens(read.tolist())
    assert [piece.removeprefix("▁") for piece in pieces] == words * 2


def test_a_words_tokens_do_not_depend_on_its_neighbours(tokenizer):
    together = encode_with(tokenizer, [["the", "naïve", "\u200b", "film"]] * 2)
    alone = [
        encode_with(tokenizer, [["a", word]]).ids.values.tolist()
        for word in ("naïve", "\u200b", "film")
    ]
    n_ends = SpecialTokens.of(tokenizer).count(1)
    n_first = encode_with(tokenizer, [["a"]]).lengths[0]
    sizes = [len(ids) - n_first for ids in alone]
    start = encode_with(tokenizer, [["the"]]).lengths[0]
    assert together.lengths.tolist() == [start + sum(sizes)] * 2
    assert n_ends < n_first
    assert min(sizes) >= 1


def test_settings_of_a_users_own_call_are_forgotten():
    tokenizer = make_bert()
    words = [["the", "lovely", "music"]]
    expected = encode_with(tokenizer, words)
    tokenizer(["a film", "a"], padding=True, truncation=True, max_length=3)
    assert tokenizer.backend_tokenizer.truncation is not None
    assert np.array_equal(encode_with(tokenizer, words).ids.values, expected.ids.values)
