"""The training loop, its parts, and the hardware it runs on."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import assert_close
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from sktransformers.engine import hardware, inference
from sktransformers.engine import start as start_module
from sktransformers.engine.optimization import make_optimizer, make_schedule
from sktransformers.engine.start import start_head
from sktransformers.engine.training import Batch, BestWeights, Trainer, train
from sktransformers.exceptions import (
    DivergenceError,
    OutOfMemoryError,
    SktransformersError,
)
from sktransformers.models.dropout import fast_dropout, set_fast_dropout

CPU = torch.device("cpu")
BATCH = 4
RATES = {"learning_rate": 0.01, "head_learning_rate": 0.02}


class Toy(nn.Module):
    """A body with a normalization, dropout, and a head; all seeded alike."""

    def __init__(self, dropout=0.1, dtype=torch.float32):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8))
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(8, 3)
        self.to(dtype)

    def forward(self, x):
        return self.head(self.dropout(torch.tanh(self.body(x))))


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


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def make_data(n=12, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 5, generator=generator, dtype=dtype)
    targets = torch.randint(0, 3, (n,), generator=generator)
    weights = torch.rand(n, generator=generator, dtype=dtype) + 0.5
    return x, targets, weights


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


# A head's start.


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
    start_head(head, *tensors, loss, **options)
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
    strongest, *_, weakest = start_module._PENALTIES
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


# Hardware.


def test_a_device_that_exists_is_taken():
    assert hardware.resolve_device("cpu") == CPU
    device = hardware.resolve_device("auto")
    assert device.type in ("cpu", "cuda", "mps")
    assert torch.zeros(1, device=device).device.type == device.type


@pytest.mark.parametrize(
    "device", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "meta", "xpu"]
)
def test_an_unknown_device_is_an_error(device):
    with pytest.raises(ValueError, match=f"must be 'auto', 'cpu'.*Got '{device}'"):
        hardware.resolve_device(device)


def test_a_device_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert hardware.resolve_device("cuda:1") == torch.device("cuda:1")
    for device in ("cuda:2", "mps"):
        with pytest.raises(ValueError, match="2 CUDA devices and no MPS device"):
            hardware.resolve_device(device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device='cuda', but this machine has 0"):
        hardware.resolve_device("cuda")


@pytest.mark.parametrize("available", ["cuda", "mps", "cpu"])
def test_auto_prefers_a_gpu(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available == "mps")
    assert hardware.resolve_device("auto") == torch.device(available)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "float64"])
def test_a_precision_that_is_named_is_taken(precision):
    assert hardware.resolve_precision(precision, CPU) == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "float32"),
        ({"avx512_f": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
    ],
)
def test_auto_precision_on_a_cpu(monkeypatch, capabilities, expected):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    assert hardware.resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")],
)
def test_auto_precision_on_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert hardware.resolve_precision("auto", torch.device("cuda")) == expected
    assert hardware.resolve_precision("auto", torch.device("mps")) == "float32"


def test_weights_are_held_in_full_precision():
    assert hardware.weights_dtype("float64") == torch.float64
    for precision in ("float32", "bfloat16", "float16"):
        assert hardware.weights_dtype(precision) == torch.float32


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
    ],
)
def test_autocast_sets_the_format_of_products(precision, dtype):
    a = torch.ones(2, 2)
    with hardware.autocast(CPU, precision):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize("fails", [False, True])
def test_torchs_generator_is_seeded_inside_and_restored_outside(fails):
    before = torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 2**63 - 1):
        with contextlib.suppress(KeyError), hardware.isolated_rng(seed, CPU):
            drawn.append(torch.rand(3).tolist())
            if fails:
                raise KeyError
        assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] == drawn[1] != drawn[2]


def test_threads_draw_the_numbers_they_would_draw_alone():
    before = torch.get_rng_state()

    def draw(seed):
        with hardware.isolated_rng(seed, CPU):
            return [torch.rand(1).item() for _ in range(50)]

    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(draw, range(8))) == alone
    assert torch.equal(torch.get_rng_state(), before)


# Forward passes.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_come_back_in_input_order(dtype):
    rng = np.random.default_rng(0)
    values = torch.arange(50, dtype=dtype)
    batches = [
        (rows, {"x": values[rows]}) for rows in np.array_split(rng.permutation(50), 7)
    ]
    results = inference.run(
        lambda x: torch.stack([x, x + 1], dim=1),
        batches,
        50,
        device=CPU,
        precision="float32",
    )
    expected = np.arange(50)[:, None] + [0, 1]
    assert results.tolist() == expected.tolist()
    assert results.dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_a_forward_pass_keeps_no_gradients_and_lets_go_of_inputs():
    model = Toy().eval()
    x, *_ = make_data()
    seen = []

    def forward(x):
        outputs = model(x)
        seen.append(outputs.requires_grad)
        return outputs

    def draw():  # batches are made one at a time
        for rows in np.array_split(np.arange(12), 3):
            assert len(seen) == rows[0] // 4
            yield rows, {"x": x[rows]}

    results = inference.run(forward, draw(), 12, device=CPU, precision="float32")
    assert seen == [False] * 3
    with torch.no_grad():
        assert_close(results, model(x).numpy())  # of other batches
    assert results.flags.writeable


def test_predictions_in_lower_precision_are_float32():
    model = Toy().eval()
    x, *_ = make_data()
    options = {"device": CPU, "precision": "bfloat16"}
    results = inference.run(model, [(np.arange(12), {"x": x})], 12, **options)
    assert results.dtype == np.float32
    exact = model(x).detach().numpy()
    assert not np.array_equal(results, exact)
    np.testing.assert_allclose(results, exact, atol=0.05)


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
