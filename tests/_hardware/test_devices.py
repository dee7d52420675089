"""Tests of the choice of device and precision, and of random number generators."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktransformers import _compat
from sktransformers._hardware import devices as hardware

CPU = torch.device("cpu")


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
    monkeypatch.setattr(_compat, "_require", lambda *_: lambda: True)  # oneDNN's answer
    assert hardware.resolve_precision("auto", CPU) == expected
    monkeypatch.setattr(_compat, "_require", lambda *_: lambda: False)
    assert hardware.resolve_precision("auto", CPU) == "float32"


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
    for outer in (torch.bfloat16, torch.float16):  # that of the caller
        with torch.autocast("cpu", dtype=outer), hardware.autocast(CPU, precision):
            assert (a @ a).dtype == dtype
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
