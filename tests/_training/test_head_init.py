"""Tests of the initialization of a new head."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional
from toy_model import cross_entropy

from sktransformers._hardware import devices as hardware
from sktransformers._training import head_init
from sktransformers._training.head_init import init_head

CPU = torch.device("cpu")


def make_features(n_classes, *, n=150, width=12, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)) * rng.uniform(0.1, 2, size=width)
    logits = features @ rng.normal(size=(width, n_classes)) + rng.normal(size=n_classes)
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    weights = rng.integers(1, 4, size=n).astype(float)
    return features, targets, weights


def start_on(
    features, targets, weights, *, n_outputs, dtype, loss=cross_entropy, **options
):
    """Start a head and return its outputs on the features."""
    head = nn.Linear(features.shape[1], n_outputs, dtype=dtype)
    rows = torch.from_numpy(features).to(dtype)
    tensors = rows, torch.from_numpy(targets), torch.from_numpy(weights)
    init_head(head, *tensors, loss, **options)
    with torch.no_grad():
        return head(rows).double()


def standardize(features, weights):
    centred = features - np.average(features, axis=0, weights=weights)
    return centred / np.sqrt(np.average((centred**2).sum(axis=1), weights=weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("penalty", [1.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_the_start_is_logistic_regression(n_classes, weighted, penalty, dtype):
    features, targets, weights = make_features(n_classes)
    if not weighted:
        weights = np.ones_like(weights)
    outputs = start_on(
        features, targets, weights, n_outputs=n_classes, dtype=dtype, penalty=penalty
    )
    # Of two classes scikit-learn fits one vector, the difference of our two, whose
    # square is twice the sum of theirs.
    strength = 2 / penalty if n_classes == 2 else 1 / penalty
    expected = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    rows = standardize(features, weights)
    expected.fit(rows, targets, sample_weight=weights)
    atol = 1e-3 if penalty == 1 else 3e-3  # the flatter, the less exact
    np.testing.assert_allclose(
        torch.softmax(outputs, dim=1).numpy(), expected.predict_proba(rows), atol=atol
    )


def test_the_start_of_many_labels_is_a_logistic_regression_each():
    features, targets, weights = make_features(3)
    indicators = np.stack([targets == 0, targets != 1], axis=1).astype(np.float32)

    def loss(outputs, indicators):
        losses = functional.binary_cross_entropy_with_logits(
            outputs, indicators.to(outputs.dtype), reduction="none"
        )
        return losses.sum(dim=1)

    outputs = start_on(
        features,
        indicators,
        weights,
        n_outputs=2,
        dtype=torch.float32,
        loss=loss,
        penalty=1.0,
    )
    rows = standardize(features, weights)
    for label in range(2):
        expected = LogisticRegression(tol=1e-8, max_iter=10_000)
        expected.fit(rows, indicators[:, label], sample_weight=weights)
        np.testing.assert_allclose(
            torch.sigmoid(outputs[:, label]).numpy(),
            expected.predict_proba(rows)[:, 1],
            atol=1e-3,
        )


def test_a_weight_counts_as_repetitions():
    features, targets, weights = make_features(3)
    options = {"n_outputs": 3, "dtype": torch.float64, "penalty": 1.0}
    weighted = start_on(features, targets, weights, **options)
    rows = np.repeat(np.arange(len(features)), weights.astype(int))
    ones = np.ones(len(rows))
    repeated = start_on(features[rows], targets[rows], ones, **options)
    torch.testing.assert_close(weighted[rows], repeated, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("scale", "offset"), [(1e3, 0), (1e-3, 0), (1, 5), (7, -30)])
def test_the_start_depends_neither_on_scale_nor_offset(scale, offset, dtype):
    features, targets, weights = make_features(3)
    options = {"n_outputs": 3, "dtype": dtype, "penalty": 1.0}
    plain = start_on(features, targets, weights, **options)
    moved = start_on(features * scale + offset, targets, weights, **options)
    atol = 1e-6 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(moved, plain, rtol=0, atol=atol)


def test_a_penalty_that_is_not_given_is_chosen():
    features, targets, weights = make_features(3)
    noise = np.random.default_rng(0).permutation(targets)
    options = {"n_outputs": 3, "dtype": torch.float64}
    strongest, *_, weakest = head_init._PENALTIES
    with hardware.isolated_rng(0, CPU):
        chosen = start_on(features, noise, weights, **options)
    expected = start_on(features, noise, weights, penalty=strongest, **options)
    torch.testing.assert_close(chosen, expected, rtol=0, atol=1e-3)
    clear = (features[:, 0] > 0).astype(int) + (features[:, 1] > 0)
    with hardware.isolated_rng(0, CPU):
        chosen = start_on(features, clear, weights, **options)
    expected = start_on(features, clear, weights, penalty=weakest, **options)
    torch.testing.assert_close(chosen, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (np.ones((1, 4)), np.array([0])),
        (np.ones((5, 4)), np.array([0, 1, 0, 1, 1])),
        (np.eye(4), np.array([0, 0, 0, 0])),
        (np.repeat(np.eye(4), 10, axis=0), np.repeat([0, 1, 2, 1], 10)),
    ],
    ids=["one row", "equal rows", "one class", "separable"],
)
def test_a_start_is_finite(features, targets, penalty):
    outputs = start_on(
        features,
        targets,
        np.ones(len(targets)),
        n_outputs=3,
        dtype=torch.float32,
        penalty=penalty,
    )
    assert torch.isfinite(outputs).all()
    assert len(outputs) == len(targets)
