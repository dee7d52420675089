"""Token ids of texts, and the special tokens around and inside of them."""

import copy
import itertools

import numpy as np
import pytest
import transformers
from tiny_models import make_word_tokenizer
from tiny_tokenizers import (
    TOKENIZERS,
    make_bpe_of,
    make_byte_bpe,
    make_sentencepiece,
)
from tokenizers import models, pre_tokenizers, processors

from sktransformers._text.encoding import encode
from sktransformers._text.offsets import token_offsets
from sktransformers._text.tokenization import (
    SpecialTokens,
    count_dropped,
    escape_special_tokens,
    tokenize,
)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def rows_of(ragged):
    return [part.tolist() for part in np.split(ragged.values, ragged.offsets[1:-1])]


def with_special_tokens(tokenizer):
    names = [name for name in tokenizer.all_special_tokens if len(name) > 1]
    return [f"a good {name} film{name}" for name in names] + names


# Special tokens in texts


def test_special_tokens_in_a_text_are_text(tokenizer):
    texts = with_special_tokens(tokenizer)
    if not texts:
        pytest.skip("has special tokens of one character")
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    before = tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows = rows_of(tokenize(tokenizer, texts))
    assert all(special.isdisjoint(row) for row in rows)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(getattr(backend, "model", None), models.Unigram):
        split = copy.deepcopy(tokenizer)(
            texts, add_special_tokens=False, split_special_tokens=True
        )
        assert rows == split["input_ids"]
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == before
    assert tokenizer.split_special_tokens is False


def test_special_tokens_in_the_vocabulary_are_spelled():
    tokenizer = make_sentencepiece()
    text = "so </s> good"
    (row,) = rows_of(tokenize(tokenizer, [text]))
    assert tokenizer.convert_tokens_to_ids("</s>") not in row
    words = rows_of(tokenize(tokenizer, ["so", "good"]))
    assert row[: len(words[0])] == words[0]
    assert row[-len(words[1]) :] == words[1]
    assert tokenizer.convert_tokens_to_ids("s") in row


def test_the_unknown_token_in_a_text_is_text():
    tokenizer = make_byte_bpe("roberta")
    tokenizer.unk_token = "<unk>"
    (row,) = rows_of(tokenize(tokenizer, ["a <unk> film"]))
    assert tokenizer.unk_token_id not in row
    assert tokenizer.convert_tokens_to_ids(["u", "n", "k"]) == row[3:6]


def test_added_tokens_that_are_not_special_are_found():
    tokenizer = make_byte_bpe("roberta")
    tokenizer.add_tokens(["[PRICE]"])
    (row,) = rows_of(tokenize(tokenizer, ["a [PRICE] </s> film"]))
    assert row.count(tokenizer.convert_tokens_to_ids("[PRICE]")) == 1
    assert tokenizer.eos_token_id not in row


def test_special_tokens_that_are_single_characters_are_text_anyway():
    tokenizer = make_byte_bpe("gpt2")
    expected = rows_of(tokenize(tokenizer, ["so good!"]))
    tokenizer.pad_token = "!"
    assert rows_of(tokenize(tokenizer, ["so good!"])) == expected


def test_texts_with_special_tokens_leave_the_tokenizer_as_it_is(tokenizer):
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        pytest.skip("has no state")
    tokenize(tokenizer, ["a"])
    before = backend.to_str()
    tokenize(tokenizer, with_special_tokens(tokenizer))
    assert backend.to_str() == before
    assert backend.encode_special_tokens is False


def test_templates_have_special_tokens_and_the_text_in_them_has_none(tokenizer):
    name = max(tokenizer.all_special_tokens, key=len)
    if len(name) == 1:
        pytest.skip("has special tokens of one character")
    token_id = tokenizer.convert_tokens_to_ids(name)
    text = escape_special_tokens(tokenizer, f"a {name} film")
    assert text == f"a {name[0]} {name[1:]} film"
    rows = tokenize(tokenizer, [f"{name}{text}"], split_special_tokens=False)
    if token_id != tokenizer.unk_token_id:
        assert rows.values.tolist().count(token_id) == 1
    assert escape_special_tokens(tokenizer, "a film") == "a film"


def test_tokens_of_texts_with_special_tokens_are_located():
    for tokenizer in (make_byte_bpe("roberta"), make_sentencepiece()):
        text = "so </s> good"
        starts, ends, offsets = token_offsets(tokenizer, ["a", text])
        spans = [*map(range, starts, ends)][offsets[1] :]
        assert offsets[2] - offsets[1] == len(tokenize(tokenizer, [text]).values)
        covered = {i for span in spans for i in span}
        assert covered >= {i for i, sign in enumerate(text) if sign != " "}


def test_a_backend_with_parts_in_python():
    tokenizer = make_word_tokenizer("bert")
    expected = rows_of(tokenize(tokenizer, ["a [ SEP] film"]))
    part = pre_tokenizers.PreTokenizer.custom(Split())
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, part])
    with pytest.raises(Exception, match="Custom PreTokenizer cannot be serialized"):
        backend.to_str()
    assert rows_of(tokenize(tokenizer, ["a [SEP] film"])) == expected


class Split:
    def pre_tokenize(self, text):
        text.split(lambda _, piece: piece.split(" ", "removed"))


def test_a_slow_tokenizer_that_looks_up_whole_words(tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\n[SEP]\n[PAD]\n[CLS]\n[MASK]\na\nSEP\n")
    tokenizer = transformers.models.bert.tokenization_bert_legacy.BertTokenizerLegacy(
        str(tmp_path / "vocab.txt"), do_lower_case=False
    )
    assert tokenizer.tokenize("a [SEP]", split_special_tokens=True)[1] == "[SEP]"
    (row,) = rows_of(tokenize(tokenizer, ["a [SEP] a"]))
    assert row == tokenizer.convert_tokens_to_ids(["a", "[UNK]", "SEP", "[UNK]", "a"])


# Texts without tokens


def test_special_tokens_are_found_by_a_text_that_the_tokenizer_knows():
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    for letters in ("ab", "一二", "ꙮꙭ"):
        special = SpecialTokens.of(make_bpe_of(letters, **names))
        assert (special.prefix, special.separator, special.suffix) == ([1], [2], [2])
        assert special.single_types == [0, 0, 0]
        assert special.pair_types == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"pad_token": "<pad>", "eos_token": "</s>"}, [1]),
        ({"pad_token": "<pad>", "bos_token": "<s>"}, [1]),
        ({"pad_token": "<pad>", "unk_token": "<unk>"}, [1]),
        ({"pad_token": "<pad>"}, [0]),
    ],
)
def test_a_text_without_tokens_is_one_token_but_not_of_padding(names, expected):
    assert SpecialTokens.of(make_bpe_of("ab", **names)).empty == expected


def test_texts_that_a_tokenizer_drops_are_counted():
    tokenizer = make_bpe_of("ab ", pad_token="[PAD]")
    texts = ["ab", "", " ", "\n", "xyz", "é", "xa"]
    assert count_dropped(texts, tokenize(tokenizer, texts).lengths) == 2


# Token type ids


def make_tokenizer_with_types(single, pair):
    tokenizer = make_word_tokenizer("bert")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


@pytest.mark.parametrize(
    ("single", "pair"),
    [
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        ("[CLS]:2 $A:0 [SEP]:0", "[CLS]:2 $A:0 [SEP]:0 $B:1 [SEP]:1"),
        ("$A [SEP] [CLS]:2", "$A [SEP] $B:1 [SEP]:1 [CLS]:2"),
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP]:1 $B:1 [SEP]:1"),
        ("[CLS] $A", "[CLS] $A [CLS]:1 $B:1"),
        ("$A:1", "$A:1 [SEP]:0 $B:2"),
    ],
    ids=["bert", "funnel", "xlnet", "two separators", "no suffix", "bare"],
)
def test_token_types_are_those_of_the_tokenizer(single, pair):
    tokenizer = make_tokenizer_with_types(single, pair)
    columns = ["so good", "", "a film"], ["the plot", "so sad so", "x"]
    for n_columns in (1, 2):
        texts = columns[:n_columns]
        encoding = encode(
            [tokenize(tokenizer, column) for column in texts],
            SpecialTokens.of(tokenizer),
            max_length=99,
            window=False,
        )
        expected = tokenizer(*texts)
        types = list(itertools.chain(*expected["token_type_ids"]))
        if n_columns == 1 and not SpecialTokens.of(tokenizer).count(1):
            types.insert(2, types[0])  # the token of the empty text
        else:
            assert rows_of(encoding.ids) == expected["input_ids"]
        assert (encoding.type_ids is None) == (not any(types))
        if any(types):
            assert encoding.type_ids.tolist() == types


# The side of truncation


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_are_truncated_on_the_tokenizers_side(side, tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.truncation_side = side
    columns = [
        ["a good film " * 9, "so sad", "the plot " * 8],
        ["so very bad " * 2] * 3,
    ]
    # Those in Python leave an odd token to the first text, GPT-2 has no separator.
    pairs = tokenizer.is_fast and len(tokenizer("a", "b")["input_ids"]) > 2
    for texts in (columns[:1], columns)[: 1 + pairs]:
        reference = copy.deepcopy(tokenizer)
        encoding = encode(
            [tokenize(tokenizer, column) for column in texts],
            SpecialTokens.of(tokenizer),
            max_length=14,
            window=False,
            truncation_side=tokenizer.truncation_side,
        )
        expected = reference(*texts, truncation=True, max_length=14)["input_ids"]
        assert rows_of(encoding.ids) == expected
        assert encoding.n_truncated > 0
