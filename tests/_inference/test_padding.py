"""Which models can be given prompts of different lengths together."""

import functools
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
from sktransformers._inference.padding import find_shared_by
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


def find(model, prompts, **settings):
    return find_shared_by(model, prompts, replace(SETTINGS, **settings), CPU)


@pytest.mark.parametrize("kind", DECODERS + PAIRS)
def test_models_that_mask_padding(kind):
    assert find(make_generative(kind), make_prompts()) == "all"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bart"])
def test_models_that_take_mask_and_positions_are_not_tried(kind, calls):
    assert find(make_generative(kind), make_prompts()) == "all"
    assert calls == []


def test_a_model_that_reads_padding(monkeypatch):
    model = make_generative("bloom")
    own = model.forward

    @functools.wraps(own)
    def forward(*args, **inputs):
        inputs["attention_mask"] = None
        return own(*args, **inputs)

    monkeypatch.setattr(model, "forward", forward)
    assert find(model, make_prompts()) == "equal"


def test_a_model_that_mixes_rows(monkeypatch):
    model = make_generative("bloom")
    own = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: own(x - x.mean(dim=0)))
    assert find(model, make_prompts()) == "none"


def test_a_model_is_tried_once_until_longer_prompts_come(calls):
    model = make_generative("bloom")
    prompts = [np.arange(4, 4 + n) for n in (3, 5, 4)]
    for _ in range(2):
        assert find(model, prompts) == "all"
        assert calls == [4, 1, 1, 1, 1]
    find(model, [*prompts, np.arange(4, 14)])
    assert len(calls) == 5
    full = np.full(POSITIONS - 1, 4)
    assert find(model, [*prompts, full], context=POSITIONS) == "all"
    assert len(calls) == 10


def test_a_single_prompt_is_not_tried(calls):
    model = make_generative("bloom")
    assert find(model, []) == "all"
    assert find(model, [np.array([4, 5])]) == "all"
    assert calls == []


def test_prompts_are_generated_alone_where_several_do_not_fit(monkeypatch):
    model = make_generative("bloom")
    own = model.forward

    @functools.wraps(own)
    def forward(*args, **inputs):
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError
        return own(*args, **inputs)

    monkeypatch.setattr(model, "forward", forward)
    assert find(model, make_prompts()) == "none"
    monkeypatch.undo()
    assert find(model, make_prompts()) == "all"
