"""Tag schemes: which one it is, what may follow what, and the entities in the tags."""

import itertools
import random
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities
from tiny_taggers import CLOSED

from sktransformers.metrics._schemes import (
    SCHEMES,
    TagTable,
    allowed_transitions,
    encode_tags,
    find_entities,
    has_prefixes,
    scheme_of,
    split_tag,
)

LETTERS = {"IO": "IO", "IOB1": "IOB", "BIO": "IOB", "BIOES": "IOBES", "BILOU": "IOBLU"}
SEQEVAL = {"IOB1": IOB1, "BIO": IOB2, "BIOES": IOBES, "BILOU": BILOU}
TYPES = ["LOC", "PER", "PER-NAME"]


def random_texts(scheme, n_texts, seed=0):
    """Tags of the scheme's letters in any order, so most texts are malformed."""
    rng = random.Random(seed)
    tags = ["O", *(f"{p}-{t}" for p in LETTERS[scheme] if p != "O" for t in TYPES)]
    return [rng.choices(tags, k=rng.randrange(13)) for _ in range(n_texts)]


def detect_scheme(texts):
    return scheme_of(encode_tags(texts, "tags"))


def spelled(entities, scheme):
    """Write a text of (type or None, length) in the scheme; None is outside."""
    tags, before = [], None
    for kind, length in entities:
        if kind is None:
            tags += ["O"] * length
        elif scheme in ("IO", "IOB1"):
            first = "B" if scheme == "IOB1" and before == kind else "I"
            tags += [f"{first}-{kind}"] + [f"I-{kind}"] * (length - 1)
        elif scheme == "BIO":
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        else:
            inside, last, single = CLOSED[scheme]
            inner = [f"{inside}-{kind}"] * (length - 2)
            tags += (
                [f"{single}-{kind}"]
                if length == 1
                else [f"B-{kind}", *inner, f"{last}-{kind}"]
            )
        before = kind
    return tags


def found(texts, scheme, *, strict=False):
    encoded = encode_tags(texts)
    table = TagTable(encoded.classes, scheme)
    spans = find_entities(encoded.codes, encoded.offsets, table, strict=strict)
    types = [table.types[i] for i in spans.type]
    rows = zip(
        spans.text.tolist(),
        types,
        spans.start.tolist(),
        spans.end.tolist(),
        strict=True,
    )
    return list(rows)


def as_bioes(tags):
    letters = {"L": "E", "U": "S"}
    return [letters.get(tag[0], tag[0]) + tag[1:] for tag in tags]


@pytest.mark.parametrize("scheme", LETTERS)
def test_any_tags_are_read_as_seqeval_reads_them(scheme):
    texts = random_texts(scheme, 10_000)
    expected = [
        (i, kind, first, last + 1)
        for i, tags in enumerate(texts)
        # seqeval reads L and U in its strict mode only.
        for kind, first, last in get_entities(as_bioes(tags))
    ]
    assert len(expected) > 10_000
    assert found(texts, scheme) == expected
    assert found(texts, None) == expected


@pytest.mark.parametrize("scheme", SEQEVAL)
def test_strict_reading_is_seqevals(scheme):
    texts = random_texts(scheme, 10_000, seed=1)
    expected = [
        (entity.sent_id, entity.tag, entity.start, entity.end)
        for entities in Entities(texts, SEQEVAL[scheme]).entities
        for entity in entities
    ]
    assert len(expected) > 10_000
    assert found(texts, scheme, strict=True) == expected


def test_the_default_mode_of_seqeval_loses_entities_of_bilou():
    # Why the test above translates. If this fails, seqeval has learnt BILOU.
    tags = ["U-PER", "B-LOC", "L-LOC", "U-LOC"]
    entities = [("PER", 0, 0), ("LOC", 1, 2), ("LOC", 3, 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert get_entities(tags) != entities
    assert get_entities(as_bioes(tags)) == entities


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("scheme", ["IO", "plain"])
def test_without_beginnings_an_entity_is_a_run_of_one_tag(scheme, strict):
    rng = np.random.default_rng(0)
    prefix = "I-" if scheme == "IO" else ""
    tags = np.array(["O", *(prefix + t for t in TYPES)], dtype=object)
    texts = [tags[rng.integers(0, 4, rng.integers(0, 9))] for _ in range(2000)]
    expected = []
    for i, text in enumerate(texts):
        word = 0
        for tag, run in itertools.groupby(text):
            length = len(list(run))
            if tag != "O":
                expected.append((i, tag.removeprefix("I-"), word, word + length))
            word += length
    assert found(texts, scheme, strict=strict) == expected


@pytest.mark.parametrize("empty", [[[]], [[], []], [], [["O"], [], ["O"]]])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("strict", [False, True])
def test_nothing_is_found_in_nothing(empty, scheme, strict):
    assert found(empty, scheme, strict=strict) == []


def test_entities_end_with_their_text_and_empty_texts_count():
    texts = [[], ["O", "B-A"], [], ["I-A", "I-A"], [], []]
    assert found(texts, "BIO") == [(1, "A", 1, 2), (3, "A", 0, 2)]
    assert found(texts, "BIO", strict=True) == [(1, "A", 1, 2)]


@pytest.mark.parametrize("scheme", ["BILOU", "BMES", "BMEWO"])
@pytest.mark.parametrize("strict", [False, True])
def test_schemes_of_other_letters_are_read_like_bioes(scheme, strict):
    texts = random_texts("BIOES", 300)
    letters = str.maketrans("IES", CLOSED[scheme])
    spelled = [[tag[0].translate(letters) + tag[1:] for tag in tags] for tags in texts]
    expected = found(texts, "BIOES", strict=strict)
    assert found(spelled, scheme, strict=strict) == expected
    assert len(expected) > 100


def test_bare_prefixes_have_the_type_underscore():
    assert found([["B", "I", "O", "B"]], "BIO") == [(0, "_", 0, 2), (0, "_", 3, 4)]
    assert get_entities(["B", "I", "O", "B"]) == [("_", 0, 1), ("_", 3, 3)]


def test_a_strict_reading_needs_a_scheme():
    encoded = encode_tags([["B-A"]])
    table = TagTable(encoded.classes, None)
    with pytest.raises(ValueError, match="needs a TagTable with a scheme"):
        find_entities(encoded.codes, encoded.offsets, table, strict=True)


entity = st.tuples(st.sampled_from([None, *TYPES]), st.integers(1, 4))
corpora = st.lists(st.lists(entity, max_size=8), min_size=1, max_size=8)


def entities_of(corpus, scheme):
    """The entities that `spelled` writes; IO cannot part neighbours of one type."""
    rows = []
    for i, text in enumerate(corpus):
        word = 0
        for kind, length in text:
            touches = rows and rows[-1][:2] == (i, kind) and rows[-1][3] == word
            if kind is not None and scheme == "IO" and touches:
                rows[-1] = (*rows[-1][:3], word + length)
            elif kind is not None:
                rows.append((i, kind, word, word + length))
            word += length
    return rows


@pytest.mark.parametrize("scheme", [*LETTERS, "BMES", "BMEWO"])
@given(corpora)
def test_the_detected_scheme_reads_what_was_written(scheme, corpus):
    texts = [spelled(text, scheme) for text in corpus]
    detected = detect_scheme(texts)
    entities = entities_of(corpus, scheme)
    if not entities:
        assert detected == "plain"
    elif scheme == "IOB1" and not any("B-" in str(tags) for tags in texts):
        assert detected == "IO"  # one and the same
    elif scheme == "BMES" and not any("M-" in str(tags) for tags in texts):
        assert detected == "BIOES"  # likewise
    elif scheme == "BMEWO" and not any(s in str(texts) for s in ("M-", "W-")):
        assert detected == "BIOES"
    elif scheme == "BMEWO" and "W-" not in str(texts):
        assert detected == "BMES"
    else:
        assert detected == scheme
    assert found(texts, detected) == entities
    assert found(texts, detected, strict=True) == entities


@pytest.mark.parametrize(
    ("texts", "scheme"),
    [
        ([], "plain"),
        ([[]], "plain"),
        ([["O", "O"]], "plain"),
        ([["I-A", "O"]], "IO"),
        ([["B-A", "O"]], "BIO"),
        ([["B-A"], ["B-A"]], "BIO"),  # a B never directly follows its type
        ([["B-A", "I-A"]], "BIO"),
        ([["I-A", "B-A"]], "IOB1"),
        ([["I-A", "I-B", "B-B"]], "IOB1"),
        ([["O", "I-A"], ["I-A", "B-A"]], "IOB1"),
        ([["I-A", "B-A"], ["B-A"]], "BIO"),  # and malformed
        ([["I-A"], ["B-A"]], "BIO"),  # and malformed
        ([["I-A", "O", "B-A"]], "BIO"),
        ([["I-A", "B-B"]], "BIO"),
        ([["S-A"]], "BIOES"),
        ([["B-A", "E-A"]], "BIOES"),
        ([["U-A"]], "BILOU"),
        ([["B-A", "L-A"]], "BILOU"),
        ([["B-A", "M-A", "E-A", "O"]], "BMES"),
        ([["M-A", "S-A", "B-A"]], "BMES"),
        ([["W-A", "M-A", "B-A", "E-A"]], "BMEWO"),
        ([["B", "M", "E", "S"]], "BMES"),  # word segmentation
        ([["B", "E", "M"], ["B", "O"]], "BMES"),
        ([["B", "E", "S"]], "plain"),
        ([["M-A", "E-A"]], "plain"),
        ([["M-A", "O"]], "plain"),
        ([["B-A", "M-A", "I-A"]], "plain"),
        ([["B-A", "L-A", "S-A"]], "plain"),
        ([["I-A", "E-A", "O"]], "plain"),  # IOE
        ([["E-A", "O"]], "plain"),
        ([["B", "I", "O"]], "BIO"),
        ([["B", "I"]], "BIO"),
        ([["I", "B"]], "BIO"),
        ([["B", "O"]], "plain"),
        ([["B", "I", "O", "E"]], "plain"),
        ([["B", "I-A", "O"]], "plain"),
        ([["NOUN", "VERB", "O"]], "plain"),
        ([["B-A", "I-A", "X"]], "plain"),
        ([["B-A", "I-"]], "plain"),
        ([["", "B-A"]], "plain"),
        ([["b-A"]], "plain"),
        ([["I-A-B", "I-A-B"]], "IO"),
    ],
)
def test_detected_schemes(texts, scheme):
    assert detect_scheme(texts) == scheme
    assert detect_scheme(iter(texts)) == scheme
    assert detect_scheme([np.array(tags, dtype=str) for tags in texts]) == scheme


def test_neighbours_across_texts_are_none():
    assert detect_scheme([["I-A"], ["I-A", "B-A"], ["B-A"]]) == "BIO"
    assert detect_scheme([["I-A"], [], ["I-A", "B-A"]]) == "IOB1"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("O", ("O", "")),
        ("B-PER", ("B", "PER")),
        ("U-a-b", ("U", "a-b")),
        ("I--", ("I", "-")),
        ("E", ("E", "_")),
        ("B-", None),
        ("BPER", None),
        ("O-PER", None),
        ("PER", None),
        ("X-PER", None),
        ("", None),
    ],
)
def test_split_tag(tag, expected):
    assert split_tag(tag) == expected


def test_the_table_knows_prefixes_and_types():
    table = TagTable(np.array(["B-PER", "I-LOC", "L-PER", "O", "U-LOC"]), "BILOU")
    assert table.classes == ["B-PER", "I-LOC", "L-PER", "O", "U-LOC"]
    assert all(type(tag) is str for tag in table.classes)
    assert table.prefixes == list("BILOU")
    assert table.types == ["LOC", "PER"]
    assert table.type_codes.tolist() == [1, 0, 1, -1, 0]


def test_plain_tags_are_types():
    table = TagTable(["VERB", "O", "B-PER"], "plain")
    assert table.types == ["B-PER", "VERB"]
    assert table.type_codes.tolist() == [1, -1, 0]
    assert table.prefixes == ["I", "O", "I"]


@pytest.mark.parametrize(
    ("classes", "scheme", "message"),
    [
        (
            ["E-A"],
            "BIO",
            r"'E-A' is not a valid tag of the scheme 'BIO'.*'B-', 'I-'\. Name",
        ),
        (["B-A"], "IO", "'B-A' is not a valid tag of the scheme 'IO'"),
        (["L-A"], "BIOES", "'L-A' is not a valid tag"),
        (["S-A"], "BILOU", "'S-A' is not a valid tag"),
        (["I-A"], "BMES", "'I-A' is not a valid tag of the scheme 'BMES'.*'M-'"),
        (["O", "PER"], "BIOES", "'PER' is not a valid tag"),
        (["B-"], "BIO", "'B-' is not a valid tag"),
        (["PER"], None, "'PER' is not a valid tag with an entity type"),
        (["O"], "IOB2", "scheme must be one of .*'BIO'.* Got 'IOB2'"),
        (["O"], "auto", "scheme must be one of"),
    ],
)
def test_what_a_table_may_not_hold(classes, scheme, message):
    with pytest.raises(ValueError, match=message):
        TagTable(classes, scheme)


CLASSES = {
    scheme: ["O", *(f"{p}-{t}" for p in LETTERS[scheme] if p != "O" for t in "XY")]
    for scheme in LETTERS
}


def is_allowed(tags, classes, scheme):
    start, between, end = allowed_transitions(classes, scheme)
    codes = [classes.index(tag) for tag in tags]
    follow = between[codes[:-1], codes[1:]].all()
    return bool(start[codes[0]] and follow and end[codes[-1]])


@pytest.mark.parametrize("scheme", LETTERS)
def test_allowed_are_exactly_the_texts_that_spell_entities(scheme):
    # Every text of up to 4 tags: allowed where writing its entities gives it back.
    n_allowed = 0
    for length in range(1, 5 if len(CLASSES[scheme]) < 9 else 4):
        for tags in itertools.product(CLASSES[scheme], repeat=length):
            entities, word = [], 0
            for _, kind, first, end in found([tags], scheme, strict=True):
                entities += [(None, 1)] * (first - word) + [(kind, end - first)]
                word = end
            entities += [(None, 1)] * (length - word)
            expected = spelled(entities, scheme) == list(tags)
            assert is_allowed(tags, CLASSES[scheme], scheme) == expected, tags
            n_allowed += expected
    assert n_allowed > 50


def test_plain_and_io_allow_everything():
    for scheme, classes in {"plain": ["A", "B-X", "O"], "IO": ["I-X", "O"]}.items():
        start, between, end = allowed_transitions(classes, scheme)
        n = len(classes)
        assert (start.shape, between.shape, end.shape) == ((n,), (n, n), (n,))
        assert start.dtype == between.dtype == end.dtype == bool
        assert start.all()
        assert between.all()
        assert end.all()


def test_transitions_are_from_row_to_column():
    classes = ["B-X", "I-X", "O"]
    start, between, end = allowed_transitions(classes, "BIO")
    assert start.tolist() == [True, False, True]
    assert end.all()
    assert between.tolist() == [[True] * 3, [True] * 3, [True, False, True]]


CONTAINERS = {
    "lists": [["B", "I"], ["O"]],
    "tuples": (("B", "I"), ("O",)),
    "arrays": [np.array(["B", "I"]), np.array(["O"], dtype=object)],
    "object array": np.array([["B", "I"], ["O"]], dtype=object),
    "pandas": pd.Series([["B", "I"], ["O"]], index=[7, 3]),
    "series in a list": [pd.Series(["B", "I"], index=[5, 4]), pd.Series(["O"])],
    "polars": pl.Series([["B", "I"], ["O"]]),
    "generator": lambda: (tags for tags in [["B", "I"], ["O"]]),
}


@pytest.mark.parametrize("tags", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_of_tags(tags):
    encoded = encode_tags(tags() if callable(tags) else tags)
    assert encoded.classes == ["B", "I", "O"]
    assert all(type(tag) is str for tag in encoded.classes)
    assert encoded.codes.tolist() == [0, 1, 2]
    assert encoded.offsets.tolist() == [0, 2, 3]
    assert encoded.codes.dtype == encoded.offsets.dtype == np.int64


def test_texts_of_one_length_may_be_a_matrix():
    encoded = encode_tags(np.array([["B", "I"], ["O", "O"]]))
    assert encoded.codes.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B-A", r"y must hold a list of tags for each text. Got 'B-A' of type str"),
        (None, "Got None of type NoneType"),
        (3, "Got 3 of type int"),
        (["B-A", "O"], r"y\[0\] is a str, 'B-A'; it must be a list of tags"),
        ([["O"], None], r"y\[1\] is a NoneType"),
        ([["O"], 1], r"y\[1\] is an int, 1;"),
        ([["O"], b"O"], r"y\[1\] is a bytes"),
        ([{"O": 1}], r"y\[0\] is a dict"),
        ([{"O"}], r"y\[0\] is a set"),
        (np.array(["O", "B-A"]), r"y\[0\] is a str"),
        (np.array([[["O"]]]), r"y\[0\] is a ndarray"),
        ([["O"], ["O", 5]], r"y\[1\]\[1\] is 5, of type int; a tag must be a str"),
        ([[None]], r"y\[0\]\[0\] is None"),
        ([["O", float("nan")]], r"y\[0\]\[1\] is nan"),
        ([[["O"]]], r"y\[0\]\[0\] is \['O'\], of type list"),
        ([[0, 1], [1]], r"y\[0\]\[0\] is 0"),
        ([np.array([0, 1])], r"y\[0\]\[0\] is .*0.*int64"),
    ],
)
def test_what_tags_may_not_be(tags, message):
    with pytest.raises(ValueError, match=message):
        encode_tags(tags)


def test_errors_use_the_name_of_the_argument():
    with pytest.raises(ValueError, match=r"y_true\[0\]\[0\] is 1"):
        encode_tags([[1]], "y_true")
    with pytest.raises(ValueError, match=r"tags\[0\] is a str"):
        detect_scheme(["B-A"])


def test_has_prefixes():
    assert has_prefixes(["O", "B-A", "S-B", "L-C"])
    assert has_prefixes(["B", "I"])
    assert not has_prefixes(["O"])
    assert not has_prefixes(["B-A", "NOUN"])
    assert not has_prefixes(["I", "O"])
