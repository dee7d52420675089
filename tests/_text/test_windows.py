"""A long text becomes a shorter one, or windows that cover it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktransformers._text.windows import cut_rows, share

some_lengths = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(0, 300), min_size=n, max_size=n), min_size=1, max_size=12
    )
)


def cut_one(*lengths, capacity, window):
    """Return the slices of each window of one row, and whether it was cut."""
    sample_index, starts, sizes, n_truncated = cut_rows(
        np.array([lengths]), capacity, window=window
    )
    assert (sample_index == 0).all()
    slices = [
        [(start, start + size) for start, size in zip(*row, strict=True)]
        for row in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
    return slices, n_truncated


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("length", [0, 1, 9, 10])
def test_what_fits_is_left_alone(length, window):
    assert cut_one(length, capacity=10, window=window) == ([[(0, length)]], 0)


def test_truncation_keeps_the_beginning():
    assert cut_one(25, capacity=10, window=False) == ([[(0, 10)]], 1)


def test_windows_overlap_by_a_quarter_and_the_last_is_full():
    slices, n_truncated = cut_one(31, capacity=12, window=True)
    assert slices == [[(0, 12)], [(9, 21)], [(18, 30)], [(19, 31)]]
    assert n_truncated == 0


def test_one_token_too_many_makes_a_second_window():
    assert cut_one(13, capacity=12, window=True) == ([[(0, 12)], [(1, 13)]], 0)


def test_windows_of_one_token():
    assert cut_one(3, capacity=1, window=True)[0] == [[(0, 1)], [(1, 2)], [(2, 3)]]


@pytest.mark.parametrize(
    ("lengths", "capacity", "kept"),
    [
        ((30, 4), 20, (16, 4)),
        ((4, 30), 20, (4, 16)),
        ((30, 30), 20, (10, 10)),
        ((30, 30), 21, (10, 11)),
        ((30, 12), 20, (10, 10)),
        ((30, 9), 20, (11, 9)),
        ((0, 30), 20, (0, 20)),
        ((30, 30, 30), 20, (6, 7, 7)),
        ((30, 2, 30), 20, (9, 2, 9)),
    ],
)
def test_the_longest_column_is_cut_first(lengths, capacity, kept):
    assert share(np.array([lengths]), capacity).tolist() == [list(kept)]
    slices, n_truncated = cut_one(*lengths, capacity=capacity, window=False)
    assert slices == [[(0, size) for size in kept]]
    assert n_truncated == 1


def test_windows_of_a_pair_split_the_longer_text_and_repeat_the_shorter():
    slices, n_truncated = cut_one(4, 20, capacity=12, window=True)
    assert slices == [
        [(0, 4), (0, 8)],
        [(0, 4), (6, 14)],
        [(0, 4), (12, 20)],
    ]
    assert n_truncated == 0
    slices, n_truncated = cut_one(20, 4, capacity=12, window=True)
    assert [row[1] for row in slices] == [(0, 4)] * 3
    assert n_truncated == 0


def test_the_shorter_text_is_cut_to_its_share_and_counted():
    slices, n_truncated = cut_one(30, 20, capacity=12, window=True)
    assert {row[1] for row in slices} == {(0, 6)}
    assert slices[-1][0] == (24, 30)
    assert n_truncated == 1


def test_rows_keep_their_order():
    sample_index, starts, sizes, n_truncated = cut_rows(
        np.array([[3], [25], [0], [11]]), 10, window=True
    )
    assert sample_index.tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert starts[:, 0].tolist() == [0, 0, 8, 15, 0, 0, 1]
    assert sizes[:, 0].tolist() == [3, 10, 10, 10, 0, 10, 10]
    assert n_truncated == 0


@given(lengths=some_lengths, capacity=st.integers(4, 100))
def test_a_share_fills_the_capacity_fairly(lengths, capacity):
    lengths = np.array(lengths)
    kept = share(lengths, capacity)
    assert (kept <= lengths).all()
    fits = lengths.sum(axis=1) <= capacity
    assert (kept[fits] == lengths[fits]).all()
    assert (kept[~fits].sum(axis=1) == capacity).all()
    # A column that lost tokens keeps at least as many as any other, but for rounding.
    for row_kept, row in zip(kept, lengths, strict=True):
        for n_kept in row_kept[row_kept < row]:
            assert n_kept >= row_kept.max() - 1


@given(lengths=some_lengths, capacity=st.integers(4, 100))
def test_truncation_makes_one_window_of_each_row(lengths, capacity):
    lengths = np.array(lengths)
    sample_index, starts, sizes, n_truncated = cut_rows(lengths, capacity, window=False)
    assert sample_index.tolist() == list(range(len(lengths)))
    assert not starts.any()
    assert (sizes == share(lengths, capacity)).all()
    assert n_truncated == (lengths.sum(axis=1) > capacity).sum()


@given(lengths=some_lengths, capacity=st.integers(4, 100))
def test_windows_cover_every_token_within_the_capacity(lengths, capacity):
    lengths = np.array(lengths)
    before = lengths.copy()
    sample_index, starts, sizes, n_truncated = cut_rows(lengths, capacity, window=True)
    assert (lengths == before).all()
    assert (np.diff(sample_index) >= 0).all()
    assert (sizes.sum(axis=1) <= capacity).all()
    assert (starts >= 0).all()
    assert (starts + sizes <= lengths[sample_index]).all()
    n_cut = 0
    for row, row_lengths in enumerate(lengths):
        mine = sample_index == row
        assert mine.any()
        longest = row_lengths.argmax()
        lost = False
        for column, length in enumerate(row_lengths):
            begin, end = starts[mine, column], (starts + sizes)[mine, column]
            covered = np.zeros(length, dtype=bool)
            for i, j in zip(begin, end, strict=True):
                covered[i:j] = True
            if column == longest:
                assert covered.all()
                check_overlap(begin, end)
            else:
                assert (begin == 0).all()
                lost |= not covered.all()
        n_cut += lost
        if row_lengths.sum() <= capacity:
            assert mine.sum() == 1
        else:
            assert (sizes[mine].sum(axis=1) == capacity).all()
    assert n_truncated == n_cut


def check_overlap(begin, end):
    """Neighbours share a quarter; the last window may share more, as it is full."""
    size = end[0] - begin[0]
    shared = end[:-1] - begin[1:]
    assert (shared[:-1] == size // 4).all()
    assert (shared >= size // 4).all()
    assert (shared < size).all()
