"""Sources become prompts, and targets what is to be written after them."""

import numpy as np
import pytest
from tiny_models import make_word_tokenizer

from sktransformers._text.prompts import (
    PromptEncoder,
    cut_blocks,
    encode_continuations,
    encode_pairs,
)
from sktransformers._text.ragged import Ragged
from sktransformers._text.tokenization import SpecialTokens
from sktransformers.exceptions import TextValueError

START, PAD = 90, 91


def ragged(*rows):
    return Ragged.from_rows(list(row) for row in rows)


def rows_of(values, counts):
    return [row.tolist() for row in np.split(values, np.cumsum(counts)[:-1])]


def read_before(padded, place):
    """Return the ids up to a position that counts through a padded rectangle."""
    ids = padded.get("decoder_input_ids", padded["input_ids"])
    row, column = divmod(place, ids.shape[1])
    return row, ids[row, : column + 1].tolist()


# Continuations


def test_each_token_of_a_target_is_predicted_from_all_before_it():
    encoding, ids = encode_continuations(
        ragged([1, 2, 3], [4], [5, 6]), ragged([7, 8], [9], [10, 11, 12]), pad_id=PAD
    )
    assert ids.tolist() == [7, 8, 9, 10, 11, 12]
    assert rows_of(encoding.ids.values, encoding.lengths) == [
        [1, 2, 3, 7],
        [4],
        [5, 6, 10, 11],
    ]
    padded = encoding.pad(np.array([0, 1, 2]))
    assert [read_before(padded, place) for place in padded["positions"]] == [
        (0, [1, 2, 3]),
        (0, [1, 2, 3, 7]),
        (1, [4]),
        (2, [5, 6]),
        (2, [5, 6, 10]),
        (2, [5, 6, 10, 11]),
    ]
    assert padded["input_ids"][1].tolist() == [4, PAD, PAD, PAD]
    assert padded["attention_mask"].sum(axis=1).tolist() == [4, 1, 4]


def test_without_a_prompt_the_first_token_is_not_predicted():
    encoding, ids = encode_continuations(
        ragged([], [1]), ragged([2, 3, 4], [5]), pad_id=PAD
    )
    assert ids.tolist() == [3, 4, 5]
    assert encoding.output_counts.tolist() == [2, 1]
    assert encoding.ids.values.tolist() == [2, 3, 1]


def test_chosen_texts_keep_their_tokens():
    encoding, ids = encode_continuations(
        ragged([1], [2, 3], [4]), ragged([5], [6, 7], [8, 9]), pad_id=PAD
    )
    kept = encoding.take(np.array([0, 2]))
    assert kept.ids.values.tolist() == [1, 4, 8]
    assert ids[encoding.outputs_of(np.array([0, 2]))].tolist() == [5, 8, 9]
    assert kept.sample_index.tolist() == [0, 1]
    assert kept.n_texts == 2


# Pairs


def test_a_decoder_starts_by_itself_and_reads_what_it_wrote():
    encoding, ids = encode_pairs(
        ragged([1, 2, 3], [4]),
        ragged([7, 8], [9, 10, 11]),
        start_id=START,
        pad_id=PAD,
        n_truncated=1,
    )
    assert ids.tolist() == [7, 8, 9, 10, 11]
    padded = encoding.pad(np.array([0, 1]))
    assert padded["input_ids"].tolist() == [[1, 2, 3], [4, PAD, PAD]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded["decoder_input_ids"].tolist() == [[START, 7, PAD], [START, 9, 10]]
    assert padded["decoder_attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert padded["positions"].tolist() == [0, 1, 3, 4, 5]
    assert encoding.lengths.tolist() == [5, 4]
    assert (len(encoding), encoding.n_texts, encoding.n_truncated) == (2, 2, 1)


def test_chosen_pairs_keep_both_sides():
    encoding, _ = encode_pairs(
        ragged([1], [2, 3], [4]),
        ragged([5], [6, 7], [8, 9]),
        start_id=START,
        pad_id=PAD,
    )
    padded = encoding.take(np.array([1, 2])).pad(np.array([0, 1]))
    assert padded["input_ids"].tolist() == [[2, 3], [4, PAD]]
    assert padded["decoder_input_ids"].tolist() == [[START, 6], [START, 8]]
    assert encoding.outputs_of(np.array([1])).tolist() == [1, 2]


# Blocks


@pytest.mark.parametrize("size", [2, 3, 4, 7, 50])
def test_blocks_predict_each_token_but_a_texts_first_once(size):
    rng = np.random.default_rng(0)
    texts = [rng.integers(1000, size=n).tolist() for n in (1, 2, 3, 4, 7, 8, 9, 13, 30)]
    blocks, sample_index = cut_blocks(ragged(*texts), size)
    assert blocks.lengths.max() <= size
    none = Ragged(np.empty(0, np.int32), np.zeros(len(blocks) + 1, dtype=np.int64))
    encoding, ids = encode_continuations(none, blocks, pad_id=PAD)
    counts = np.bincount(sample_index, encoding.output_counts, minlength=len(texts))
    assert rows_of(ids, counts.astype(int)) == [text[1:] for text in texts]
    # What is read before the first predicted token is of the same text.
    for block, owner in zip(
        rows_of(blocks.values, blocks.lengths), sample_index, strict=True
    ):
        text = texts[owner]
        assert any(text[i : i + len(block)] == block for i in range(len(text)))


# Cutting


@pytest.fixture(scope="module")
def tokenizer():
    return make_word_tokenizer("bert")


def prompts(tokenizer, template, texts, limit, *, special=True):
    prompt_encoder = PromptEncoder(
        tokenizer,
        lambda text: template.replace("{text}", text),
        SpecialTokens.of(tokenizer) if special else None,
    )
    rows, was_cut = prompt_encoder.encode(texts, np.full(len(texts), limit))
    ids = [row.tolist() for row in np.split(rows.values, rows.offsets[1:-1])]
    return [tokenizer.decode(row) for row in ids], was_cut.tolist()


def test_a_long_text_is_cut_at_its_end_and_what_surrounds_it_stays(tokenizer):
    texts = ["a b c d e f g h i j", "a b"]
    got, was_cut = prompts(tokenizer, "film {text} so quite", texts, 9)
    assert got == [
        "[CLS] film a b c d so quite [SEP]",
        "[CLS] film a b so quite [SEP]",
    ]
    assert was_cut == [True, False]


@pytest.mark.parametrize("limit", range(5, 16))
def test_a_cut_prompt_is_as_long_as_there_is_room(limit, tokenizer):
    (got,), (was_cut,) = prompts(
        tokenizer, "film {text} so", ["a b c d e f g h i j"], limit
    )
    assert len(got.split()) == min(limit, 14)
    assert was_cut == (limit < 14)


def test_no_room_for_any_text_is_an_error(tokenizer):
    with pytest.raises(TextValueError, match="takes 4 tokens before any text"):
        prompts(tokenizer, "film {text} so", ["a b c"], 3)
    got, _ = prompts(tokenizer, "film {text} so", ["a b c"], 4)
    assert got == ["[CLS] film so [SEP]"]


def test_a_text_is_cut_between_characters():
    tokenizer = make_byte_tokenizer()
    text = "你好" * 10
    for limit in range(4, 40):
        prompt_encoder = PromptEncoder(
            tokenizer, lambda text: f"<{text}>", SpecialTokens.of(tokenizer)
        )
        rows, (was_cut,) = prompt_encoder.encode([text], np.array([limit]))
        got = tokenizer.decode(rows.values.tolist())
        assert was_cut
        assert got.startswith("<")
        assert got.endswith(">")
        assert text.startswith(got[1:-1])
        assert len(got[1:-1]) == (limit - 2) // 3


def test_what_a_tokenizer_changes_is_cut_where_it_stood(tokenizer):
    # Lowered, unknown and set apart: a text's own characters are counted all the same.
    text = "Film,good GOOD 你 bad-sad"
    (got,), _ = prompts(tokenizer, "{text}", [text], 7)
    assert got == "[CLS] film [UNK] good good [UNK] [SEP]"


def make_byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}
    backend = Tokenizer(models.BPE(ids, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
