"""Tag lists in, the best tags that a scheme allows out."""

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from sktransformers._tasks.tags import RaggedList, TagTask, check_tags, make_tag_task
from sktransformers.metrics import entity_f1_score
from sktransformers.metrics._schemes import allowed_transitions

CLASSES = {
    "plain": ["DET", "NOUN", "VERB"],
    "IO": ["I-A", "I-B", "O"],
    "IOB1": ["B-A", "B-B", "I-A", "I-B", "O"],
    "BIO": ["B-A", "B-B", "I-A", "I-B", "O"],
    "BIOES": ["B-A", "E-A", "I-A", "O", "S-A"],
    "BILOU": ["B-A", "B-B", "L-A", "L-B", "O", "U-A"],
    "BMES": ["B-A", "E-A", "M-A", "O", "S-A"],
    "BMEWO": ["B-A", "B-B", "E-A", "E-B", "M-A", "W-B"],
}
# Where some texts have no tags that the scheme allows: no "O", no end, no beginning.
HOLES = [
    ("BIO", ["I-A", "I-B", "O"]),
    ("BIO", ["I-A"]),
    ("BIO", ["I-A", "I-B"]),
    ("BIOES", ["B-A", "E-A", "I-A"]),
    ("BIOES", ["B-A", "B-B", "E-B"]),
    ("BILOU", ["B-A", "O"]),
    ("BILOU", ["I-A"]),
    ("IOB1", ["B-A", "O"]),
]


def make_target(classes, scheme):
    return TagTask(np.array(classes), scheme)


def n_violations(codes, transitions):
    start, between, end = transitions
    pairs = itertools.pairwise(codes)
    inner = sum(not between[pair] for pair in pairs)
    return (not start[codes[0]]) + inner + (not end[codes[-1]])


def best_by_brute_force(outputs, classes, scheme):
    """Return the tags of fewest violations and, of these, the greatest sum."""
    transitions = allowed_transitions(classes, scheme)
    every = itertools.product(range(len(classes)), repeat=len(outputs))
    rows = np.arange(len(outputs))
    return max(
        every,
        key=lambda codes: (
            -n_violations(codes, transitions),
            outputs[rows, codes].sum(dtype=np.float64),
        ),
    )


@pytest.mark.parametrize(
    ("scheme", "classes"),
    [*CLASSES.items(), *HOLES],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
@pytest.mark.parametrize("scale", [1, 30])
def test_decoding_is_brute_force(scheme, classes, scale):
    rng = np.random.default_rng(0)
    target = make_target(classes, scheme)
    longest = 5 if len(classes) > 4 else 6
    counts = rng.integers(0, longest, size=60)
    outputs = rng.normal(scale=scale, size=(counts.sum(), len(classes)))
    outputs = outputs.astype(np.float32)
    codes = target.decode_words(outputs, counts)
    rows = np.split(np.arange(len(codes)), np.cumsum(counts)[:-1])
    for row in rows:
        if len(row):
            expected = best_by_brute_force(outputs[row], classes, scheme)
            assert codes[row].tolist() == list(expected)
    greedy = target.decode_words(outputs, counts, constrained=False)
    assert np.array_equal(greedy, outputs.argmax(axis=1))


@pytest.mark.parametrize("scheme", CLASSES)
@pytest.mark.parametrize("n_texts", [1, 5, 3000])
def test_what_is_decoded_follows_the_scheme(scheme, n_texts):
    rng = np.random.default_rng(n_texts)
    target = make_target(CLASSES[scheme], scheme)
    counts = rng.integers(0, 40, size=n_texts)
    outputs = rng.normal(size=(counts.sum(), target.n_outputs)).astype(np.float32)
    codes = target.decode_words(outputs, counts)
    transitions = allowed_transitions(CLASSES[scheme], scheme)
    tags = np.split(codes, np.cumsum(counts)[:-1])
    assert not any(n_violations(text, transitions) for text in tags if len(text))
    # A text's company does not matter.
    for i in range(0, n_texts, 100):
        own = np.split(outputs, np.cumsum(counts)[:-1])[i]
        assert np.array_equal(target.decode_words(own, counts[[i]]), tags[i])


def test_a_long_text_is_decoded_exactly():
    rng = np.random.default_rng(1)
    n = 20_000
    outputs = rng.normal(size=(n, 3)).astype(np.float32)
    outputs[:, 2] += 100  # I-B, which can never be as there is no B-B
    target = make_target(["B-A", "I-A", "I-B"], "BIO")
    codes = target.decode_words(outputs, np.array([n]))
    assert codes[0] == 0
    assert np.array_equal(codes[1:], outputs[1:, :2].argmax(axis=1))

    # Where every tag breaks the scheme, thousands of times in all, each does so alike.
    outputs = rng.normal(scale=1e-3, size=(n, 3)).astype(np.float32)
    target = make_target(["L-A", "L-B", "L-C"], "BILOU")
    codes = target.decode_words(outputs, np.array([n]))
    assert np.array_equal(codes, outputs.argmax(axis=1))


def test_no_words_at_all():
    target = make_target(CLASSES["BIO"], "BIO")
    nothing = np.empty((0, 5), dtype=np.float32)
    codes = target.decode_words(nothing, np.array([0, 0]))
    assert target.tag_lists(codes, np.array([0, 0])) == [[], []]
    assert len(target.find_entities(codes, np.array([0, 0]))) == 0


# y


def kind_of(y):
    return type(y).__name__


TAGS = [["B-PER", "O"], [], ["O"]]


@pytest.mark.parametrize(
    "y",
    [
        TAGS,
        tuple(map(tuple, TAGS)),
        pd.Series(TAGS, index=[2, 0, 1]),
        [pd.Series(tags, index=range(len(tags), 0, -1), dtype=object) for tags in TAGS],
        [np.array(tags, dtype=str) for tags in TAGS],
        [np.array(tags, dtype=object) for tags in TAGS],
        pl.Series(TAGS),
        RaggedList(TAGS),
        np.asarray(RaggedList(TAGS)),
        (tags for tags in TAGS),
    ],
    ids=kind_of,
)
def test_tag_lists_in_every_container(y):
    tags = check_tags(y)
    assert tags.shape == (3,)
    assert tags.tolist() == TAGS
    assert all(type(tag) is str for row in tags for tag in row)


def test_tag_lists_of_one_length():
    assert check_tags(np.array([["O", "B"], ["B", "O"]])).tolist() == [
        ["O", "B"],
        ["B", "O"],
    ]
    assert check_tags([["O"], ["B"]]).shape == (2,)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ("O", "'O' of type str"),
        (3, "of type int"),
        (["O", "O"], r"y\[0\] is a str, 'O'.* list of tags"),
        ([["O"], "O"], r"y\[1\] is a str"),
        (np.array(["O", "O"]), r"y\[0\] is a str"),
        ([["O"], None], r"y\[1\] is a None"),
        ([["O"], ["O", 1]], r"y\[1\]\[1\] is 1, of type int"),
        ([["O", None]], r"y\[0\]\[1\] is None"),
        ([["O", float("nan")]], r"y\[0\]\[1\] is nan"),
        ([[b"O"]], r"y\[0\]\[0\] is b'O'"),
        ([[["O"]]], r"y\[0\]\[0\] is \['O'\]"),
        (np.zeros((2, 2)), r"y\[0\]\[0\] is .*0\.0"),
        ([{"a": "O"}], r"y\[0\] is a dict"),
        (pd.DataFrame({"tags": TAGS}), "DataFrame instead; pass the column"),
        (pl.DataFrame({"tags": TAGS}), "DataFrame instead; pass the column"),
    ],
    ids=lambda v: v if isinstance(v, str) else kind_of(v),
)
def test_what_are_no_tag_lists(y, message):
    with pytest.raises(ValueError, match=message):
        check_tags(y)


def test_the_scheme_is_found_or_checked():
    y = check_tags([["B-A", "E-A"], [], ["S-A", "O"]])
    target = make_tag_task(y, "auto")
    assert target.scheme == "BIOES"
    assert target.classes.tolist() == ["B-A", "E-A", "O", "S-A"]
    assert make_tag_task(y, "plain").scheme == "plain"
    with pytest.raises(ValueError, match=r"'E-A' is not a valid tag of the scheme"):
        make_tag_task(y, "BIO")
    with pytest.raises(ValueError, match="no tags: all texts are empty"):
        make_tag_task(check_tags([[], []]), "auto")


def test_tags_become_positions_and_back():
    y = check_tags([["O", "B-A"], [], ["I-A"], ["O"]])
    target = make_tag_task(y, "BIO")
    codes, counts = target.encode(y), target.count_targets(y)
    assert codes.tolist() == [2, 0, 1, 2]
    assert counts.tolist() == [2, 0, 1, 1]
    assert target.tag_lists(codes, counts) == y.tolist()
    with pytest.raises(ValueError, match=r"y\[2\] has the tag 'B-B', which is not"):
        target.encode(check_tags([["O"], [], ["O", "B-B", "B-C"]]))


def test_weights_of_tags():
    target = make_target(["A", "B", "O"], "plain")
    codes = np.array([0, 0, 0, 2, 2, 1])
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=codes)
    assert np.array_equal(target.weigh_classes(codes, "balanced"), balanced[codes])
    assert target.weigh_classes(codes, {"B": 5, "O": 0}).tolist() == [1, 1, 1, 0, 0, 5]


def test_the_score_is_of_what_is_decoded():
    rng = np.random.default_rng(0)
    counts = np.array([3, 0, 5, 2])
    outputs = rng.normal(size=(10, 5)).astype(np.float32)
    targets = rng.integers(5, size=10)
    for scheme in ("BIO", "plain"):
        target = make_target(CLASSES["BIO"], scheme)
        codes = target.decode_words(outputs, counts)
        score = target.score(outputs, targets, np.ones(10), counts)
        if scheme == "plain":
            assert score == np.mean(codes == targets)
        else:
            true, predicted = (target.tag_lists(c, counts) for c in (targets, codes))
            expected = entity_f1_score(true, predicted, scheme="BIO", zero_division=0)
            assert score == expected
    nothing = make_target(["B-A", "O"], "BIO")
    only_outside = np.float32([[0, 1]])
    assert nothing.score(only_outside, np.array([1]), np.ones(1), np.array([1])) == 0


def test_the_loss_is_of_each_word():
    target = make_target(CLASSES["BIO"], "BIO")
    outputs, codes = torch.randn(7, 5), torch.arange(7) % 5
    assert target.loss(outputs, codes).shape == (7,)


def test_predictions_of_folds_can_be_joined():
    folds = [RaggedList([["A"], ["B"]]), RaggedList([["A", "B"]]), RaggedList([])]
    joined = np.concatenate(folds)
    assert joined.tolist() == [["A"], ["B"], ["A", "B"]]
    assert np.asarray(RaggedList([np.zeros((2, 3)), np.zeros((2, 3))])).shape == (2,)
    assert folds[0] == [["A"], ["B"]]
