"""Encoding of prompts and targets for causal and sequence-to-sequence training.

Independent of the model: its special tokens are passed as ids.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..exceptions import TextValueError
from .encoding import Encoding, encode
from .ragged import Ragged, offsets_of, ranges
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
        prompts = self._encode_prompts([self.render(text) for text in texts])
        was_cut = prompts.lengths > limits
        if was_cut.any():
            rows = [row.tolist() for row in prompts.rows()]
            for position in np.flatnonzero(was_cut):
                limit = int(limits[position])
                rows[position] = self._truncate(texts[position], limit).tolist()
            prompts = Ragged.from_rows(rows)
        return prompts, was_cut

    def _encode_prompts(self, prompts: list[str]) -> Ragged:
        ids = tokenize(
            self.tokenizer, prompts, split_special_tokens=self.split_special_tokens
        )
        special = self.special
        if special is None:
            return ids
        return surround(ids, special.prefix, special.suffix, special.empty)

    def _truncate(self, text: str, limit: int) -> np.ndarray:
        """Return the prompt with the longest prefix of the text that fits the limit."""
        text, ends = self._token_ends(text)
        n_kept = len(ends)
        while n_kept:
            row = self._encode_prompts([self.render(text[: ends[n_kept - 1]])]).values
            if len(row) <= limit:
                return row
            n_kept = max(0, n_kept - (len(row) - limit))
        row = self._encode_prompts([self.render("")]).values
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


def surround(
    ids: Ragged, prefix: list[int], suffix: list[int], empty: Sequence[int] = ()
) -> Ragged:
    """Return each row with the prefix and suffix around it.

    A row without tokens, prefix and suffix gets the token in ``empty``.
    """
    special = SpecialTokens(prefix, [], suffix, 0, [*empty], [], [])
    return encode([ids], special, max_length=sys.maxsize, window=False).ids


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

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return one batch, as padding changes no outputs."""
        return [rows]

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
    starts = offsets_of(n_prompt + n_target)[:-1]
    joined = np.empty(len(prompts.values) + len(targets.values), dtype=np.int32)
    joined[ranges(starts, n_prompt)] = prompts.values
    joined[ranges(starts + n_prompt, n_target)] = targets.values
    lengths = n_prompt + n_target - 1
    first = np.maximum(n_prompt, 1)  # the first token of a row has none before it
    counts = lengths + 1 - first
    encoding = Encoding(
        Ragged(joined[ranges(starts, lengths)], offsets_of(lengths)),
        None,
        np.arange(len(prompts), dtype=np.int32),
        n_texts=len(prompts),
        n_truncated=n_truncated,
        pad_id=pad_id,
        positions=Ragged(ranges(first - 1, counts), offsets_of(counts)),
    )
    return encoding, joined[ranges(starts + first, counts)].astype(np.int64)


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
    values = texts.values[ranges(texts.offsets[sample_index] + starts, sizes)]
    return Ragged(values, offsets_of(sizes)), sample_index
