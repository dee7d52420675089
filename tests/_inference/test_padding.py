"""Which models can be given prompts of different lengths together."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from generation_models import (
    DECODERS,
    EOS,
    PAD,
    PAIRS,
    POSITIONS,
    START,
    make_generative,
    make_prompts,
)

from sktransformers._inference import padding
from sktransformers._inference.padding import takes_padding
from sktransformers._inference.sampling import GenerationSettings

CPU = torch.device("cpu")
SETTINGS = GenerationSettings(
    max_new_tokens=5, eos_ids=(EOS,), pad_id=PAD, decoder_start_id=START
)


@pytest.fixture
def calls(monkeypatch):
    """Return a list of the numbers of prompts that were tried together."""
    found = []
    own = padding._next_logits

    def record(model, prompts, *args):
        found.append(len(prompts))
        return own(model, prompts, *args)

    monkeypatch.setattr(padding, "_next_logits", record)
    return found


@pytest.mark.parametrize("kind", DECODERS + PAIRS)
def test_models_that_mask_padding(kind):
    assert takes_padding(make_generative(kind), make_prompts(), SETTINGS, CPU)


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_a_model_that_reads_padding(kind, monkeypatch):
    model = make_generative(kind)
    reader = model.get_encoder() if kind == "bart" else model
    own = reader.forward

    def forward(*args, **inputs):
        inputs["attention_mask"] = None
        return own(*args, **inputs)

    forward.__signature__ = inspect.signature(own)
    monkeypatch.setattr(reader, "forward", forward)
    assert not takes_padding(model, make_prompts(), SETTINGS, CPU)


def test_a_model_is_tried_once_until_longer_prompts_come(calls):
    model = make_generative("gpt2")
    prompts = [np.arange(4, 4 + n) for n in (3, 5, 4)]
    for _ in range(2):
        assert takes_padding(model, prompts, SETTINGS, CPU)
        assert calls == [3, 1, 1, 1]
    takes_padding(model, [*prompts, np.arange(4, 14)], SETTINGS, CPU)
    assert len(calls) == 4
    full = [*prompts, np.full(POSITIONS - 1, 4)]
    assert takes_padding(model, full, replace(SETTINGS, context=POSITIONS), CPU)
    assert len(calls) == 8


def test_prompts_of_one_length_are_not_tried(calls):
    model = make_generative("gpt2")
    assert takes_padding(model, [], SETTINGS, CPU)
    assert takes_padding(model, [np.array([4, 5]), np.array([6, 7])], SETTINGS, CPU)
    assert calls == []
