"""Sources become prompts, and targets what a model is to write after them.

Knows nothing of models. What a model's texts begin and end with comes in as ids.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import TextValueError
from .encoding import Encoding, Ragged, SpecialTokens, offsets_of, tokenize


@dataclass(frozen=True)
class Prompter:
    """Turns a text into ids that a model reads before it writes.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Its own settings stay as they are.
    render : callable
        From a text to the prompt, a str that has the text in it.
    special : SpecialTokens or None
        What goes around a prompt. None: the prompt has it all.
    """

    tokenizer: Any
    render: Callable[[str], str]
    special: SpecialTokens | None

    def encode(self, texts: list[str], limits: np.ndarray) -> tuple[Ragged, np.ndarray]:
        """Return the prompts' ids, and which of the texts had to be cut.

        Parameters
        ----------
        texts : list of str
            What the prompts are about.
        limits : ndarray of shape (n_texts,)
            Tokens each prompt may have. Of a longer one the text is cut, at its end,
            and what surrounds it stays.

        Returns
        -------
        prompts : Ragged
            Not empty.
        was_cut : ndarray of shape (n_texts,)
            bool.
        """
        rows = self._rows([self.render(text) for text in texts])
        was_cut = np.array([len(row) for row in rows]) > limits
        for position in np.flatnonzero(was_cut):
            rows[position] = self._cut(texts[position], int(limits[position]))
        return Ragged.from_rows(rows), was_cut

    def _rows(self, prompts: list[str]) -> list[list[int]]:
        ids = tokenize(self.tokenizer, prompts)
        special = self.special
        prefix = special.prefix if special else []
        suffix = special.suffix if special else []
        empty = special.empty if special else []
        bounds = zip(ids.offsets[:-1], ids.offsets[1:], strict=True)
        rows = (ids.values[start:end].tolist() for start, end in bounds)
        return [[*prefix, *(row or empty), *suffix] for row in rows]

    def _cut(self, text: str, limit: int) -> list[int]:
        """Return the longest prompt within the limit that begins as the text does."""
        text, ends = self._ends(text)
        n_kept = len(ends)
        while n_kept:
            (row,) = self._rows([self.render(text[: ends[n_kept - 1]])])
            if len(row) <= limit:
                return row
            n_kept = max(0, n_kept - (len(row) - limit))
        (row,) = self._rows([self.render("")])
        if len(row) > limit:
            raise TextValueError(
                f"The prompt takes {len(row)} tokens before any text is in it, and "
                f"there is room for {limit}. Raise max_length, or shorten "
                "prompt_template, system_prompt or the longest target."
            )
        return row

    def _ends(self, text: str) -> tuple[str, Sequence[int]]:
        """Return a text, and where in it its tokens end: never inside a character."""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return text, range(1, len(text) + 1)
        offsets = backend.encode(text, add_special_tokens=False).offsets
        return text, [end for _, end in offsets]


@dataclass(frozen=True)
class PairEncoding:
    """What an encoder reads, and what a decoder reads and predicts from it.

    It can do what :class:`Encoding` can, as far as training and prediction need.

    Attributes
    ----------
    sources, targets : Encoding
        A row for each text; outputs are read off the targets.
    """

    sources: Encoding
    targets: Encoding

    def __len__(self) -> int:
        return len(self.sources)

    def __getattr__(self, name: str) -> Any:
        """Look up what says how outputs are read off, and how many texts there are."""
        if name in ("owners", "n_texts", "n_truncated", "pad_id", "positions", "ids"):
            return getattr(self.targets, name)
        if name in ("n_outputs", "output_counts", "outputs_of"):
            return getattr(self.targets, name)
        raise AttributeError(name)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens that are read for each text, of shape (n_texts,)."""
        return self.sources.lengths + self.targets.lengths

    def hashes(self) -> np.ndarray:
        """Return a number for each text that depends on its tokens."""
        sources, targets = self.sources.hashes(), self.targets.hashes()
        return sources * np.uint64(3) + targets

    def take(self, texts: np.ndarray) -> "PairEncoding":
        """Return the texts at the given ascending positions."""
        return PairEncoding(self.sources.take(texts), self.targets.take(texts))

    def pad(self, rows: np.ndarray, *, few_widths: bool = False) -> dict[str, Any]:
        """Return the given texts as rectangular arrays, padded on the right."""
        sources = self.sources.pad(rows, few_widths=few_widths)
        targets = self.targets.pad(rows, few_widths=few_widths)
        return {
            "input_ids": sources["input_ids"],
            "attention_mask": sources["attention_mask"],
            "decoder_input_ids": targets["input_ids"],
            "decoder_attention_mask": targets["attention_mask"],
            "positions": targets["positions"],
        }


def encode_continuations(
    prompts: Ragged, targets: Ragged, *, pad_id: int, n_truncated: int = 0
) -> tuple[Encoding, np.ndarray]:
    """Put each target after its prompt, to be predicted token by token.

    Parameters
    ----------
    prompts : Ragged
        What is read; of a row without one, the first token is not predicted.
    targets : Ragged
        What is to be written, with its end.
    pad_id : int
        What padding is made of.
    n_truncated : int, default=0
        Number of texts that were cut.

    Returns
    -------
    encoding : Encoding
        Without each row's last token, after which there is nothing to predict. Its
        positions are those that a token of the target comes after.
    ids : ndarray of shape (n_outputs,)
        The tokens that come there.
    """
    n_prompt, n_target = prompts.lengths, targets.lengths
    lengths = n_prompt + n_target - 1
    offsets = offsets_of(lengths)
    joined = np.empty(lengths.sum() + len(prompts), dtype=np.int32)
    bounds = offsets_of(lengths + 1)
    is_prompt = _first_of_each(n_prompt, lengths + 1)
    joined[is_prompt] = prompts.values
    joined[~is_prompt] = targets.values
    is_last = np.zeros(len(joined), dtype=bool)
    is_last[bounds[1:] - 1] = True
    is_first = np.zeros(len(joined), dtype=bool)
    is_first[bounds[:-1]] = True
    predicted = ~is_prompt & ~is_first
    places = np.arange(len(joined)) - np.repeat(bounds[:-1], lengths + 1) - 1
    counts = np.minimum(n_target, lengths)
    encoding = Encoding(
        Ragged(joined[~is_last], offsets),
        None,
        np.arange(len(prompts), dtype=np.int32),
        n_texts=len(prompts),
        n_truncated=n_truncated,
        pad_id=pad_id,
        positions=Ragged(places[predicted], offsets_of(counts)),
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
    """Let a decoder write each target from the source that an encoder reads.

    Parameters
    ----------
    sources, targets : Ragged
        What is read and what is to be written, with its end.
    start_id : int
        What the decoder begins with.
    pad_id : int
        What padding is made of.
    n_truncated : int, default=0
        Number of texts that were cut.

    Returns
    -------
    encoding : PairEncoding
        With a position for each token of the targets.
    ids : ndarray of shape (n_outputs,)
        These tokens.
    """
    n_texts = len(targets)
    starts = Ragged(np.full(n_texts, start_id, np.int32), np.arange(n_texts + 1))
    decoded, ids = encode_continuations(
        starts, targets, pad_id=pad_id, n_truncated=n_truncated
    )
    read = dataclasses.replace(decoded, ids=sources, positions=None)
    return PairEncoding(read, decoded), ids


def cut_blocks(texts: Ragged, size: int) -> tuple[Ragged, np.ndarray]:
    """Cut texts into blocks that share one token, so that each is predicted once.

    Parameters
    ----------
    texts : Ragged
        With what they begin and end with.
    size : int
        Tokens a block may have; at least 2.

    Returns
    -------
    blocks : Ragged
        No block has tokens of two texts.
    owners : ndarray of shape (n_blocks,)
        The text that each block is of.
    """
    n_blocks = np.maximum(1, -(-(texts.lengths - 1) // (size - 1)))
    owners = np.repeat(np.arange(len(texts)), n_blocks)
    first_blocks = np.repeat(offsets_of(n_blocks)[:-1], n_blocks)
    starts = (np.arange(len(owners)) - first_blocks) * (size - 1)
    sizes = np.minimum(size, texts.lengths[owners] - starts)
    values = [
        texts.values[start : start + n]
        for start, n in zip(texts.offsets[owners] + starts, sizes, strict=True)
    ]
    return Ragged(np.concatenate(values), offsets_of(sizes)), owners


def _first_of_each(counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a mask of rows in a row: true for the first so many of each."""
    places = np.arange(lengths.sum()) - np.repeat(offsets_of(lengths)[:-1], lengths)
    return places < np.repeat(counts, lengths)
