"""Choose the next token of each sequence, greedily or by sampling.

The choice for a sequence depends on its own logits, tokens and random numbers, not on
the other rows of the batch. PyTorch's global random number generators are not used.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .._text.prompt_format import PromptFormat

Stop = Callable[[list[int]], bool]
"""Stopping criterion: takes a sequence's generated ids, returns whether to stop."""

# The constants of SplitMix64, https://doi.org/10.1145/2714064.2660195, as signed
# integers: torch has no unsigned 64-bit arithmetic.
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@dataclass(frozen=True)
class GenerationSettings:
    """Generation settings.

    The values of a model's saved ``generation_config`` are not used.

    Attributes
    ----------
    max_new_tokens : int
        Maximum number of generated tokens per sequence.
    num_beams : int, default=1
        Number of beams. 1 disables beam search.
    do_sample : bool, default=False
        Whether to sample. False is greedy decoding or beam search.
    temperature : float, default=1.0
        Divisor of the logits before sampling.
    top_k : int or None, default=None
        Number of most probable tokens to sample from. None or 0 disables the limit.
    top_p : float or None, default=None
        Sample from the smallest set of most probable tokens whose cumulative
        probability reaches ``top_p``.
    min_p : float or None, default=None
        Minimum probability of a token to sample from, relative to the most probable
        token.
    repetition_penalty : float, default=1.0
        Penalty for tokens that are in the sequence already. 1 means no penalty.
    no_repeat_ngram_size : int, default=0
        N-grams of this size occur only once in a sequence. 0 disables the limit.
    n : int, default=1
        Number of sequences per prompt, by sampling or from beam search.
    eos_ids : tuple of int, default=()
        Ids of the end-of-sequence tokens.
    pad_id : int, default=0
        Id of the padding token.
    suppressed_ids : tuple of int, default=()
        Ids that are never generated.
    forced_first_id : int or None, default=None
        Id of the first generated token, such as the target language.
    decoder_start_id : int or None, default=None
        Id of the first decoder input of an encoder-decoder model.
    context : int or None, default=None
        Maximum number of tokens of the decoder, including the prompt. None means no
        limit.

    Raises
    ------
    ValueError
        If a value is invalid or values are incompatible.
    """

    max_new_tokens: int
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    n: int = 1
    eos_ids: tuple[int, ...] = ()
    pad_id: int = 0
    suppressed_ids: tuple[int, ...] = ()
    forced_first_id: int | None = None
    decoder_start_id: int | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(
                f"max_new_tokens must be at least 1. Got {self.max_new_tokens}."
            )
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                f"do_sample=True and num_beams={self.num_beams} cannot be combined. "
                "Pass num_beams=1 for sampling, or do_sample=False for beam search."
            )
        if self.do_sample and not self.temperature > 0:
            raise ValueError(
                f"temperature must be above 0. Got {self.temperature}. Pass "
                "do_sample=False for greedy decoding."
            )
        if self.n > 1 and not self.do_sample and self.n > self.num_beams:
            raise ValueError(
                f"n={self.n} different texts need do_sample=True or "
                f"num_beams={self.n}. Got do_sample=False and "
                f"num_beams={self.num_beams}."
            )

    @property
    def penalizes_repetition(self) -> bool:
        """Whether the logits are adjusted for the preceding tokens."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram_size > 0


@dataclass
class Row:
    """A sequence being generated: one row of the batch.

    Attributes
    ----------
    place : int
        Index in the results.
    given : list of int
        Input ids of the decoder before the first generated token.
    limit : int
        Maximum number of generated tokens.
    key : int
        Seed of the random numbers.
    tokens : list of int
        Generated ids so far.
    is_done : bool
        Whether the sequence is finished.
    """

    place: int
    given: list[int]
    limit: int
    key: int = 0
    tokens: list[int] = field(default_factory=list)
    is_done: bool = False

    def take(self, token: int, settings: GenerationSettings, stop: Stop | None) -> None:
        """Append a token unless it is an end-of-sequence token."""
        if token in settings.eos_ids:
            self.is_done = True
            return
        self.tokens.append(token)
        is_full = len(self.tokens) >= self.limit
        self.is_done = (stop is not None and stop(self.tokens)) or is_full


def draw_key(seed: int, prompt: int, sample: int) -> int:
    """Return the seed of the random numbers of one sample of one prompt."""
    sequence = np.random.SeedSequence((seed, prompt, sample))
    return int(sequence.generate_state(1, np.uint64).view(np.int64)[0])


def choose(
    scores: torch.Tensor, rows: list[Row], settings: GenerationSettings
) -> list[int]:
    """Choose the next token of each sequence.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_tokens)
        Next-token logits. Not modified.
    rows : list of Row
        Sequences. Either all or none are at their first token.
    settings : GenerationSettings
        Generation settings.

    Returns
    -------
    list of int
        Token id for each sequence.
    """
    if settings.forced_first_id is not None and not rows[0].tokens:
        return [settings.forced_first_id] * len(rows)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    scores = scores.to(dtype, copy=True)
    if settings.suppressed_ids:
        scores[:, list(settings.suppressed_ids)] = -torch.inf
    if settings.penalizes_repetition:
        for own, row in zip(scores, rows, strict=True):
            _penalize_repetition(own, np.array(row.given + row.tokens), settings)
    if not settings.do_sample:
        return scores.argmax(dim=1).tolist()
    scores, ids = candidates(scores, settings)
    # The Gumbel-max trick: the argmax of logits plus noise is a sample. It is less
    # sensitive to rounding than sampling by cumulative probabilities.
    noise = _gumbel(rows, ids)
    chosen = (scores + noise).argmax(dim=1, keepdim=True)
    return ids.gather(1, chosen)[:, 0].tolist()


def _penalize_repetition(
    scores: torch.Tensor, past: np.ndarray, settings: GenerationSettings
) -> None:
    """Apply repetition_penalty and no_repeat_ngram_size to one sequence, in place."""
    if settings.repetition_penalty != 1:
        penalty = settings.repetition_penalty
        seen = torch.from_numpy(np.unique(past)).to(scores.device)
        found = scores[seen]
        scores[seen] = torch.where(found < 0, found * penalty, found / penalty)
    size = settings.no_repeat_ngram_size
    if 0 < size <= len(past):
        windows = np.lib.stride_tricks.sliding_window_view(past, size)
        is_same = (windows[:, :-1] == past[len(past) - size + 1 :]).all(axis=1)
        banned = torch.from_numpy(windows[is_same, -1])
        scores[banned.to(scores.device)] = -torch.inf


def candidates(
    scores: torch.Tensor, settings: GenerationSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply temperature, then top-k, top-p and min-p filtering.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_tokens)
        Logits of all tokens.
    settings : GenerationSettings
        Generation settings.

    Returns
    -------
    scores : Tensor of shape (n_rows, n_candidates)
        Logits of the candidates; minus infinity for tokens excluded from sampling.
    ids : Tensor of shape (n_rows, n_candidates)
        Token ids of the candidates.
    """
    scores = scores / settings.temperature
    n_tokens = scores.shape[1]
    top_p = 1.0 if settings.top_p is None else settings.top_p
    if settings.top_k or top_p < 1:
        scores, ids = scores.topk(min(settings.top_k or n_tokens, n_tokens), dim=1)
    else:
        ids = torch.arange(n_tokens, device=scores.device).expand_as(scores)
    if top_p < 1:
        probabilities = scores.softmax(dim=1)
        before = probabilities.cumsum(dim=1) - probabilities
        scores = scores.masked_fill(before >= top_p, -torch.inf)
    if settings.min_p:
        least = scores.amax(dim=1, keepdim=True) + float(np.log(settings.min_p))
        scores = scores.masked_fill(scores < least, -torch.inf)
    return scores, ids


def _gumbel(rows: list[Row], ids: torch.Tensor) -> torch.Tensor:
    """Return Gumbel noise that depends only on sequence, step and token id."""
    device = ids.device
    keys = torch.tensor([row.key for row in rows], device=device)
    steps = torch.tensor([len(row.tokens) for row in rows], device=device)
    keys = _mix(keys + steps * _GOLDEN_GAMMA)
    bits = _mix(keys[:, None] + ids * _GOLDEN_GAMMA) >> 11 & 2**53 - 1
    # Never 0, and precise near 0, where the noise is largest: rare tokens depend on it.
    uniform = bits.float().clamp_min(0.5) * 2.0**-53
    return -torch.log(-torch.log1p(-uniform))


def _mix(numbers: torch.Tensor) -> torch.Tensor:
    """Apply the mixing function of SplitMix64; the masks make the shifts unsigned."""
    for shift, factor in _ROUNDS:
        numbers = (numbers ^ (numbers >> shift & 2 ** (64 - shift) - 1)) * factor
    return numbers ^ (numbers >> 31 & 2**33 - 1)


def make_generation_settings(
    estimator: Any, prompt_format: PromptFormat, n: int, longest: int
) -> GenerationSettings:
    """Create the generation settings from the parameters of an estimator.

    Parameters
    ----------
    estimator : TransformerGenerator
        Estimator. Not modified.
    prompt_format : PromptFormat
        Prompt format of the model.
    n : int
        Number of texts per prompt.
    longest : int
        Maximum number of generated tokens if ``max_new_tokens`` is None.

    Returns
    -------
    GenerationSettings
        Validated settings.

    Raises
    ------
    ValueError
        If parameters are invalid or incompatible.
    """
    for string in estimator.stop_strings or ():
        if not isinstance(string, str) or not string:
            raise ValueError(f"stop_strings must be non-empty strings. Got {string!r}.")
    special_ids = prompt_format.special_ids
    # Without a padding token of its own, a model may be padded with any other.
    is_suppressed = special_ids.pad_id in prompt_format.tokenizer.all_special_ids
    return GenerationSettings(
        max_new_tokens=estimator.max_new_tokens or longest,
        num_beams=estimator.num_beams,
        do_sample=estimator.do_sample,
        temperature=estimator.temperature,
        top_k=estimator.top_k,
        top_p=estimator.top_p,
        min_p=estimator.min_p,
        repetition_penalty=estimator.repetition_penalty,
        no_repeat_ngram_size=estimator.no_repeat_ngram_size,
        n=n,
        eos_ids=special_ids.eos_ids,
        pad_id=special_ids.pad_id,
        suppressed_ids=tuple({special_ids.pad_id} - {*special_ids.eos_ids})
        if is_suppressed
        else (),
        forced_first_id=prompt_format.first_id,
        decoder_start_id=prompt_format.start_id
        if prompt_format.is_encoder_decoder
        else None,
        context=special_ids.context,
    )
