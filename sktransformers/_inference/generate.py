"""Generate token ids from prompts with continuous batching.

Independent of text and scikit-learn. Finished sequences leave the batch and waiting
prompts take their place, so a long sequence does not delay the others.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from .._compat import forward_arguments, has_recurrent_state
from .._hardware.devices import autocast
from .._warnings import warn
from ..exceptions import UncachedGenerationWarning
from .decoder import Decoder, make_row, pad
from .sampling import GenerationSettings, Row, Stop, choose

_TOKEN_BUDGET = 8192
_REFILL = 8  # add prompts when at least 1/8 of the batch is free


def generate(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    *,
    device: torch.device,
    precision: str = "float32",
    seed: int = 0,
    stop: Stop | None = None,
    token_budget: int = _TOKEN_BUDGET,
) -> list[list[int]]:
    """Generate token ids for each prompt.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder model, in evaluation mode. Not modified.
    prompts : sequence of ndarray of shape (n_ids,)
        Non-empty token ids: the decoder's prompt, or the encoder's input.
    settings : GenerationSettings
        Generation settings.
    device : torch.device
        Device of the model.
    precision : str, default="float32"
        Precision of autocast.
    seed : int, default=0
        Seed for sampling. The samples also depend on the index of the prompt and of
        the sample, but not on the other sequences of the batch.
    stop : callable or None, default=None
        Stopping criterion: takes the generated token ids of a sequence and returns
        whether to stop.
    token_budget : int, default=8192
        Maximum number of tokens in a batch, including new tokens, beams and samples. A
        prompt that exceeds it is processed in a batch of its own.

    Returns
    -------
    list of list of int
        ``settings.n`` sequences for each prompt, in order of the prompts. Generated
        ids only, without the end-of-sequence token.

    Raises
    ------
    ValueError
        If a prompt is empty or fills the model's context.
    """
    _check(model, prompts, settings)
    results: list[list[int]] = [[] for _ in range(len(prompts) * settings.n)]
    is_supported = Decoder.supports(model)
    if settings.num_beams == 1 and not is_supported and not has_recurrent_state(model):
        warn(
            f"{type(model).__name__} has no key-value cache that sktransformers "
            "supports, so each new token requires a forward pass over the whole "
            "sequence. If the model should have one, the library that defines it may "
            "be newer than supported.",
            UncachedGenerationWarning,
        )
    if settings.num_beams == 1 and is_supported:
        decoder = Decoder(model, settings, device, precision, seed=seed, stop=stop)
        batches = _continuous_batching(decoder, prompts, settings, token_budget)
    else:
        batches = _generate_with_transformers(
            model, prompts, settings, device, seed, stop, token_budget
        )
    with torch.inference_mode(), autocast(device, precision):
        for rows in batches:
            for row in rows:
                results[row.place] = row.tokens
    return results


def stream(
    model: Any,
    prompt: np.ndarray,
    settings: GenerationSettings,
    *,
    device: torch.device,
    precision: str = "float32",
    seed: int = 0,
    stop: Stop | None = None,
) -> Iterator[int]:
    """Generate token ids for one prompt and yield each as soon as it is chosen.

    Parameters
    ----------
    model, settings, device, precision, seed, stop
        See :func:`generate`, which returns the same ids for its first prompt.
    prompt : ndarray of shape (n_ids,)
        Non-empty token ids.

    Returns
    -------
    iterator of int
        Generated ids.

    Raises
    ------
    ValueError
        Immediately, if ``num_beams`` or ``n`` is above 1, if the prompt is empty or
        fills the model's context, or if the model has no key-value cache.
    """
    if settings.num_beams > 1 or settings.n > 1:
        raise ValueError(
            "Streaming generates a single text, which requires num_beams=1 and n=1. "
            f"Got num_beams={settings.num_beams} and n={settings.n}."
        )
    _check(model, [prompt], settings)
    if not Decoder.supports(model):
        raise ValueError(
            f"{type(model).__name__} has no key-value cache, which streaming requires. "
            "Generate the whole text instead."
        )
    decoder = Decoder(model, settings, device, precision, seed=seed, stop=stop)
    return _stream(decoder, prompt)


def _stream(decoder: Decoder, prompt: np.ndarray) -> Iterator[int]:
    rows = decoder.add([(0, prompt)]) or decoder.rows
    (row,) = rows
    yield from row.tokens
    while decoder.rows:
        n_before = len(row.tokens)
        decoder.step()
        yield from row.tokens[n_before:]


def _continuous_batching(
    decoder: Decoder,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    token_budget: int,
) -> Iterator[list[Row]]:
    """Decode all prompts, longest first; yield sequences as they are finished."""
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    while waiting or decoder.rows:
        longest = max(
            [len(row.given) for row in decoder.rows]
            + [len(prompts[number]) for number in waiting[-1:]]
        )
        width = (longest + settings.max_new_tokens) * settings.n
        capacity = max(1, token_budget // width)
        room = capacity - -(-len(decoder.rows) // settings.n)
        if waiting and decoder.can_add and room * _REFILL >= capacity:
            chosen = [waiting.pop()]
            while waiting and len(chosen) < room:
                is_same = len(prompts[waiting[-1]]) == len(prompts[chosen[0]])
                if not (decoder.takes_padding or is_same):
                    break
                chosen.append(waiting.pop())
            yield decoder.add([(number, prompts[number]) for number in chosen])
        if decoder.rows:
            yield decoder.step()


def _check(
    model: Any, prompts: Sequence[np.ndarray], settings: GenerationSettings
) -> None:
    is_encoder_decoder = model.config.is_encoder_decoder
    if is_encoder_decoder and settings.decoder_start_id is None:
        raise ValueError(
            "An encoder-decoder model requires the start token of its decoder. Pass "
            "decoder_start_id."
        )
    for number, ids in enumerate(prompts):
        if len(ids) == 0:
            raise ValueError(
                f"Prompt {number} has no ids. Pass at least one token id, such as the "
                "beginning-of-sequence token."
            )
        context = settings.context
        if not is_encoder_decoder and context is not None and len(ids) >= context:
            raise ValueError(
                f"Prompt {number} has {len(ids)} ids, but the model's context is "
                f"{context} ids, including generated ones. Shorten the prompt."
            )


def _generate_with_transformers(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    device: torch.device,
    seed: int,
    stop: Stop | None,
    token_budget: int,
) -> Iterator[list[Row]]:
    """Generate with transformers: beam search, or models without key-value cache."""
    is_encoder_decoder = model.config.is_encoder_decoder
    # A shallow copy with an empty generation config: transformers fills unset values of
    # the passed config with those of the model's.
    model = copy.copy(model)
    model.generation_config = GenerationConfig()
    for numbers in _batches(model, prompts, settings, token_budget):
        ids, mask = pad(
            [prompts[i] for i in numbers], settings.pad_id, left=not is_encoder_decoder
        )
        start = np.array([settings.decoder_start_id])
        rows = [
            make_row(
                settings,
                i,
                sample,
                start if is_encoder_decoder else prompts[i],
                seed=seed,
            )
            for i in numbers
            for sample in range(settings.n)
        ]
        n_prefix = 1 if is_encoder_decoder else ids.shape[1]
        options: dict[str, Any] = {}
        if settings.num_beams == 1:
            each = np.arange(len(ids)).repeat(settings.n)
            ids, mask = ids[each], mask[each]
            processor = _ChooseTokens(
                [replace(row, tokens=[]) for row in rows], settings
            )
            options["logits_processor"] = LogitsProcessorList([processor])
        if stop is not None:
            criteria = StoppingCriteriaList([_StopCallable(stop, n_prefix)])
            options["stopping_criteria"] = criteria
        outputs = model.generate(
            torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            generation_config=_configuration(settings, max(row.limit for row in rows)),
            **options,
        )
        for row, tokens in zip(rows, outputs[:, n_prefix:].tolist(), strict=True):
            for token in tokens:
                row.take(token, settings, stop)
                if row.is_done:
                    break
        yield rows


def _batches(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    token_budget: int,
) -> Iterator[list[int]]:
    """Split prompts into batches, longest first; of equal length if required."""
    lengths = np.array([len(ids) for ids in prompts])
    is_encoder_decoder = model.config.is_encoder_decoder
    is_supported = Decoder.supports(model)
    takes_padding = "position_ids" in forward_arguments(model) and is_supported
    is_full = bool(settings.context) and lengths.max() + settings.max_new_tokens > (
        settings.context or 0
    )
    # Repetition penalties of transformers include the padding tokens.
    same_length = not is_encoder_decoder and (
        not takes_padding or settings.penalizes_repetition or is_full
    )
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        width = int(lengths[order[0]]) + settings.max_new_tokens
        size = max(1, token_budget // (width * max(settings.num_beams, settings.n)))
        if same_length:
            size = min(size, int((lengths[order] == lengths[order[0]]).sum()))
        yield order[:size].tolist()
        order = order[size:]


def _configuration(
    settings: GenerationSettings, max_new_tokens: int
) -> GenerationConfig:
    """Return the generation config; with one beam, tokens are chosen by `choose`."""
    own: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "use_cache": True,
        "eos_token_id": list(settings.eos_ids) or None,
        "pad_token_id": settings.pad_id,
        "decoder_start_token_id": settings.decoder_start_id,
    }
    if settings.num_beams > 1:
        own |= {
            "num_beams": settings.num_beams,
            "num_return_sequences": settings.n,
            "forced_bos_token_id": settings.forced_first_id,
            "repetition_penalty": settings.repetition_penalty,
            "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        }
        if settings.pad_id not in settings.eos_ids:
            own["suppress_tokens"] = [settings.pad_id]
    return GenerationConfig(**own)


class _ChooseTokens(LogitsProcessor):
    """Choose the next tokens with `choose` and mask out all others."""

    def __init__(self, rows: list[Row], settings: GenerationSettings) -> None:
        self._rows = rows
        self._settings = settings

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = choose(scores, self._rows, self._settings)
        for row, token in zip(self._rows, tokens, strict=True):
            row.tokens.append(token)
        chosen = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


class _StopCallable(StoppingCriteria):
    """Wrap a stopping callable as stopping criteria of transformers."""

    def __init__(self, stop: Stop, n_prefix: int) -> None:
        self._stop = stop
        self._n_prefix = n_prefix

    def __call__(self, ids: torch.Tensor, *_: Any, **_others: Any) -> torch.Tensor:
        stops = [self._stop(row) for row in ids[:, self._n_prefix :].tolist()]
        return torch.tensor(stops, device=ids.device)
