"""Prompts in, new ids out: the choice of a token, batches, and streams."""

import functools
import gc
import itertools
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import generation_models
import numpy as np
import pytest
import torch
from generation_models import (
    DECODERS,
    EOS,
    N_TOKENS,
    PAD,
    PAIRS,
    POSITIONS,
    START,
    make_generative,
    make_prompts,
)
from tiny_models import assert_close
from transformers import (
    GenerationConfig,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from sktransformers._inference import generate as generation
from sktransformers._inference.generate import generate, stream
from sktransformers._inference.sampling import (
    GenerationSettings,
    Row,
    candidates,
    choose,
    draw_key,
)
from sktransformers.exceptions import DivergenceError

CPU = torch.device("cpu")
ENDS = (EOS, 10, 20, 30)  # several, so that rows end at many lengths
GREEDY = GenerationSettings(
    max_new_tokens=12,
    eos_ids=ENDS,
    pad_id=PAD,
    suppressed_ids=(PAD,),
    decoder_start_id=START,
)
WAYS = {
    "greedy": GREEDY,
    "penalties": replace(GREEDY, repetition_penalty=1.5, no_repeat_ngram_size=2),
    "sampling": replace(GREEDY, do_sample=True, n=2),
    "truncated": replace(
        GREEDY, do_sample=True, temperature=0.7, top_k=20, top_p=0.8, min_p=0.05
    ),
    "beams": replace(GREEDY, num_beams=3, n=2),
    "beams with penalties": replace(
        GREEDY, num_beams=3, repetition_penalty=1.5, no_repeat_ngram_size=2
    ),
}


@pytest.fixture(scope="module")
def models():
    """Return a tiny model of each kind; not to be changed."""
    return {kind: make_generative(kind) for kind in DECODERS + PAIRS}


def cut(ids, ends):
    """Return the ids before the first end."""
    return ids[: min([ids.index(end) for end in ends if end in ids], default=None)]


def reference(model, prompt, settings, **options):
    """Return what transformers itself generates for one prompt."""
    output = model.generate(
        torch.from_numpy(prompt)[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=list(settings.eos_ids),
        pad_token_id=settings.pad_id,
        suppress_tokens=[settings.pad_id],
        do_sample=False,
        **options,
    )
    n_given = 1 if model.config.is_encoder_decoder else len(prompt)
    return [cut(row, settings.eos_ids) for row in output[:, n_given:].tolist()]


# What comes out


@pytest.mark.parametrize("kind", DECODERS + PAIRS)
def test_greedy_output_is_transformers_own(kind, models):
    prompts = make_prompts()
    expected = [reference(models[kind], ids, GREEDY)[0] for ids in prompts]
    assert generate(models[kind], prompts, GREEDY, device=CPU) == expected
    assert len({tuple(row) for row in expected}) > 2


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_penalties_and_beams_are_transformers_own(kind, models):
    prompts = make_prompts(5)
    for way in ("penalties", "beams", "beams with penalties"):
        settings = WAYS[way]
        expected = []
        for ids in prompts:
            expected += reference(
                models[kind],
                ids,
                settings,
                num_beams=settings.num_beams,
                num_return_sequences=settings.n,
                repetition_penalty=settings.repetition_penalty,
                no_repeat_ngram_size=settings.no_repeat_ngram_size,
            )
        assert generate(models[kind], prompts, settings, device=CPU) == expected, way


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        *itertools.product(["llama", "bart"], WAYS),
        *itertools.product(["gpt2", "mistral", "bloom", "mamba", "t5"], ["sampling"]),
        ("mamba", "penalties"),
        ("mamba", "beams"),
    ],
)
def test_a_row_does_not_depend_on_its_batch(kind, way, models):
    prompts, settings = make_prompts(6), WAYS[way]
    together = generate(models[kind], prompts, settings, device=CPU, seed=3)
    for budget in (1, 150):  # each prompt alone; a few, which others join
        again = generate(
            models[kind], prompts, settings, device=CPU, seed=3, token_budget=budget
        )
        assert again == together
    first = generate(models[kind], prompts[:3], settings, device=CPU, seed=3)
    assert first == together[: 3 * settings.n]
    assert len(together) == len(prompts) * settings.n
    assert len({tuple(row) for row in together}) > 2


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_scores_do_not_depend_on_padding(kind, models):
    """The largest difference is one of rounding, at each step."""
    prompts = make_prompts()
    settings = replace(GREEDY, eos_ids=())
    found = {}

    def record(scores, rows, settings):
        for row, own in zip(rows, scores, strict=True):
            found.setdefault(row.place, []).append(own.clone())
        return choose(scores, rows, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "choose", record)
        generate(models[kind], prompts, settings, device=CPU)
        together, found = found, {}
        generate(models[kind], prompts, settings, device=CPU, token_budget=1)
    for place, scores in together.items():
        assert len(scores) == settings.max_new_tokens
        # Weights as large as these enlarge what rounding changes in a layer.
        assert_close(torch.stack(found[place]), torch.stack(scores), rtol=1e-4)


def test_rows_are_in_input_order_without_prompt_end_or_padding(models):
    prompts = make_prompts(12)
    rows = generate(models["llama"], prompts, GREEDY, device=CPU)
    backwards = generate(models["llama"], prompts[::-1], GREEDY, device=CPU)
    assert backwards == rows[::-1]
    assert not {PAD, *ENDS} & {token for row in rows for token in row}
    assert all(isinstance(token, int) for row in rows for token in row)
    assert any(len(row) == 12 for row in rows)
    assert any(len(row) < 12 for row in rows)


def test_no_prompts_give_no_rows(models):
    assert generate(models["llama"], [], GREEDY, device=CPU) == []
    beams = replace(GREEDY, num_beams=2)
    assert generate(models["llama"], [], beams, device=CPU) == []


@pytest.mark.parametrize("kind", ["llama", "bart"])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_what_a_model_was_saved_with_is_not_added(kind, num_beams, models, capfd):
    prompts = make_prompts(4)
    settings = replace(GREEDY, num_beams=num_beams)
    expected = generate(models[kind], prompts, settings, device=CPU)
    model = make_generative(kind)
    saved = {"do_sample": True, "max_length": 3, "num_beams": 4, "temperature": 0.1}
    saved |= {"suppress_tokens": [token for row in expected for token in row]}
    saved |= {"repetition_penalty": 2.0, "no_repeat_ngram_size": 1, "min_length": 9}
    model.generation_config = GenerationConfig(**saved)
    model.config.use_cache = False
    assert generate(model, prompts, settings, device=CPU) == expected
    for name, value in saved.items():
        assert getattr(model.generation_config, name) == value
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["llama", "bart", "mamba"])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_stopping_by_what_was_written(kind, num_beams, models):
    def stop(ids):
        return sum(ids[-2:]) % 5 == 2

    prompts = make_prompts(5)
    settings = replace(GREEDY, num_beams=num_beams, eos_ids=())
    rows = generate(models[kind], prompts, settings, device=CPU, stop=stop)
    assert any(stop(row) for row in rows)
    for row in rows:
        assert not any(stop(row[:i]) for i in range(1, len(row)))
        assert stop(row) or len(row) == settings.max_new_tokens


@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_first_token_that_is_forced(num_beams, models):
    prompts = make_prompts(5)
    settings = replace(GREEDY, forced_first_id=7, num_beams=num_beams)
    rows = generate(models["bart"], prompts, settings, device=CPU)
    assert {row[0] for row in rows} == {7}
    assert rows == [
        reference(
            models["bart"], ids, GREEDY, forced_bos_token_id=7, num_beams=num_beams
        )[0]
        for ids in prompts
    ]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_row_that_fills_the_context_ends(num_beams, models):
    prompts = [4 + np.arange(n) % 50 for n in (5, POSITIONS - 3, 2)]
    settings = replace(GREEDY, eos_ids=(), context=POSITIONS, num_beams=num_beams)
    rows = generate(models["gpt2"], prompts, settings, device=CPU)
    assert [len(row) for row in rows] == [12, 3, 12]
    without = replace(settings, context=None)
    alone = [
        generate(models["gpt2"], [prompts[i]], without, device=CPU) for i in (0, 2)
    ]
    assert [rows[0], rows[2]] == [row for (row,) in alone]


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_other_precisions(precision):
    model = make_generative("llama")
    if precision == "float64":
        model = model.double()
    prompts = make_prompts(4)
    rows = generate(model, prompts, GREEDY, device=CPU, precision=precision)
    assert {p.dtype for p in model.parameters()} <= {torch.float32, torch.float64}
    assert sum(map(len, rows)) > 0


# Memory


@pytest.mark.parametrize("is_encoder_decoder", [False, True])
@pytest.mark.parametrize("shared_by", ["all", "equal", "none"])
@pytest.mark.parametrize("way", ["sampling", "beams", "beams with penalties"])
def test_the_budget_holds_for_new_tokens_and_beams_too(
    is_encoder_decoder, shared_by, way
):
    prompts, settings = make_prompts(20), WAYS[way]
    batches = [
        [len(prompts[i]) for i in batch]
        for batch in generation._batches(
            prompts, settings, 200, shared_by, is_encoder_decoder
        )
    ]
    assert sorted(itertools.chain(*batches)) == sorted(map(len, prompts))
    for lengths in batches:
        n_tokens = len(lengths) * settings.num_beams * (max(lengths) + 12)
        assert len(lengths) == 1 or n_tokens <= 200
    # The penalties of beam search look back at a decoder's prompt.
    looks_back = way == "beams with penalties" and not is_encoder_decoder
    is_padded = any(len(set(lengths)) > 1 for lengths in batches)
    assert is_padded == (shared_by == "all" and not looks_back)
    assert (len(batches) == 20) == (shared_by == "none")


def test_beams_of_a_model_that_mixes_rows_are_refused(models, monkeypatch):
    monkeypatch.setattr(generation, "find_shared_by", lambda *_: "none")
    prompts, settings = make_prompts(3), WAYS["sampling"]
    rows = generate(models["llama"], prompts, settings, device=CPU)
    monkeypatch.undo()
    assert rows == generate(models["llama"], prompts, settings, device=CPU)
    monkeypatch.setattr(generation, "find_shared_by", lambda *_: "none")
    with pytest.raises(ValueError, match="LlamaForCausalLM generates other texts in"):
        generate(models["llama"], prompts, WAYS["beams"], device=CPU)


@pytest.mark.parametrize("kind", ["llama", "bart"])
@pytest.mark.parametrize("way", ["sampling", "beams"])
def test_a_batch_that_does_not_fit_into_memory_is_halved(
    kind, way, models, monkeypatch
):
    prompts, settings = make_prompts(7), WAYS[way]
    expected = generate(models[kind], prompts, settings, device=CPU)
    most, sizes = 7, []
    own = models[kind].forward

    def run(*args, **inputs):
        ids = inputs.get("input_ids", inputs.get("decoder_input_ids"))
        size = len(ids)
        if size > most:
            raise torch.OutOfMemoryError
        sizes.append(size)
        return own(*args, **inputs)

    monkeypatch.setattr(models[kind], "forward", functools.wraps(own)(run))
    assert generate(models[kind], prompts, settings, device=CPU) == expected
    assert 1 < max(sizes) <= most
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        generate(models[kind], prompts, settings, device=CPU)


def test_nothing_is_held_on_to(models):
    prompts = make_prompts(3)
    generate(models["llama"], prompts, GREEDY, device=CPU)
    gc.collect()
    assert not any(type(o) is Row for o in gc.get_objects())


# Streaming


@pytest.mark.parametrize("kind", DECODERS + PAIRS)
@pytest.mark.parametrize("do_sample", [False, True])
def test_a_stream_brings_the_same_ids(kind, do_sample, models):
    prompt = make_prompts()[0]
    settings = replace(GREEDY, do_sample=do_sample, eos_ids=(EOS,))
    (expected,) = generate(models[kind], [prompt], settings, device=CPU, seed=5)
    ids = stream(models[kind], prompt, settings, device=CPU, seed=5)
    found = []
    for token in ids:
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        found.append(token)
    assert found == expected


def test_a_stream_may_end_at_once_or_be_left(models):
    prompt = make_prompts()[0]
    (first, *_) = stream(models["llama"], prompt, GREEDY, device=CPU)
    at_once = replace(GREEDY, eos_ids=(first,))
    assert list(stream(models["llama"], prompt, at_once, device=CPU)) == []
    one = replace(GREEDY, max_new_tokens=1)
    assert list(stream(models["llama"], prompt, one, device=CPU)) == [first]
    ids = stream(models["llama"], prompt, GREEDY, device=CPU)
    assert next(ids) == first
    ids.close()


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True, "n": 2}])
def test_a_stream_of_several_is_refused_at_once(options, models):
    with pytest.raises(ValueError, match="requires num_beams=1 and n=1"):
        stream(models["llama"], np.array([5]), replace(GREEDY, **options), device=CPU)


def test_a_stream_runs_from_its_first_token_until_it_is_closed(models):
    prompt = make_prompts()[0]
    seen = []

    def slow(ids):
        seen.append(ids[-1])
        time.sleep(0.01)
        return False

    threads = threading.active_count()
    long = replace(GREEDY, eos_ids=(), max_new_tokens=400)
    ids = stream(models["llama"], prompt, long, device=CPU, stop=slow)
    assert threading.active_count() == threads
    assert [next(ids) for _ in range(3)] == seen[:3]
    ids.close()
    assert threading.active_count() == threads
    assert len(seen) < 50


def test_errors_are_raised_where_the_stream_is_read(models):
    def interrupt(ids):
        if len(ids) == 2:
            raise KeyboardInterrupt
        return False

    prompt = make_prompts()[0]
    ids = stream(models["llama"], prompt, GREEDY, device=CPU, stop=interrupt)
    next(ids)
    next(ids)
    with pytest.raises(KeyboardInterrupt):
        next(ids)
    assert list(ids) == []


@pytest.mark.slow
def test_a_program_may_end_before_its_stream(tmp_path):
    """The interpreter waits for the thread, which notices."""
    program = """
import sys, numpy as np, torch
sys.path.insert(0, {helpers!r})
from generation_models import make_generative
from sktransformers._inference import generate
from sktransformers._inference.sampling import GenerationSettings

settings = GenerationSettings(max_new_tokens=10**6)
ids = generate.stream(
    make_generative("llama"), np.array([5]), settings, device=torch.device("cpu")
)
next(ids)
"""
    helpers = str(Path(generation_models.__file__).parent)
    command = [sys.executable, "-c", program.format(helpers=helpers)]
    subprocess.run(command, check=True, timeout=100)


# Random numbers


def test_sampling_leaves_torch_alone_and_follows_the_seed(models):
    prompts, settings = make_prompts(), WAYS["sampling"]
    for kind in ("llama", "bart", "mamba"):
        before = torch.get_rng_state()
        rows = generate(models[kind], prompts, settings, device=CPU, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert generate(models[kind], prompts, settings, device=CPU, seed=1) == rows
        assert generate(models[kind], prompts, settings, device=CPU, seed=2) != rows
        assert rows[0] != rows[1]


def test_equal_prompts_get_different_samples(models):
    prompts = [np.array([5, 6, 7])] * 6
    rows = generate(models["llama"], prompts, WAYS["sampling"], device=CPU)
    assert len({tuple(row) for row in rows}) > 6


def draw(scores, n, settings):
    """Return n draws from the same scores."""
    rows = [Row(0, [5], 9, draw_key(0, i, 0)) for i in range(n)]
    return np.array(choose(scores.expand(n, -1), rows, settings))


@pytest.mark.parametrize("shape", ["peaked", "flat"])
def test_draws_follow_the_probabilities(shape):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(12, generator=generator) * (2 if shape == "peaked" else 0.1)
    settings = replace(GREEDY, do_sample=True, eos_ids=(), suppressed_ids=())
    n = 20_000
    shares = np.bincount(draw(scores, n, settings), minlength=12) / n
    expected = scores.softmax(dim=0).numpy()
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / n)


def test_what_is_next_to_impossible_is_not_drawn():
    """A random number that was rounded to 0 would make any token win."""
    scores = torch.full((20_000,), -30.0)
    scores[7] = 0.0
    settings = replace(GREEDY, do_sample=True, eos_ids=(), suppressed_ids=())
    assert set(draw(scores, 200, settings)) == {7}


def test_steps_rows_and_samples_draw_independently():
    keys = [draw_key(s, i, j) for s in (0, 1) for i in range(9) for j in range(9)]
    assert len(set(keys)) == len(keys)
    scores = torch.zeros(len(keys), 200)
    settings = replace(GREEDY, do_sample=True, eos_ids=(), suppressed_ids=())
    rows = [Row(0, [5], 99, key) for key in keys]
    drawn = []
    for _ in range(60):
        tokens = choose(scores, rows, settings)
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
        drawn.append(tokens)
    drawn = np.array(drawn)
    correlations = np.corrcoef(np.vstack([drawn[:-1], drawn[1:]]))
    assert np.abs(correlations[~np.eye(118, dtype=bool)]).mean() < 0.12
    counts = np.bincount(drawn.ravel(), minlength=200)
    expected = drawn.size / 200
    assert ((counts - expected) ** 2 / expected).sum() < 300  # chi-squared, 199 degrees


# The choice of a token


@pytest.mark.parametrize("top_k", [None, 5, 1000])
@pytest.mark.parametrize("top_p", [None, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("min_p", [None, 0.2])
def test_what_may_be_drawn_is_what_transformers_leaves(top_k, top_p, min_p):
    generator = torch.Generator().manual_seed(1)
    scores = 2 * torch.randn(6, 50, generator=generator)
    settings = replace(
        GREEDY, do_sample=True, temperature=0.8, top_k=top_k, top_p=top_p, min_p=min_p
    )
    warpers = [TemperatureLogitsWarper(0.8)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p else []
    warpers += [MinPLogitsWarper(min_p)] if min_p else []
    expected = scores
    for warper in warpers:
        expected = warper(None, expected)
    left, ids = candidates(scores, settings)
    found = torch.full_like(scores, -torch.inf).scatter(1, ids, left)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_looking_back_is_as_in_transformers(size, penalty):
    rng = np.random.default_rng(0)
    settings = replace(
        GREEDY, no_repeat_ngram_size=size, repetition_penalty=penalty, suppressed_ids=()
    )
    for _ in range(40):
        past = rng.integers(4, 9, size=rng.integers(1, 9))
        scores = torch.from_numpy(rng.normal(size=(1, 12)).astype("float32"))
        n_given = int(rng.integers(1, len(past) + 1))
        row = Row(0, past[:n_given].tolist(), 9, tokens=past[n_given:].tolist())
        ids, expected = torch.from_numpy(past)[None], scores
        if penalty != 1:
            expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, expected)
        if size:
            expected = NoRepeatNGramLogitsProcessor(size)(ids, expected)
        before = scores.clone()
        assert choose(scores, [row], settings) == [int(expected.argmax())]
        assert torch.equal(scores, before)


def test_what_is_suppressed_is_never_chosen():
    scores = torch.zeros(1, N_TOKENS)
    scores[0, PAD] = 9.0
    row = Row(0, [5], 9)
    assert choose(scores, [row], GREEDY) != [PAD]
    assert choose(scores, [row], replace(GREEDY, suppressed_ids=())) == [PAD]


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens must be at least 1\. Got 0"),
        ({"n": 2}, r"n=2 different texts need do_sample=True or num_beams=2"),
        (
            {"n": 4, "num_beams": 3},
            r"num_beams=4\..*and num_beams=3",
        ),
        ({"do_sample": True, "num_beams": 2}, "num_beams=2 cannot be combined"),
        ({"do_sample": True, "temperature": 0.0}, r"temperature must be above 0"),
    ],
)
def test_settings_that_exclude_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationSettings(**{"max_new_tokens": 5, **options})


@pytest.mark.parametrize("ways", ["generate", "stream"])
def test_prompts_that_are_refused(ways, models):
    def run(kind, prompt, settings):
        if ways == "stream":
            return stream(models[kind], prompt, settings, device=CPU)
        return generate(models[kind], [prompt], settings, device=CPU)

    with pytest.raises(ValueError, match="Prompt 0 has no ids"):
        run("llama", np.array([], dtype=np.int64), GREEDY)
    full = replace(GREEDY, context=3)
    with pytest.raises(ValueError, match="0 has 3 ids, but the model's context is 3"):
        run("llama", np.array([5, 6, 7]), full)
    run("bart", np.array([5, 6, 7]), full)  # the decoder has read one id
    with pytest.raises(ValueError, match="Pass decoder_start_id"):
        run("bart", np.array([5]), replace(GREEDY, decoder_start_id=None))


def test_an_interrupt_propagates(models):
    def interrupt(_ids):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(models["llama"], make_prompts(3), GREEDY, device=CPU, stop=interrupt)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("way", ["greedy", "sampling", "beams"])
def test_logits_that_are_not_finite_choose_no_token(kind, way):
    model = make_generative(kind)
    with torch.no_grad():
        next(iter(model.get_output_embeddings().parameters())).fill_(torch.nan)
    with pytest.raises(DivergenceError, match="infinite or NaN"):
        generate(model, make_prompts(3), WAYS[way], device=CPU)
