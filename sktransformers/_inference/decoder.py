"""Greedy decoding and sampling with continuous batching.

Sequences join and leave the batch at any step. The model's own ``generate`` would keep
every sequence in the batch until the longest one is finished.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .._compat import cache_argument, forward_arguments, plain_cache_layer
from .._hardware.devices import autocast
from .sampling import GenerationSettings, Row, Stop, choose, draw_key


class Decoder:
    """Generate a batch of sequences, one token per step.

    Parameters
    ----------
    model : PreTrainedModel
        Model for which :meth:`supports` is true.
    settings : GenerationSettings
        Generation settings, with ``num_beams=1``.
    device : torch.device
        Device of the model.
    precision : str
        Precision of autocast.
    seed : int
        Seed for sampling.
    stop : callable or None
        Stopping criterion: takes the generated token ids of a sequence and returns
        whether to stop.

    Attributes
    ----------
    rows : list of Row
        Unfinished sequences of the batch.
    takes_padding : bool
        Whether prompts of different lengths can share the batch.
    """

    def __init__(
        self,
        model: Any,
        settings: GenerationSettings,
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
        self._past: KVCache | None = None
        names = forward_arguments(model)
        self._is_encoder_decoder = model.config.is_encoder_decoder
        argument = cache_argument(model)
        assert argument is not None, "the model is not supported"
        self._cache_argument = argument
        self._logits_kwargs = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
        # Left padding is harmless if the position ids are passed explicitly.
        self.takes_padding = self._is_encoder_decoder or "position_ids" in names

    @staticmethod
    def supports(model: Any) -> bool:
        """Return whether a model has a key-value cache."""
        return cache_argument(model) is not None

    @property
    def can_add(self) -> bool:
        """Whether sequences can be added to the batch."""
        return not self.rows or (
            self._past is not None and self.takes_padding and self._past.can_join
        )

    def add(self, prompts: list[tuple[int, np.ndarray]]) -> list[Row]:
        """Add (index, prompt) pairs to the batch; return the finished sequences."""
        settings = self._settings
        with torch.inference_mode(), autocast(self._device, self._precision):
            past, logits = self._prefill([ids for _, ids in prompts])
            if settings.n > 1:
                each = torch.arange(len(prompts), device=self._device)
                each = each.repeat_interleave(settings.n)
                past.keep(each)
                logits = logits[each]
            rows = [
                make_row(settings, number, sample, self._prefix(ids), seed=self._seed)
                for number, ids in prompts
                for sample in range(settings.n)
            ]
            past, rows, done = self._advance(past, rows, logits)
            if self.rows and rows:
                assert self._past is not None
                self._past.join(past)
            elif rows:
                self._past = past
            self.rows += rows
        return done

    def step(self) -> list[Row]:
        """Generate one token for each sequence; return the finished ones."""
        past = self._past
        assert past is not None, "the batch is empty"
        with torch.inference_mode(), autocast(self._device, self._precision):
            last = torch.tensor([[row.tokens[-1]] for row in self.rows])
            past.grow()
            logits = self._forward(past, last.to(self._device))
            _, self.rows, done = self._advance(past, self.rows, logits)
        if not self.rows:
            self._past = None  # frees the memory
        return done

    def _advance(
        self, past: "KVCache", rows: list[Row], logits: torch.Tensor
    ) -> tuple["KVCache", list[Row], list[Row]]:
        """Choose the next tokens and drop finished sequences from the cache."""
        for row, token in zip(rows, choose(logits, rows, self._settings), strict=True):
            row.take(token, self._settings, self._stop)
        unfinished = [number for number, row in enumerate(rows) if not row.is_done]
        done = [row for row in rows if row.is_done]
        if done and unfinished:
            past.keep(torch.tensor(unfinished, device=self._device))
        return past, [rows[number] for number in unfinished], done

    def _prefix(self, ids: np.ndarray) -> np.ndarray:
        """Return the decoder's input ids before the first generated token."""
        return (
            np.array([self._settings.decoder_start_id])
            if self._is_encoder_decoder
            else ids
        )

    def _prefill(self, prompts: list[np.ndarray]) -> tuple["KVCache", torch.Tensor]:
        """Return the key-value cache of the prompts and the next-token logits."""
        arrays = pad(prompts, self._settings.pad_id, left=not self._is_encoder_decoder)
        ids, mask = (torch.from_numpy(array).to(self._device) for array in arrays)
        config = self._model.config
        past = KVCache(DynamicCache(config=config), mask)
        if self._is_encoder_decoder:
            encoder = self._model.get_encoder()
            encoded = encoder(input_ids=ids, attention_mask=mask, return_dict=True)
            past.encoded = encoded.last_hidden_state
            past.cache = EncoderDecoderCache(past.cache, DynamicCache(config=config))
            ids = torch.full_like(ids[:, :1], self._settings.decoder_start_id or 0)
        return past, self._forward(past, ids)

    def _forward(self, past: "KVCache", ids: torch.Tensor) -> torch.Tensor:
        """Return the next-token logits; append the ids to the key-value cache."""
        inputs: dict[str, Any] = {}
        if past.encoded is not None:
            encoded = BaseModelOutput(last_hidden_state=past.encoded)
            inputs = {"encoder_outputs": encoded, "decoder_input_ids": ids}
        else:
            inputs = {"input_ids": ids, **self._logits_kwargs}
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
        logits: torch.Tensor = outputs.logits[:, -1]
        return logits


@dataclass
class KVCache:
    """Key-value cache of a batch of sequences, with its attention mask.

    Attributes
    ----------
    cache : Cache
        Keys and values.
    mask : Tensor of shape (n_rows, n_tokens)
        Attention mask. Of the left-padded tokens so far for a decoder-only model, of
        the encoder's tokens for an encoder-decoder.
    encoded : Tensor of shape (n_rows, n_tokens, width) or None
        Encoder outputs of an encoder-decoder.
    """

    cache: Any
    mask: torch.Tensor
    encoded: torch.Tensor | None = None

    @property
    def can_join(self) -> bool:
        """Whether the cache can be padded and concatenated with another one."""
        return self.encoded is None and all(
            type(layer) is plain_cache_layer() and layer.is_initialized
            for layer in self.cache.layers
        )

    def grow(self) -> None:
        """Extend a decoder-only model's attention mask by one token."""
        if self.encoded is None:
            ones = self.mask.new_ones(len(self.mask), 1)
            self.mask = torch.cat([self.mask, ones], dim=1)

    def keep(self, rows: torch.Tensor) -> None:
        """Select rows of the batch, in the given order."""
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

    def join(self, other: "KVCache") -> None:
        """Append the rows of another cache; the shorter one is left-padded."""
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
    """Pad rows of token ids to equal length; return ids and attention mask."""
    lengths = np.array([len(row) for row in rows])
    columns = np.arange(lengths.max())
    if left:
        columns = columns[::-1]
    mask = columns < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def make_row(
    settings: GenerationSettings,
    number: int,
    sample: int,
    ids: np.ndarray,
    *,
    seed: int,
) -> Row:
    """Create the initial state of a sequence to generate.

    Parameters
    ----------
    settings : GenerationSettings
        Generation settings.
    number, sample : int
        Index of the prompt, and index of the sample of this prompt.
    ids : ndarray of shape (n_ids,)
        Input ids of the decoder before the first generated token.
    seed : int
        Seed for sampling.

    Returns
    -------
    Row
        Sequence without generated tokens.
    """
    limit = settings.max_new_tokens
    if settings.context is not None:
        limit = min(limit, settings.context - len(ids))
    place = number * settings.n + sample
    key = draw_key(seed, number, sample) if settings.do_sample else 0
    return Row(place, ids.tolist(), limit, key)
