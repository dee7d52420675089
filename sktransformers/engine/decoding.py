"""One token after another: a decoder that rows may join and leave at any step.

Knows a model's forward pass, but not its ``generate``, which holds every row until the
longest one is done.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .._compat import cache_argument, forward_arguments, plain_cache_layer
from .choosing import Row, Settings, Stop, choose, draw_key
from .hardware import autocast


class Decoder:
    """Rows that grow by one token a step, drawn or the likeliest.

    Parameters
    ----------
    model : PreTrainedModel
        For which :meth:`serves` holds.
    settings : Settings
        How to choose the tokens; one beam.
    device : torch.device
        Where the model is.
    precision : str
        Number format of the matrix products.
    seed : int
        Settles what is drawn.
    stop : callable or None
        From a row's new ids to whether it ends here.
    """

    def __init__(
        self,
        model: Any,
        settings: Settings,
        device: torch.device,
        precision: str,
        *,
        seed: int,
        stop: Stop | None,
    ) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._settings = settings
        self._device = device
        self._precision = precision
        self._seed = seed
        self._stop = stop
        self._past: _Past | None = None
        names = forward_arguments(model)
        self._is_pair = model.config.is_encoder_decoder
        argument = cache_argument(model)
        assert argument is not None, "serves() is false for the model"
        self._cache_argument = argument
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
        # Told the positions, a decoder does not mind padding on the left.
        self.takes_padding = self._is_pair or "position_ids" in names

    @staticmethod
    def serves(model: Any) -> bool:
        """Whether a model keeps keys and values, as nearly all do."""
        return cache_argument(model) is not None

    @property
    def is_open(self) -> bool:
        """Whether rows can be added."""
        return not self.rows or (
            self._past is not None and self.takes_padding and self._past.can_join
        )

    def add(self, prompts: list[tuple[int, np.ndarray]]) -> list[Row]:
        """Let prompts, with their positions, join in; return the rows already done."""
        settings = self._settings
        with torch.inference_mode(), autocast(self._device, self._precision):
            past, scores = self._read([ids for _, ids in prompts])
            if settings.n > 1:
                each = torch.arange(len(prompts), device=self._device)
                each = each.repeat_interleave(settings.n)
                past.keep(each)
                scores = scores[each]
            rows = [
                make_row(settings, number, sample, self._given(ids), seed=self._seed)
                for number, ids in prompts
                for sample in range(settings.n)
            ]
            past, rows, done = self._advance(past, rows, scores)
            if self.rows and rows:
                assert self._past is not None
                self._past.join(past)
            elif rows:
                self._past = past
            self.rows += rows
        return done

    def step(self) -> list[Row]:
        """Give each row one more token; return those that are done."""
        past = self._past
        assert past is not None, "there are no rows"
        with torch.inference_mode(), autocast(self._device, self._precision):
            last = torch.tensor([[row.tokens[-1]] for row in self.rows])
            past.grow()
            scores = self._forward(past, last.to(self._device))
            _, self.rows, done = self._advance(past, self.rows, scores)
        if not self.rows:
            self._past = None  # frees the memory
        return done

    def _advance(
        self, past: "_Past", rows: list[Row], scores: torch.Tensor
    ) -> tuple["_Past", list[Row], list[Row]]:
        """Choose a token for each row and let those that are done go."""
        for row, token in zip(rows, choose(scores, rows, self._settings), strict=True):
            row.take(token, self._settings, self._stop)
        left = [number for number, row in enumerate(rows) if not row.is_done]
        done = [row for row in rows if row.is_done]
        if done and left:
            past.keep(torch.tensor(left, device=self._device))
        return past, [rows[number] for number in left], done

    def _given(self, ids: np.ndarray) -> np.ndarray:
        """Return what the decoder reads before its first token."""
        return np.array([self._settings.decoder_start_id]) if self._is_pair else ids

    def _read(self, prompts: list[np.ndarray]) -> tuple["_Past", torch.Tensor]:
        """Return what the model makes of prompts, and the scores that come next."""
        arrays = pad(prompts, self._settings.pad_id, left=not self._is_pair)
        ids, mask = (torch.from_numpy(array).to(self._device) for array in arrays)
        config = self._model.config
        past = _Past(DynamicCache(config=config), mask)
        if self._is_pair:
            encoder = self._model.get_encoder()
            encoded = encoder(input_ids=ids, attention_mask=mask, return_dict=True)
            past.encoded = encoded.last_hidden_state
            past.cache = EncoderDecoderCache(past.cache, DynamicCache(config=config))
            ids = torch.full_like(ids[:, :1], self._settings.decoder_start_id or 0)
        return past, self._forward(past, ids)

    def _forward(self, past: "_Past", ids: torch.Tensor) -> torch.Tensor:
        """Return the scores after the last of the ids, which become past."""
        inputs: dict[str, Any] = {}
        if past.encoded is not None:
            encoded = BaseModelOutput(last_hidden_state=past.encoded)
            inputs = {"encoder_outputs": encoded, "decoder_input_ids": ids}
        else:
            inputs = {"input_ids": ids, **self._last_only}
            if self.takes_padding:
                positions = (past.mask.cumsum(dim=1) - 1).clamp_min(0)
                inputs["position_ids"] = positions[:, -ids.shape[1] :]
        outputs = self._model(
            attention_mask=past.mask,
            use_cache=True,
            return_dict=True,
            **{self._cache_argument: past.cache},
            **inputs,
        )
        scores: torch.Tensor = outputs.logits[:, -1]
        return scores


@dataclass
class _Past:
    """What a model remembers of the rows.

    Attributes
    ----------
    cache : Cache
        Keys and values.
    mask : Tensor of shape (n_rows, n_tokens)
        Of a decoder's tokens so far, padded on the left; or of an encoder's tokens.
    encoded : Tensor of shape (n_rows, n_tokens, width) or None
        The encoder's output, if there is one.
    """

    cache: Any
    mask: torch.Tensor
    encoded: torch.Tensor | None = None

    @property
    def can_join(self) -> bool:
        """Whether the cache is plain keys and values, which can be padded."""
        return self.encoded is None and all(
            type(layer) is plain_cache_layer() and layer.is_initialized
            for layer in self.cache.layers
        )

    def grow(self) -> None:
        """Make room for one more token of a decoder."""
        if self.encoded is None:
            ones = self.mask.new_ones(len(self.mask), 1)
            self.mask = torch.cat([self.mask, ones], dim=1)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep the given rows, in this order."""
        self.mask = self.mask[rows]
        if self.encoded is not None:
            self.encoded = self.encoded[rows]
        elif self.can_join:
            unused = int(self.mask.any(dim=0).int().argmax())
            self.mask = self.mask[:, unused:]
            for layer in self.cache.layers:
                layer.keys = layer.keys[:, :, unused:]
                layer.values = layer.values[:, :, unused:]
        self.cache.reorder_cache(rows)

    def join(self, other: "_Past") -> None:
        """Take in the rows of another one; both end at the same column."""
        width = max(self.mask.shape[1], other.mask.shape[1])

        def stack(first: torch.Tensor, second: torch.Tensor, dim: int) -> torch.Tensor:
            parts = []
            for part in (first, second):
                sides = [0, 0] * (part.ndim - 1 - dim) + [width - part.shape[dim], 0]
                parts.append(functional.pad(part, sides))
            return torch.cat(parts)

        self.mask = stack(self.mask, other.mask, 1)
        for own, new in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = stack(own.keys, new.keys, 2)
            own.values = stack(own.values, new.values, 2)


def pad(rows: list[np.ndarray], pad_id: int, *, left: bool) -> tuple[Any, Any]:
    """Return rows of ids as a rectangle, with a mask of what is not padding."""
    lengths = np.array([len(row) for row in rows])
    columns = np.arange(lengths.max())
    if left:
        columns = columns[::-1]
    mask = columns < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def make_row(
    settings: Settings, number: int, sample: int, ids: np.ndarray, *, seed: int
) -> Row:
    """Return the row that one sample of one prompt starts as.

    Parameters
    ----------
    settings : Settings
        How to choose the tokens.
    number, sample : int
        The prompt's position, and which of its samples it is.
    ids : ndarray of shape (n_ids,)
        What the decoder reads before its first token.
    seed : int
        Settles what is drawn.

    Returns
    -------
    Row
        Without tokens.
    """
    limit = settings.max_new_tokens
    if settings.context is not None:
        limit = min(limit, settings.context - len(ids))
    place = number * settings.n + sample
    key = draw_key(seed, number, sample) if settings.do_sample else 0
    return Row(place, ids.tolist(), limit, key)
