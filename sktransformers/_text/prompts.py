"""Encoding of prompts and targets for causal and sequence-to-sequence training.

Independent of the model: its special tokens are passed as ids.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..exceptions import TextValueError
from .encoding import Encoding
from .ragged import Ragged, offsets_of
from .tokenization import SpecialTokens, tokenize


@dataclass(frozen=True)
class PromptEncoder:
    """Encoder of prompts.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.
    render : callable
        Function from a text to its prompt, a str that contains the text.
    special : SpecialTokens or None
        Special tokens to add to a prompt. None: the prompt already contains them.
    split_special_tokens : bool, default=True
        Whether special tokens that are written in a prompt are text.
    """

    tokenizer: Any
    render: Callable[[str], str]
    special: SpecialTokens | None
    split_special_tokens: bool = True

    def encode(self, texts: list[str], limits: np.ndarray) -> tuple[Ragged, np.ndarray]:
        """Encode the prompts of texts, truncating the texts if needed.

        Parameters
        ----------
        texts : list of str
            Texts to insert into the prompts.
        limits : ndarray of shape (n_texts,)
            Maximum number of tokens of each prompt. In a longer prompt, the text is
            truncated at its end and the rest of the prompt is kept.

        Returns
        -------
        prompts : Ragged
            Token ids of the prompts, at least one each.
        was_cut : ndarray of shape (n_texts,), dtype=bool
            Whether each text was truncated.

        Raises
        ------
        TextValueError
            If a prompt exceeds its limit even with an empty text.
        """
        rows = self._encode_prompts([self.render(text) for text in texts])
        was_cut = np.array([len(row) for row in rows]) > limits
        for position in np.flatnonzero(was_cut):
            rows[position] = self._truncate(texts[position], int(limits[position]))
        return Ragged.from_rows(rows), was_cut

    def _encode_prompts(self, prompts: list[str]) -> list[list[int]]:
        ids = tokenize(
            self.tokenizer, prompts, split_special_tokens=self.split_special_tokens
        )
        special = self.special
        prefix = special.prefix if special else []
        suffix = special.suffix if special else []
        empty = special.empty if special else []
        bounds = zip(ids.offsets[:-1], ids.offsets[1:], strict=True)
        rows = (ids.values[start:end].tolist() for start, end in bounds)
        return [[*prefix, *(row or empty), *suffix] for row in rows]

    def _truncate(self, text: str, limit: int) -> list[int]:
        """Return the prompt with the longest prefix of the text that fits the limit."""
        text, ends = self._token_ends(text)
        n_kept = len(ends)
        while n_kept:
            (row,) = self._encode_prompts([self.render(text[: ends[n_kept - 1]])])
            if len(row) <= limit:
                return row
            n_kept = max(0, n_kept - (len(row) - limit))
        (row,) = self._encode_prompts([self.render("")])
        if len(row) > limit:
            raise TextValueError(
                f"The prompt takes {len(row)} tokens before any text is inserted, more "
                f"than the {limit} available. Raise max_length, or shorten "
                "prompt_template, system_prompt or the longest target."
            )
        return row

    def _token_ends(self, text: str) -> tuple[str, Sequence[int]]:
        """Return the text and the character offsets at which its tokens end."""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return text, range(1, len(text) + 1)
        offsets = backend.encode(text, add_special_tokens=False).offsets
        return text, [end for _, end in offsets]


@dataclass(frozen=True)
class PairEncoding(Encoding):
    """Encoded targets of an encoder-decoder, with their sources.

    Attributes
    ----------
    sources : Encoding
        Encoder inputs, one row per text. All other attributes are those of the decoder
        inputs, which have the outputs.
    """

    sources: Encoding = dataclasses.field(kw_only=True)

    @property
    def lengths(self) -> np.ndarray:
        """Number of encoder and decoder tokens of each text, of shape (n_texts,)."""
        return self.sources.lengths + super().lengths

    @property
    def all_ids(self) -> np.ndarray:
        """Token ids of all sources and targets and the padding, in any order."""
        return np.append(self.sources.all_ids, super().all_ids)

    def hashes(self) -> np.ndarray:
        """Return a hash of each text's token ids, of shape (n_texts,)."""
        return self.sources.hashes() * np.uint64(3) + super().hashes()

    def take(self, texts: np.ndarray) -> Self:
        """Return the texts at the given ascending indices."""
        targets = super().take(texts)
        return dataclasses.replace(targets, sources=self.sources.take(texts))

    def pad(self, rows: np.ndarray, *, few_widths: bool = False) -> dict[str, Any]:
        """Return the model inputs of the given texts, padded on the right."""
        targets = super().pad(rows, few_widths=few_widths)
        return {
            **self.sources.pad(rows, few_widths=few_widths),
            "decoder_input_ids": targets["input_ids"],
            "decoder_attention_mask": targets["attention_mask"],
            "positions": targets["positions"],
        }


def encode_continuations(
    prompts: Ragged, targets: Ragged, *, pad_id: int, n_truncated: int = 0
) -> tuple[Encoding, np.ndarray]:
    """Concatenate prompts and targets for next-token prediction of the targets.

    Parameters
    ----------
    prompts : Ragged
        Token ids of the prompts. Without a prompt, the first target token is not
        predicted.
    targets : Ragged
        Token ids of the targets, end-of-sequence included.
    pad_id : int
        Id of the padding token.
    n_truncated : int, default=0
        Number of truncated texts.

    Returns
    -------
    encoding : Encoding
        Input ids: all tokens but the last of each row. Its ``positions`` are those of
        the tokens followed by a target token.
    ids : ndarray of shape (n_outputs,)
        Labels: the next token id at each position.
    """
    n_prompt, n_target = prompts.lengths, targets.lengths
    lengths = n_prompt + n_target - 1
    offsets = offsets_of(lengths)
    joined = np.empty(lengths.sum() + len(prompts), dtype=np.int32)
    bounds = offsets_of(lengths + 1)
    is_prompt = _leading_mask(n_prompt, lengths + 1)
    joined[is_prompt] = prompts.values
    joined[~is_prompt] = targets.values
    is_last = np.zeros(len(joined), dtype=bool)
    is_last[bounds[1:] - 1] = True
    is_first = np.zeros(len(joined), dtype=bool)
    is_first[bounds[:-1]] = True
    predicted = ~is_prompt & ~is_first
    columns = np.arange(len(joined)) - np.repeat(bounds[:-1], lengths + 1) - 1
    counts = np.minimum(n_target, lengths)
    encoding = Encoding(
        Ragged(joined[~is_last], offsets),
        None,
        np.arange(len(prompts), dtype=np.int32),
        n_texts=len(prompts),
        n_truncated=n_truncated,
        pad_id=pad_id,
        positions=Ragged(columns[predicted], offsets_of(counts)),
    )
    return encoding, joined[predicted].astype(np.int64)


def encode_pairs(
    sources: Ragged,
    targets: Ragged,
    *,
    start_id: int,
    pad_id: int,
    n_truncated: int = 0,
) -> tuple[PairEncoding, np.ndarray]:
    """Encode sources for an encoder and targets for a decoder.

    Parameters
    ----------
    sources, targets : Ragged
        Token ids of the sources and of the targets, end-of-sequence included.
    start_id : int
        Decoder start id.
    pad_id : int
        Id of the padding token.
    n_truncated : int, default=0
        Number of truncated texts.

    Returns
    -------
    encoding : PairEncoding
        Encoder and decoder inputs, with one position per target token.
    ids : ndarray of shape (n_outputs,)
        Labels: the target token ids.
    """
    n_texts = len(targets)
    starts = Ragged(np.full(n_texts, start_id, np.int32), np.arange(n_texts + 1))
    decoded, ids = encode_continuations(
        starts, targets, pad_id=pad_id, n_truncated=n_truncated
    )
    read = dataclasses.replace(decoded, ids=sources, positions=None)
    return PairEncoding(**vars(decoded), sources=read), ids


def cut_blocks(texts: Ragged, size: int) -> tuple[Ragged, np.ndarray]:
    """Split texts into blocks for language modelling.

    Consecutive blocks overlap by one token, so that each token is predicted once.

    Parameters
    ----------
    texts : Ragged
        Token ids of the texts, special tokens included.
    size : int
        Maximum number of tokens of a block; at least 2.

    Returns
    -------
    blocks : Ragged
        Token ids of the blocks, each from one text.
    sample_index : ndarray of shape (n_blocks,)
        Index of the text of each block.
    """
    n_blocks = np.maximum(1, -(-(texts.lengths - 1) // (size - 1)))
    sample_index = np.repeat(np.arange(len(texts)), n_blocks)
    first_blocks = np.repeat(offsets_of(n_blocks)[:-1], n_blocks)
    starts = (np.arange(len(sample_index)) - first_blocks) * (size - 1)
    sizes = np.minimum(size, texts.lengths[sample_index] - starts)
    values = [
        texts.values[start : start + n]
        for start, n in zip(texts.offsets[sample_index] + starts, sizes, strict=True)
    ]
    return Ragged(np.concatenate(values), offsets_of(sizes)), sample_index


def _leading_mask(counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a flat mask of the first ``counts[i]`` tokens of each row ``i``."""
    columns = np.arange(lengths.sum()) - np.repeat(offsets_of(lengths)[:-1], lengths)
    return columns < np.repeat(counts, lengths)
