"""Tests of the fast dropout on CPUs."""

import pytest
import torch
from torch import nn

from sktransformers._hardware import devices as hardware
from sktransformers._hardware.dropout import fast_dropout, set_fast_dropout

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_a_share_and_keeps_the_mean(p, dtype):
    x = torch.ones(400, 501, dtype=dtype, requires_grad=True)
    with hardware.isolated_rng(0, CPU):
        first, second = (fast_dropout(x, p, training=True) for _ in range(2))
    dropped = first == 0
    n = x.numel()
    for share in (dropped, dropped[0::2], dropped[:, 1::2]):
        spread = (p * (1 - p) / share.numel()) ** 0.5
        assert abs(share.float().mean() - p) < 5 * spread
    # Neither repeated from call to call nor from row to row.
    both = (dropped & (second == 0)).sum() / n
    assert abs(both - p * p) < 5 * (p * p / n) ** 0.5
    neighbours = (dropped[1:] & dropped[:-1]).sum() / n
    assert abs(neighbours - p * p) < 5 * (p * p / n) ** 0.5
    assert torch.allclose(
        first[~dropped], torch.tensor(1 / (1 - p), dtype=dtype), rtol=1e-2
    )
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())


def test_dropout_is_repeatable_and_off_in_evaluation():
    x = torch.randn(3, 7, 5)
    layer = nn.Dropout(0.5)
    set_fast_dropout(layer, active=True)
    with hardware.isolated_rng(1, CPU):
        first = layer(x)
    with hardware.isolated_rng(1, CPU):
        again = layer(x)
    assert torch.equal(first, again)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(fast_dropout(x, 0.0, training=True), x)
    assert not fast_dropout(x, 1.0, training=True).any()
    assert fast_dropout(x[:0], 0.5, training=True).shape == (0, 7, 5)
    set_fast_dropout(layer.train(), active=False)
    assert type(layer) is nn.Dropout
    with hardware.isolated_rng(1, CPU):
        assert not torch.equal(layer(x), first)
