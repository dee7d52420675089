"""Tests of the optimizer and the learning rate schedules."""

import pytest
import torch
from toy_model import RATES, Toy

from sktransformers._training.optimizer import (
    make_optimizer,
    make_schedule,
    moments_of,
    restore_moments,
)


def test_matrices_decay_and_biases_and_norms_do_not():
    model = Toy()
    optimizer = make_optimizer(model, model.head, weight_decay=0.1, **RATES)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        "body.0.weight": (0.01, 0.1),
        "body.0.bias": (0.01, 0.0),
        "body.1.weight": (0.01, 0.0),
        "body.1.bias": (0.01, 0.0),
        "head.weight": (0.02, 0.1),
        "head.bias": (0.02, 0.0),
    }
    assert isinstance(optimizer, torch.optim.AdamW)


def test_frozen_parameters_are_not_optimized():
    model = Toy()
    model.body.requires_grad_(False)
    optimizer = make_optimizer(model, model.head, weight_decay=0.1, **RATES)
    optimized = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(optimized) == sorted(id(p) for p in model.head.parameters())


def test_moments_go_on_for_what_was_trained_before_and_start_for_the_rest():
    def step(moments, *, trains_body):
        model.body.requires_grad_(trains_body)
        optimizer = make_optimizer(model, model.head, weight_decay=0.1, **RATES)
        restore_moments(optimizer, model, moments)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return moments_of(optimizer, model)

    model = Toy()
    first = step({}, trains_body=False)
    assert {name: int(m["step"]) for name, m in first.items()} == {
        "head.weight": 1,
        "head.bias": 1,
    }
    second = step(first, trains_body=True)
    assert int(first["head.weight"]["step"]) == 1
    for name, parameter in model.named_parameters():
        n_steps = 2 if name.startswith("head") else 1
        assert int(second[name]["step"]) == n_steps
        expected = torch.full_like(parameter, 1 - 0.9**n_steps)
        torch.testing.assert_close(second[name]["exp_avg"], expected)
    third = step(second, trains_body=False)
    assert {int(m["step"]) for m in third.values()} == {3}


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("constant", [1] * 7),
        ("constant_with_warmup", [0, 0.5, 1, 1, 1, 1, 1]),
        ("cosine", [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
def test_schedules(kind, factors):
    model = Toy()
    optimizer = make_optimizer(model, model.head, weight_decay=0.0, **RATES)
    schedule = make_schedule(optimizer, kind, n_steps=6, warmup_ratio=1 / 3)
    rates = []
    for _ in factors:
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    body = [0.01 * factor for factor in factors]
    assert [row[0] for row in rates] == pytest.approx(body, abs=1e-7)
    assert [row[-1] for row in rates] == pytest.approx([2 * r for r in body], abs=1e-7)
