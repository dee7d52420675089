"""Which rows go together: every row once, little padding, a kept budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktransformers._text.batching import inference_batches, training_batches

some_lengths = st.lists(st.integers(1, 512), min_size=1, max_size=400).map(np.array)


def padding_share(batches, lengths):
    """Return which share of what the model reads is padding."""
    n_read = sum(len(rows) * lengths[rows].max() for rows in batches)
    return 1 - lengths.sum() / n_read


@given(
    lengths=some_lengths,
    batch_size=st.integers(1, 64),
    pool=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_an_epoch_has_every_row_once(lengths, batch_size, pool, seed):
    rng = np.random.default_rng(seed)
    batches = training_batches(lengths, batch_size, rng, pool=pool)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    sizes = [len(rows) for rows in batches]
    # All are full but one: so the number of steps is known beforehand.
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(size < batch_size for size in sizes) <= 1
    assert max(sizes) <= batch_size


def test_epochs_differ_and_are_the_generators_alone():
    lengths = np.random.default_rng(0).integers(5, 60, size=300)

    def epochs(seed):
        rng = np.random.default_rng(seed)
        return [np.concatenate(training_batches(lengths, 16, rng)) for _ in range(2)]

    first, second = epochs(0)
    assert (first != second).any()
    assert [e.tolist() for e in epochs(0)] == [first.tolist(), second.tolist()]
    assert (epochs(1)[0] != first).any()


def test_global_random_state_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    training_batches(np.arange(1, 100), 8, np.random.default_rng(0))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_batches_hold_hardly_any_padding():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.5, 0.8, size=5000).astype(int), 2, 512)
    shuffled = np.array_split(rng.permutation(5000), 5000 // 32)
    assert padding_share(shuffled, lengths) > 0.5
    assert padding_share(training_batches(lengths, 32, rng), lengths) < 0.15
    assert padding_share(inference_batches(lengths), lengths) < 0.05


def test_batches_of_like_length_come_in_random_order_and_company():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, size=3200)
    first = training_batches(lengths, 32, rng)
    means = [lengths[rows].mean() for rows in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3
    second = training_batches(lengths, 32, rng)
    company = {frozenset(rows.tolist()) for rows in first}
    assert not company & {frozenset(rows.tolist()) for rows in second}


def test_equal_lengths_are_shuffled_too():
    rng = np.random.default_rng(0)
    batches = training_batches(np.full(640, 7), 32, rng)
    assert all((np.diff(np.sort(rows)) > 1).any() for rows in batches)


@given(lengths=some_lengths, token_budget=st.integers(1, 5000))
def test_inference_batches_keep_the_budget(lengths, token_budget):
    batches = inference_batches(lengths, token_budget=token_budget)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches:
        padded = len(rows) * lengths[rows].max()
        assert padded <= token_budget or len(rows) == 1
    longest = [lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


@given(lengths=some_lengths)
def test_the_budget_is_used(lengths):
    for rows, following in zip(
        *(lambda batches: (batches[:-1], batches[1:]))(inference_batches(lengths)),
        strict=True,
    ):
        assert (len(rows) + 1) * lengths[rows].max() > 4096
        assert lengths[rows].min() >= lengths[following].max()


@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_few_rows(n_rows):
    lengths = np.full(n_rows, 3)
    assert len(inference_batches(lengths)) == 1
    rng = np.random.default_rng(0)
    assert sum(map(len, training_batches(lengths, 32, rng))) == n_rows


def test_a_row_has_the_same_company_in_any_order():
    rng = np.random.default_rng(0)
    lengths, keys = rng.integers(5, 20, size=900), rng.permutation(900)
    order = rng.permutation(900)
    batches = inference_batches(lengths, keys)
    shuffled = inference_batches(lengths[order], keys[order])
    assert len(batches) > 1
    for rows, others in zip(batches, shuffled, strict=True):
        np.testing.assert_array_equal(order[others], rows)
