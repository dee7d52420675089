"""Which token comes next: scores in, one id for each row out.

A row's choice depends on its own scores, its own past and its own random numbers,
never on the rows beside it, and torch's global generators are left alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

Stop = Callable[[list[int]], bool]
"""A row's new ids in; whether it ends here out."""

# The steps and factors of SplitMix64, https://doi.org/10.1145/2714064.2660195, as the
# signed numbers that torch has.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@dataclass(frozen=True)
class Settings:
    """How to generate. Nothing of a model's saved ``generation_config`` is added.

    Attributes
    ----------
    max_new_tokens : int
        Most tokens a row may get.
    num_beams : int, default=1
        Beams that are searched for each prompt; 1 takes one token after the other.
    do_sample : bool, default=False
        Whether tokens are drawn; False takes the likeliest.
    temperature : float, default=1.0
        What the scores are divided by before a draw.
    top_k : int or None, default=None
        Draw among so many of the likeliest tokens.
    top_p : float or None, default=None
        Draw among the likeliest tokens that have this probability together.
    min_p : float or None, default=None
        Draw among tokens with this share of the likeliest one's probability.
    repetition_penalty : float, default=1.0
        Above 1, tokens that a row has already are less likely to come again.
    no_repeat_ngram_size : int, default=0
        Sequences of so many tokens occur only once in a row; 0 lets them be.
    n : int, default=1
        Rows for each prompt, by sampling or from the beams.
    eos_ids : tuple of int, default=()
        Ids that end a row.
    pad_id : int, default=0
        What short rows are filled up with. Never chosen, unless it ends a row too.
    forced_first_id : int or None, default=None
        First token of each row, such as the target language.
    decoder_start_id : int or None, default=None
        What the decoder of an encoder-decoder starts from.
    context : int or None, default=None
        Tokens that the decoder can read; a row that has as many ends.

    Raises
    ------
    ValueError
        Two of them exclude each other.
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
                f"do_sample=True draws and num_beams={self.num_beams} searches. Pass "
                "num_beams=1 to draw, or do_sample=False to search."
            )
        if self.do_sample and not self.temperature > 0:
            raise ValueError(
                f"temperature must be above 0. Got {self.temperature}. Pass "
                "do_sample=False to take the likeliest token."
            )
        if self.n > 1 and not self.do_sample and self.n > self.num_beams:
            raise ValueError(
                f"n={self.n} different texts need do_sample=True or "
                f"num_beams={self.n}. Got do_sample=False and "
                f"num_beams={self.num_beams}."
            )

    @property
    def looks_back(self) -> bool:
        """Whether a choice depends on the tokens before it."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram_size > 0


@dataclass
class Row:
    """A row in the making.

    Attributes
    ----------
    place : int
        Where it goes in the results.
    given : list of int
        What the decoder was given to read.
    limit : int
        Most tokens it may get.
    key : int
        Selects its random numbers.
    tokens : list of int
        What it got so far.
    is_done : bool
        Whether it gets no more.
    """

    place: int
    given: list[int]
    limit: int
    key: int = 0
    tokens: list[int] = field(default_factory=list)
    is_done: bool = False

    def take(self, token: int, settings: Settings, stop: Stop | None) -> None:
        """Add a token, unless it ends the row."""
        if token in settings.eos_ids:
            self.is_done = True
            return
        self.tokens.append(token)
        is_full = len(self.tokens) >= self.limit
        self.is_done = is_full or (stop is not None and stop(self.tokens))


def draw_key(seed: int, prompt: int, sample: int) -> int:
    """Return what selects the random numbers of one row of one prompt."""
    sequence = np.random.SeedSequence((seed, prompt, sample))
    return int(sequence.generate_state(1, np.uint64).view(np.int64)[0])


def choose(scores: torch.Tensor, rows: list[Row], settings: Settings) -> list[int]:
    """Choose the next token of each row.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_tokens)
        The model's outputs; not changed.
    rows : list of Row
        All of them, or none, at their first token.
    settings : Settings
        How to choose.

    Returns
    -------
    list of int
        An id for each row.
    """
    if settings.forced_first_id is not None and not rows[0].tokens:
        return [settings.forced_first_id] * len(rows)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    scores = scores.to(dtype, copy=True)
    if settings.pad_id not in settings.eos_ids and settings.pad_id < scores.shape[1]:
        scores[:, settings.pad_id] = -torch.inf
    if settings.looks_back:
        for own, row in zip(scores, rows, strict=True):
            _look_back(own, np.array(row.given + row.tokens), settings)
    if not settings.do_sample:
        return scores.argmax(dim=1).tolist()
    scores, ids = candidates(scores, settings)
    # The likeliest token after this noise is a draw from the probabilities. Unlike a
    # draw from their running sum, it hardly ever hangs on how they were rounded.
    noise = _gumbel(rows, ids)
    best = (scores + noise).argmax(dim=1, keepdim=True)
    return ids.gather(1, best)[:, 0].tolist()


def _look_back(scores: torch.Tensor, past: np.ndarray, settings: Settings) -> None:
    """Lower, in place, the scores of what one row has already."""
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
    scores: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave only what may be drawn: temperature, then top-k, top-p and min-p.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_tokens)
        Of all tokens.
    settings : Settings
        What to leave.

    Returns
    -------
    scores : Tensor of shape (n_rows, n_candidates)
        Those that are left; what may not be drawn is at minus infinity.
    ids : Tensor of shape (n_rows, n_candidates)
        The tokens they belong to.
    """
    scores = scores / settings.temperature
    n_tokens = scores.shape[1]
    top_p = 1.0 if settings.top_p is None else settings.top_p
    if settings.top_k or top_p < 1:
        scores, ids = scores.topk(min(settings.top_k or n_tokens, n_tokens), dim=1)
    else:
        ids = torch.arange(n_tokens, device=scores.device).expand_as(scores)
    if top_p < 1:
        shares = scores.softmax(dim=1)
        before = shares.cumsum(dim=1) - shares
        scores = scores.masked_fill(before >= top_p, -torch.inf)
    if settings.min_p:
        least = scores.amax(dim=1, keepdim=True) + float(np.log(settings.min_p))
        scores = scores.masked_fill(scores < least, -torch.inf)
    return scores, ids


def _gumbel(rows: list[Row], ids: torch.Tensor) -> torch.Tensor:
    """Return Gumbel noise that depends on row, step and token id alone."""
    device = ids.device
    keys = torch.tensor([row.key for row in rows], device=device)
    steps = torch.tensor([len(row.tokens) for row in rows], device=device)
    keys = _mix(keys + steps * _GOLDEN)
    bits = _mix(keys[:, None] + ids * _GOLDEN) >> 11 & 2**53 - 1
    # Precise where it is small, and never 0: that is where rare tokens are drawn.
    uniform = bits.float().clamp_min(0.5) * 2.0**-53
    return -torch.log(-torch.log1p(-uniform))


def _mix(numbers: torch.Tensor) -> torch.Tensor:
    """Return what SplitMix64 makes of each number; the shifts are unsigned."""
    for shift, factor in _ROUNDS:
        numbers = (numbers ^ (numbers >> shift & 2 ** (64 - shift) - 1)) * factor
    return numbers ^ (numbers >> 31 & 2**33 - 1)
