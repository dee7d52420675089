"""Tests of the training loop."""

import pytest
import torch
from torch import nn
from toy_model import RATES, Toy, cross_entropy, make_data

from sktransformers._hardware import devices as hardware
from sktransformers._hardware.dropout import set_fast_dropout
from sktransformers._training.loop import (
    Batch,
    BestWeights,
    Trainer,
    train,
    trained_tensors,
)
from sktransformers._training.optimizer import make_optimizer, make_schedule
from sktransformers.exceptions import (
    DivergenceError,
    OutOfMemoryError,
    SktransformersError,
)

CPU = torch.device("cpu")
BATCH = 4


class Recorder:
    """A monitor that writes down what it is told, and stops where it should."""

    def __init__(self, model, stop_after_steps=None, stop_after_epochs=None):
        self.model = model
        self.events = []
        self.n_steps = 0
        self.n_epochs = 0
        self.stop_after_steps = stop_after_steps
        self.stop_after_epochs = stop_after_epochs

    def epoch_begins(self, n_steps):
        self.events.append(f"epoch of {n_steps}")

    def step_begins(self):
        assert self.model.training
        self.events.append("(")

    def step_ends(self):
        self.n_steps += 1
        self.events.append(")")
        return self.n_steps == self.stop_after_steps

    def epoch_ends(self, record):
        assert not self.model.training
        self.n_epochs += 1
        self.events.append("end")
        record["score"] = 0.5
        return self.n_epochs == self.stop_after_epochs


def make_epoch(x, targets, weights, *, n_parts=1):
    """Return a function that gives the steps of an epoch, in order."""

    def make_step(rows):
        return [
            Batch({"x": x[part]}, targets[part], weights[part] / len(rows), len(part))
            for part in torch.tensor_split(rows, n_parts)
        ]

    return lambda: [
        lambda _, rows=rows: make_step(rows)
        for rows in torch.arange(len(x)).split(BATCH)
    ]


def make_trainer(
    model,
    *,
    optimizer=None,
    kind="linear",
    precision="float32",
    max_grad_norm=1.0,
):
    if optimizer is None:
        optimizer = make_optimizer(model, model.head, weight_decay=0.1, **RATES)
    return Trainer(
        model=model,
        loss=cross_entropy,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, kind, n_steps=6, warmup_ratio=0.34),
        device=CPU,
        precision=precision,
        max_grad_norm=max_grad_norm,
    )


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_bit_equal(first, second):
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def ten_lines(model, x, targets, weights, n_epochs, n_parts):
    """Train as the textbook does; the reference for everything below."""
    vectors = [p for p in model.body.parameters() if p.ndim == 1]
    matrices = [p for p in model.body.parameters() if p.ndim == 2]
    groups = [
        {"params": matrices, "lr": 0.01, "weight_decay": 0.1},
        {"params": vectors, "lr": 0.01, "weight_decay": 0.0},
        {"params": [model.head.weight], "lr": 0.02, "weight_decay": 0.1},
        {"params": [model.head.bias], "lr": 0.02, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    factors = [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    losses = []
    model.train()
    for step in range(3 * n_epochs):
        rows = torch.arange(len(x)).split(BATCH)[step % 3]
        for group, rate in zip(optimizer.param_groups, (1, 1, 2, 2), strict=True):
            group["lr"] = 0.01 * rate * factors[step]
        optimizer.zero_grad()
        total = 0.0
        for part in torch.tensor_split(rows, n_parts):
            outputs = model(x[part])
            loss = cross_entropy(outputs, targets[part]) @ (weights[part] / len(rows))
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("n_parts", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_fast", [False, True])
def test_training_is_the_textbooks_loop_bit_for_bit(n_parts, dtype, is_fast):
    x, targets, weights = make_data(dtype=dtype)
    expected, model = Toy(dtype=dtype), Toy(dtype=dtype)
    for each in (expected, model):
        set_fast_dropout(each, active=is_fast)
    with hardware.isolated_rng(3, CPU):
        losses = ten_lines(expected, x, targets, weights, n_epochs=2, n_parts=n_parts)
    with hardware.isolated_rng(3, CPU):
        history = train(
            make_trainer(model),
            make_epoch(x, targets, weights, n_parts=n_parts),
            Recorder(model),
            max_epochs=2,
        )
    assert_bit_equal(weights_of(model), weights_of(expected))
    assert [row["train_loss"] for row in history] == [
        sum(losses[:3]) / 3,
        sum(losses[3:]) / 3,
    ]
    assert not any(p.grad is not None for p in model.parameters())


def test_history_has_a_record_of_each_epoch():
    model = Toy()
    monitor = Recorder(model)
    history = train(
        make_trainer(model), make_epoch(*make_data()), monitor, max_epochs=2
    )
    assert [row["epoch"] for row in history] == [1, 2]
    assert [row["n_steps"] for row in history] == [3, 3]
    assert [row["score"] for row in history] == [0.5, 0.5]
    # The rate of the last step made in the epoch.
    assert [row["learning_rate"] for row in history] == pytest.approx([0.01, 0.0025])
    for row in history:
        assert row["seconds"] > 0
        assert row["tokens_per_second"] == pytest.approx(12 / row["seconds"])
    assert monitor.events == ["epoch of 3", *["(", ")"] * 3, "end"] * 2
    assert not model.training


def test_a_monitor_ends_an_epoch_or_the_training():
    model = Toy()
    monitor = Recorder(model, stop_after_steps=2)
    history = train(
        make_trainer(model), make_epoch(*make_data()), monitor, max_epochs=2
    )
    assert [row["n_steps"] for row in history] == [2, 3]
    model = Toy()
    monitor = Recorder(model, stop_after_epochs=1)
    history = train(
        make_trainer(model), make_epoch(*make_data()), monitor, max_epochs=2
    )
    assert len(history) == 1


def test_no_epochs_change_nothing():
    model = Toy()
    before = weights_of(model)
    monitor = Recorder(model)
    assert train(make_trainer(model), list, monitor, max_epochs=0) == []
    assert monitor.events == []
    assert_bit_equal(weights_of(model), before)


def test_parts_of_a_step_add_up_to_the_whole():
    data = make_data()
    models = {n_parts: Toy(dropout=0.0) for n_parts in (1, 2, 4)}
    for n_parts, model in models.items():
        epoch = make_epoch(*data, n_parts=n_parts)
        train(make_trainer(model), epoch, Recorder(model), max_epochs=2)
    for n_parts in (2, 4):
        for whole, part in zip(
            weights_of(models[1]), weights_of(models[n_parts]), strict=True
        ):
            torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were():
    x, targets, weights = make_data()
    x[9, 0] = float("nan")  # in the third step
    expected, model = Toy(), Toy()
    with hardware.isolated_rng(3, CPU):
        trainer = make_trainer(expected)
        for make_batches in make_epoch(x, targets, weights)()[:2]:
            trainer.step(make_batches)
    with hardware.isolated_rng(3, CPU):
        monitor = Recorder(model)
        with pytest.raises(
            DivergenceError, match=r"loss became nan\. Lower learning_rate"
        ):
            train(
                make_trainer(model),
                make_epoch(x, targets, weights),
                monitor,
                max_epochs=2,
            )
    assert monitor.n_steps == 2
    assert_bit_equal(weights_of(model), weights_of(expected))
    assert issubclass(DivergenceError, SktransformersError)
    assert issubclass(DivergenceError, ArithmeticError)


def test_divergence_in_the_very_last_step_is_noticed():
    x, targets, weights = make_data()
    model = Toy()
    trainer = make_trainer(model)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e30
    one_step = make_epoch(x[:BATCH], targets[:BATCH], weights[:BATCH])
    model.head.weight.data *= 1e30
    with pytest.raises(DivergenceError):
        train(trainer, one_step, Recorder(model), max_epochs=1)


def test_an_interrupt_propagates():
    def interrupt(_n_parts):
        raise KeyboardInterrupt

    model = Toy()
    with pytest.raises(KeyboardInterrupt):
        train(make_trainer(model), lambda: [interrupt], Recorder(model), max_epochs=1)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01, 1e6])
def test_gradients_are_scaled_down_to_the_norm(max_grad_norm):
    model, plain = Toy(dropout=0.0), Toy(dropout=0.0)
    x, targets, weights = make_data(BATCH)
    loss = cross_entropy(plain(x), targets) @ (weights / BATCH)
    loss.backward()
    norm = float(torch.cat([p.grad.flatten() for p in plain.parameters()]).norm())
    before = weights_of(model)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = make_trainer(
        model, optimizer=sgd, kind="constant", max_grad_norm=max_grad_norm
    )
    trainer.step(make_epoch(x, targets, weights)()[0])
    steps = [a - b for a, b in zip(before, weights_of(model), strict=True)]
    moved = float(torch.cat([step.flatten() for step in steps]).norm())
    assert norm > 0.01
    assert moved == pytest.approx(min(norm, max_grad_norm or norm), rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_for_arithmetic_only(precision):
    model, exact = Toy(dropout=0.0), Toy(dropout=0.0)
    data = make_data()
    train(
        make_trainer(model, precision=precision),
        make_epoch(*data),
        Recorder(model),
        max_epochs=2,
    )
    train(make_trainer(exact), make_epoch(*data), Recorder(exact), max_epochs=2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for low, full in zip(weights_of(model), weights_of(exact), strict=True):
        assert not torch.equal(low, full)
        torch.testing.assert_close(low, full, rtol=0.3, atol=0.05)


# The best weights


def test_the_best_weights_are_kept_and_put_back():
    model = Toy()
    best = BestWeights(model, patience=2)
    kept = None
    stops = []
    for epoch, rank in enumerate([(0.5, -1.0), (0.7, -0.9), (0.7, -0.8), (0.6, -0.1)]):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(epoch)
        stops.append(best.update(rank))
        if epoch == 2:
            kept = weights_of(model)
    stops.append(best.update((0.7, -0.8)))  # equal is no better
    assert stops == [False, False, False, False, True]
    assert best.best_epoch == 3
    best.restore()
    assert_bit_equal(weights_of(model), kept)


def test_the_best_weights_include_running_statistics():
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.BatchNorm1d(3))
    x, *_ = make_data()
    best = BestWeights(model, patience=3)
    for epoch, rank in enumerate([(0.9,), (0.1,), (0.2,)]):
        model.train()(x + epoch)
        best.update(rank)
        if epoch == 0:
            kept = model.eval()(x)
    assert not torch.equal(model.eval()(x), kept)
    best.restore()
    assert torch.equal(model.eval()(x), kept)


def test_tied_weights_are_kept_once():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    assert set(trained_tensors(model)) == {"0.weight", "0.bias"}


def test_only_what_trains_is_kept():
    model = Toy()
    model.body.requires_grad_(False)
    best = BestWeights(model, patience=1)
    best.update((1.0,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    best.restore()
    assert not any(p.any() for p in model.body.parameters())
    assert model.head.weight.any()


# Steps that do not fit into memory

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.7 GB)"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    RuntimeError("std::bad_alloc"),
    MemoryError("Unable to allocate 3.5 GiB for an array"),
]


class Small(Toy):
    """A toy that runs out of memory where it sees more than a few rows."""

    def __init__(self, most_rows, error):
        super().__init__(dropout=0.0)
        self.most_rows, self.error, self.failures = most_rows, error, 0

    def forward(self, x):
        if len(x) > self.most_rows:
            self.failures += 1
            raise self.error
        return super().forward(x)


def make_divisible_epoch(x, targets, weights):
    """Return a function that gives steps, of as many parts as they are asked for."""

    def make_step(rows, n_parts):
        return [
            Batch({"x": x[part]}, targets[part], weights[part] / len(rows), len(part))
            for part in torch.tensor_split(rows, min(n_parts, len(rows)))
        ]

    return lambda: [
        lambda n_parts, rows=rows: make_step(rows, n_parts)
        for rows in torch.arange(len(x)).split(BATCH)
    ]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=range(len(OUT_OF_MEMORY)))
def test_a_step_that_does_not_fit_into_memory_is_made_in_parts(error):
    data = make_data()
    model, expected = Small(BATCH // 4, error), Toy(dropout=0.0)
    trainer = make_trainer(model)
    history = train(trainer, make_divisible_epoch(*data), Recorder(model), max_epochs=2)
    assert model.failures == 2  # the whole and the halves, once
    assert [record["gradient_accumulation_steps"] for record in history] == [4, 4]
    train(make_trainer(expected), make_epoch(*data), Recorder(expected), max_epochs=2)
    for whole, part in zip(weights_of(expected), weights_of(model), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)


def test_a_row_that_does_not_fit_into_memory_is_an_error():
    model = Small(0, OUT_OF_MEMORY[0])
    before = weights_of(model)
    with pytest.raises(OutOfMemoryError, match=r"Not even one text .* Lower"):
        train(
            make_trainer(model),
            make_divisible_epoch(*make_data()),
            Recorder(model),
            max_epochs=1,
        )
    assert_bit_equal(weights_of(model), before)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("memory")])
def test_other_errors_are_raised_at_once(error):
    model = Small(0, error)
    with pytest.raises(type(error), match=str(error)):
        train(
            make_trainer(model),
            make_divisible_epoch(*make_data()),
            Recorder(model),
            max_epochs=1,
        )
    assert model.failures == 1
