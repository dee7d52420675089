"""Prompts in, new ids out; results come back in input order.

Knows nothing of text or scikit-learn. Rows that are done leave the batch and others
take their places, so that a long row holds up nothing but itself.
"""

import copy
import warnings
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
from ..exceptions import UncachedGenerationWarning
from .choosing import Row, Settings, Stop, choose
from .decoding import Decoder, make_row, pad
from .hardware import autocast

_TOKEN_BUDGET = 8192
_REFILL = 8  # once one part in so many of the rows has left


def generate(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: Settings,
    *,
    device: torch.device,
    precision: str = "float32",
    seed: int = 0,
    stop: Stop | None = None,
    token_budget: int = _TOKEN_BUDGET,
) -> list[list[int]]:
    """Let a model write on from each prompt.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder, in evaluation mode; not changed.
    prompts : sequence of ndarray of shape (n_ids,)
        What the decoder continues, or what the encoder reads; none of them empty.
    settings : Settings
        How to choose the tokens.
    device : torch.device
        Where the model is.
    precision : str, default="float32"
        Number format of the matrix products.
    seed : int, default=0
        With a prompt's position and a sample's number it settles what is drawn,
        whatever the batch.
    stop : callable or None, default=None
        From a row's new ids to whether it ends here.
    token_budget : int, default=8192
        Tokens that are held in memory at a time, room for new ones and all beams and
        samples included. A prompt that takes more has the memory to itself.

    Returns
    -------
    list of list of int
        ``settings.n`` rows for each prompt, one after the other: new ids only,
        without the one that ended the row.

    Raises
    ------
    ValueError
        A prompt is empty or leaves no room for a new token.
    """
    _check(model, prompts, settings)
    results: list[list[int]] = [[] for _ in range(len(prompts) * settings.n)]
    is_served = Decoder.serves(model)
    if settings.num_beams == 1 and not is_served and not has_recurrent_state(model):
        warnings.warn(
            f"{type(model).__name__} has no key-value cache that sktransformers knows, "
            "so that each new token takes a pass over the whole text. Most decoders "
            "have one; if this model should, its library may be newer than supported.",
            UncachedGenerationWarning,
            stacklevel=6,  # the caller of predict
        )
    if settings.num_beams == 1 and is_served:
        decoder = Decoder(model, settings, device, precision, seed=seed, stop=stop)
        batches = _refill(decoder, prompts, settings, token_budget)
    else:
        batches = _by_transformers(
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
    settings: Settings,
    *,
    device: torch.device,
    precision: str = "float32",
    seed: int = 0,
    stop: Stop | None = None,
) -> Iterator[int]:
    """Let a model write on from one prompt; each id comes as soon as it is chosen.

    Parameters
    ----------
    model, settings, device, precision, seed, stop
        As for :func:`generate`, which gives the same ids for a first prompt.
    prompt : ndarray of shape (n_ids,)
        Not empty.

    Returns
    -------
    iterator of int
        The new ids.

    Raises
    ------
    ValueError
        At once: with ``num_beams`` or ``n`` above 1, for a prompt that
        :func:`generate` refuses, and for a model that keeps no keys and values.
    """
    if settings.num_beams > 1 or settings.n > 1:
        raise ValueError(
            "Streaming writes one text as it comes, so that it takes num_beams=1 and "
            f"n=1. Got num_beams={settings.num_beams} and n={settings.n}."
        )
    _check(model, [prompt], settings)
    if not Decoder.serves(model):
        raise ValueError(
            f"{type(model).__name__} keeps its past in a way that is not streamed. "
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


def _refill(
    decoder: Decoder,
    prompts: Sequence[np.ndarray],
    settings: Settings,
    token_budget: int,
) -> Iterator[list[Row]]:
    """Run all prompts through a decoder, longest first; yield rows as they are done."""
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    while waiting or decoder.rows:
        longest = max(
            [len(row.given) for row in decoder.rows]
            + [len(prompts[number]) for number in waiting[-1:]]
        )
        width = (longest + settings.max_new_tokens) * settings.n
        capacity = max(1, token_budget // width)
        room = capacity - -(-len(decoder.rows) // settings.n)
        if waiting and decoder.is_open and room * _REFILL >= capacity:
            chosen = [waiting.pop()]
            while waiting and len(chosen) < room:
                is_same = len(prompts[waiting[-1]]) == len(prompts[chosen[0]])
                if not (decoder.takes_padding or is_same):
                    break
                chosen.append(waiting.pop())
            yield decoder.add([(number, prompts[number]) for number in chosen])
        if decoder.rows:
            yield decoder.step()


def _check(model: Any, prompts: Sequence[np.ndarray], settings: Settings) -> None:
    is_pair = model.config.is_encoder_decoder
    if is_pair and settings.decoder_start_id is None:
        raise ValueError(
            "The decoder of an encoder-decoder starts from an id of its own. Pass "
            "decoder_start_id."
        )
    for number, ids in enumerate(prompts):
        if len(ids) == 0:
            raise ValueError(
                f"Prompt {number} has no ids. Give it at least one, such as the id "
                "that begins a text."
            )
        room = settings.context
        if not is_pair and room is not None and len(ids) >= room:
            raise ValueError(
                f"Prompt {number} has {len(ids)} ids, and the model can read {room}, "
                "new ones included. Shorten it."
            )


def _by_transformers(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: Settings,
    device: torch.device,
    seed: int,
    stop: Stop | None,
    token_budget: int,
) -> Iterator[list[Row]]:
    """Search beams, or serve an unusual model, by the model's own ``generate``."""
    is_pair = model.config.is_encoder_decoder
    # A copy that shares all weights: the model's own settings would fill up ours.
    model = copy.copy(model)
    model.generation_config = GenerationConfig()
    for numbers in _batches(model, prompts, settings, token_budget):
        ids, mask = pad(
            [prompts[i] for i in numbers], settings.pad_id, left=not is_pair
        )
        start = np.array([settings.decoder_start_id])
        rows = [
            make_row(settings, i, sample, start if is_pair else prompts[i], seed=seed)
            for i in numbers
            for sample in range(settings.n)
        ]
        n_given = 1 if is_pair else ids.shape[1]
        options: dict[str, Any] = {}
        if settings.num_beams == 1:
            each = np.arange(len(ids)).repeat(settings.n)
            ids, mask = ids[each], mask[each]
            chosen = _Chosen([replace(row, tokens=[]) for row in rows], settings)
            options["logits_processor"] = LogitsProcessorList([chosen])
        if stop is not None:
            stopping = StoppingCriteriaList([_Stopping(stop, n_given)])
            options["stopping_criteria"] = stopping
        outputs = model.generate(
            torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            generation_config=_configuration(settings, max(row.limit for row in rows)),
            **options,
        )
        for row, tokens in zip(rows, outputs[:, n_given:].tolist(), strict=True):
            for token in tokens:
                row.take(token, settings, stop)
                if row.is_done:
                    break
        yield rows


def _batches(
    model: Any, prompts: Sequence[np.ndarray], settings: Settings, token_budget: int
) -> Iterator[list[int]]:
    """Cut the prompts into batches, longest first; of one length where need be."""
    lengths = np.array([len(ids) for ids in prompts])
    is_pair = model.config.is_encoder_decoder
    takes_padding = "position_ids" in forward_arguments(model) and Decoder.serves(model)
    is_full = bool(settings.context) and lengths.max() + settings.max_new_tokens > (
        settings.context or 0
    )
    # What transformers looks back at includes the padding.
    uniform = not is_pair and (not takes_padding or settings.looks_back or is_full)
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        width = int(lengths[order[0]]) + settings.max_new_tokens
        size = max(1, token_budget // (width * max(settings.num_beams, settings.n)))
        if uniform:
            size = min(size, int((lengths[order] == lengths[order[0]]).sum()))
        yield order[:size].tolist()
        order = order[size:]


def _configuration(settings: Settings, max_new_tokens: int) -> GenerationConfig:
    """Return what transformers is told; with one beam it does not choose itself."""
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


class _Chosen(LogitsProcessor):
    """Leaves transformers one token for each row: the one that is chosen here."""

    def __init__(self, rows: list[Row], settings: Settings) -> None:
        self._rows = rows
        self._settings = settings

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = choose(scores, self._rows, self._settings)
        for row, token in zip(self._rows, tokens, strict=True):
            row.tokens.append(token)
        chosen = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


class _Stopping(StoppingCriteria):
    """Tells transformers which rows end here."""

    def __init__(self, stop: Stop, n_given: int) -> None:
        self._stop = stop
        self._n_given = n_given

    def __call__(self, ids: torch.Tensor, *_: Any, **_others: Any) -> torch.Tensor:
        stops = [self._stop(row) for row in ids[:, self._n_given :].tolist()]
        return torch.tensor(stops, device=ids.device)
