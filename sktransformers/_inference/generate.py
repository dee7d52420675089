"""Generate token ids from prompts with the model's own ``generate``.

Independent of text and scikit-learn. Without beam search, the next tokens are chosen by
:func:`~.sampling.choose`, so that they do not depend on the other rows of the batch.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
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

from .._hardware.devices import autocast, is_out_of_memory
from ..exceptions import DivergenceError
from .forward import NOT_FINITE
from .padding import find_shared_by, pad, without_generation_config
from .sampling import GenerationSettings, Row, Stop, choose, draw_key

_TOKEN_BUDGET = 8192


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
        prompt that exceeds it is processed in a batch of its own. Batches that do not
        fit into memory are split in half.

    Returns
    -------
    list of list of int
        ``settings.n`` sequences for each prompt, in order of the prompts. Generated
        ids only, without the end-of-sequence token.

    Raises
    ------
    DivergenceError
        If a logit is NaN or infinite.
    ValueError
        If a prompt is empty or fills the model's context.
    """
    _check(model, prompts, settings)
    start: Any = [settings.decoder_start_id] if model.config.is_encoder_decoder else []
    if settings.num_beams == 1:
        prompts = [ids for ids in prompts for _ in range(settings.n)]
    shared_by = find_shared_by(model, prompts, settings, device)
    if shared_by == "none" and settings.num_beams > 1:
        raise ValueError(
            f"{type(model).__name__} generates other texts in batches, which beam "
            "search needs. Pass num_beams=1."
        )
    is_encoder_decoder = model.config.is_encoder_decoder
    batches = _batches(prompts, settings, token_budget, shared_by, is_encoder_decoder)
    model = without_generation_config(model)
    results: dict[int, list[int]] = {}
    waiting = list(batches)[::-1]
    while waiting:
        numbers = waiting.pop()
        rows = [
            row
            for i in numbers
            for row in _make_rows(i, start or prompts[i].tolist(), settings, seed)
        ]
        try:
            with torch.inference_mode(), autocast(device, precision):
                _generate_batch(
                    model, [prompts[i] for i in numbers], rows, settings, device, stop
                )
        except Exception as error:
            if len(numbers) == 1 or not is_out_of_memory(error):
                raise
            half = len(numbers) // 2
            waiting += [numbers[half:], numbers[:half]]
            continue
        results |= {row.place: row.tokens for row in rows}
    return [results[place] for place in sorted(results)]


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

    The model runs in a thread, from the first ``next`` until the text is complete or
    the iterator is closed.

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
        Immediately, if ``num_beams`` or ``n`` is above 1, or if the prompt is empty or
        fills the model's context.
    """
    if settings.num_beams > 1 or settings.n > 1:
        raise ValueError(
            "Streaming generates a single text, which requires num_beams=1 and n=1. "
            f"Got num_beams={settings.num_beams} and n={settings.n}."
        )
    _check(model, [prompt], settings)

    run = functools.partial(
        generate,
        model,
        [prompt],
        settings,
        device=device,
        precision=precision,
        seed=seed,
    )
    return _stream(run, stop)


def _stream(run: Callable[..., object], stop: Stop | None) -> Iterator[int]:
    """Run a generation in a thread; yield each id that its stopping criterion sees."""
    queue: SimpleQueue[int | BaseException | None] = SimpleQueue()
    is_closed = threading.Event()

    def hand_over(ids: list[int]) -> bool:
        queue.put(ids[-1])
        # At exit, the interpreter waits for the thread.
        is_unwanted = is_closed.is_set() or not threading.main_thread().is_alive()
        return is_unwanted or (stop is not None and stop(ids))

    def work() -> None:
        end = None
        try:
            run(stop=hand_over)
        except BaseException as error:  # also what a stopping criterion raises
            end = error
        queue.put(end)

    thread = threading.Thread(target=work, name="sktransformers-stream")
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_closed.set()
        thread.join()


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


def _batches(
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    token_budget: int,
    shared_by: str,
    is_encoder_decoder: bool,
) -> Iterator[list[int]]:
    """Split prompts into batches, longest first; of equal length if required."""
    looks_back = settings.num_beams > 1 and settings.penalizes_repetition
    if shared_by == "all" and looks_back and not is_encoder_decoder:
        shared_by = "equal"  # the penalties of transformers include padding tokens
    lengths = np.array([len(ids) for ids in prompts])
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = int(lengths[order[0]])
        width = longest + settings.max_new_tokens
        size = max(1, token_budget // (width * settings.num_beams))
        # All rows take the same number of steps, beyond the context if lengths differ.
        is_full = settings.context is not None and width > settings.context
        if shared_by == "none":
            size = 1
        elif shared_by == "equal" or (is_full and not is_encoder_decoder):
            size = min(size, int((lengths[order] == longest).sum()))
        yield order[:size].tolist()
        order = order[size:]


def _make_rows(
    number: int, given: list[int], settings: GenerationSettings, seed: int
) -> Iterator[Row]:
    """Yield the initial states of the sequences to generate for an input."""
    limit = settings.max_new_tokens
    if settings.context is not None:
        limit = min(limit, settings.context - len(given))
    n_rows = _rows_per_input(settings)
    for place in range(number * n_rows, (number + 1) * n_rows):
        prompt, sample = divmod(place, settings.n)
        key = draw_key(seed, prompt, sample) if settings.do_sample else 0
        yield Row(place, given, limit, key)


def _rows_per_input(settings: GenerationSettings) -> int:
    """Return the number of texts of an input: the best of its beams."""
    return settings.n if settings.num_beams > 1 else 1


def _generate_batch(
    model: Any,
    prompts: list[np.ndarray],
    rows: list[Row],
    settings: GenerationSettings,
    device: torch.device,
    stop: Stop | None,
) -> None:
    """Generate the tokens of all rows; with beams, ``settings.n`` for each prompt."""
    is_encoder_decoder = model.config.is_encoder_decoder
    ids, mask = pad(prompts, settings.pad_id, left=not is_encoder_decoder)
    n_given = 1 if is_encoder_decoder else ids.shape[1]
    max_new_tokens = max(row.limit for row in rows)
    processors: list[LogitsProcessor] = [_RequireFinite()]
    if settings.num_beams == 1:
        processors.append(_ChooseTokens(rows, settings, stop))
        criteria: list[StoppingCriteria] = [_BatchIsDone(rows)]
    else:
        criteria = [] if stop is None else [_StopCallable(stop, n_given)]
    outputs = model.generate(
        torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=_configuration(settings, max_new_tokens),
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList(criteria),
    )
    if settings.num_beams > 1:
        for row, tokens in zip(rows, outputs[:, n_given:].tolist(), strict=True):
            for token in tokens:
                if not row.is_done:
                    row.take(token, settings, stop)


def _configuration(
    settings: GenerationSettings, max_new_tokens: int
) -> GenerationConfig:
    """Return the generation config; with one beam, tokens are chosen by `choose`."""
    options: dict[str, Any] = {}
    if settings.num_beams > 1:
        options = {
            "eos_token_id": list(settings.eos_ids) or None,
            "num_beams": settings.num_beams,
            "num_return_sequences": settings.n,
            "forced_bos_token_id": settings.forced_first_id,
            "repetition_penalty": settings.repetition_penalty,
            "no_repeat_ngram_size": settings.no_repeat_ngram_size,
            "suppress_tokens": list(settings.suppressed_ids) or None,
        }
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=settings.pad_id,
        decoder_start_token_id=settings.decoder_start_id,
        **options,
    )


class _RequireFinite(LogitsProcessor):
    """Raise DivergenceError for logits from which any token would be chosen."""

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not (scores < torch.inf).all():  # also false for NaN; masks are -inf
            raise DivergenceError(NOT_FINITE)
        return scores


class _ChooseTokens(LogitsProcessor):
    """Choose the next tokens with `choose` and mask out all others."""

    def __init__(
        self, rows: list[Row], settings: GenerationSettings, stop: Stop | None
    ) -> None:
        self._rows = rows
        self._settings = settings
        self._stop = stop

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        numbers = [i for i, row in enumerate(self._rows) if not row.is_done]
        rows = [self._rows[i] for i in numbers]
        chosen = scores.new_full((len(scores), 1), self._settings.pad_id).long()
        if rows:
            tokens = choose(scores[numbers], rows, self._settings)
            for row, token in zip(rows, tokens, strict=True):
                row.take(token, self._settings, self._stop)
            chosen[numbers, 0] = torch.tensor(tokens, device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


class _BatchIsDone(StoppingCriteria):
    """Stop when all rows are finished."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def __call__(self, ids: torch.Tensor, *_: Any, **_others: Any) -> torch.Tensor:
        return torch.tensor([row.is_done for row in self._rows], device=ids.device)


class _StopCallable(StoppingCriteria):
    """Wrap a stopping callable as stopping criteria of transformers."""

    def __init__(self, stop: Stop, n_given: int) -> None:
        self._stop = stop
        self._n_given = n_given

    def __call__(self, ids: torch.Tensor, *_: Any, **_others: Any) -> torch.Tensor:
        stops = [self._stop(row) for row in ids[:, self._n_given :].tolist()]
        return torch.tensor(stops, device=ids.device)
