"""How a model's sources and targets are laid out as ids, and ids turned into texts."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._data import Data
from .exceptions import TextValueError
from .models.generative import Conventions
from .text.encoding import Ragged, SpecialTokens, tokenize
from .text.prompts import (
    Prompter,
    cut_blocks,
    encode_continuations,
    encode_pairs,
)

_SLOT = "{text}"


@dataclass(frozen=True)
class Layout:
    """What a model reads and writes, for one fit and what it predicts.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Set to the languages, if there are any.
    conventions : Conventions
        What the model's texts begin and end with.
    is_pair : bool
        Whether an encoder reads the source, rather than the decoder itself.
    template : str
        With "{text}" where the source goes.
    is_chat : bool
        Whether the result is put to the model as a user's message.
    system_prompt : str or None
        The system's message of a chat.
    first_id : int or None
        What every text that is written begins with, such as its language.
    """

    tokenizer: Any
    conventions: Conventions
    is_pair: bool
    template: str
    is_chat: bool
    system_prompt: str | None
    first_id: int | None

    def render(self, text: str) -> str:
        """Return the prompt of a source."""
        prompt = self.template.replace(_SLOT, text)
        if not self.is_chat:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        rendered: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return rendered

    @property
    def prompter(self) -> Prompter:
        """What turns sources into ids."""
        special = None if self.is_chat else SpecialTokens.of(self.tokenizer)
        if special is not None and not self.is_pair and special.suffix:
            # The end of a text would keep a decoder from going on.
            special = dataclasses.replace(special, suffix=[])
        return Prompter(self.tokenizer, self.render, special)

    def make_data(
        self,
        sources: list[str],
        targets: list[str],
        weights: np.ndarray,
        max_length: int,
    ) -> Data:
        """Lay out sources and targets, to be learned.

        Parameters
        ----------
        sources, targets : list of str
            What is read, and what is to be written.
        weights : ndarray of shape (n_texts,)
            Weight of each text.
        max_length : int
            Tokens of both together, or in an encoder-decoder of each.

        Returns
        -------
        Data
            A target for each token that is to be written, the end included.
        """
        written, was_cut = self.encode_targets(
            targets, max_length if self.is_pair else max_length // 2
        )
        limits = max_length - (0 if self.is_pair else written.lengths)
        prompts, is_short = self.prompter.encode(
            sources, np.broadcast_to(limits, len(sources))
        )
        options = {
            "pad_id": self.conventions.pad_id,
            "n_truncated": int((was_cut | is_short).sum()),
        }
        encoding: Any
        if self.is_pair:
            start_id = self.conventions.start_id
            assert start_id is not None, "an encoder-decoder has one"
            encoding, ids = encode_pairs(prompts, written, start_id=start_id, **options)
        else:
            encoding, ids = encode_continuations(prompts, written, **options)
        return Data(encoding, ids, np.repeat(weights, encoding.output_counts))

    def make_plain_data(
        self, texts: list[str], weights: np.ndarray, max_length: int
    ) -> Data:
        """Lay out texts of which every token is learned, in blocks.

        Parameters
        ----------
        texts : list of str
            The texts.
        weights : ndarray of shape (n_texts,)
            Weight of each text.
        max_length : int
            Tokens a block may have. None has tokens of two texts: batches are of like
            length, so that short texts cost no padding.

        Returns
        -------
        Data
            A target for each token but the first.
        """
        ids = tokenize(self.tokenizer, texts)
        begin = self.conventions.start_id
        ends = [] if self.conventions.end_id is None else [self.conventions.end_id]
        starts = ends if begin is None else [begin]
        bounds = zip(ids.offsets[:-1], ids.offsets[1:], strict=True)
        rows = Ragged.from_rows(
            [*starts, *ids.values[a:b].tolist(), *ends] for a, b in bounds
        )
        blocks, owners = cut_blocks(rows, max_length)
        nothing = Ragged(
            np.empty(0, np.int32), np.zeros(len(blocks) + 1, dtype=np.int64)
        )
        encoding, targets = encode_continuations(
            nothing, blocks, pad_id=self.conventions.pad_id
        )
        encoding = dataclasses.replace(
            encoding, owners=owners.astype(np.int32), n_texts=len(texts)
        )
        return Data(
            encoding, targets, np.repeat(weights[owners], encoding.output_counts)
        )

    def encode_targets(
        self, targets: list[str], limit: int
    ) -> tuple[Ragged, np.ndarray]:
        """Return the ids that are to be written, and which targets had to be cut."""
        if getattr(self.tokenizer, "backend_tokenizer", None) is None:
            ids = self.tokenizer(
                text_target=targets, add_special_tokens=False, verbose=False
            )["input_ids"]
        else:
            plain = tokenize(self.tokenizer, targets)
            ids = [row.tolist() for row in np.split(plain.values, plain.offsets[1:-1])]
        first = [] if self.first_id is None else [self.first_id]
        end = [] if self.conventions.end_id is None else [self.conventions.end_id]
        rows = [[*first, *row, *end] for row in ids]
        was_cut = np.array([len(row) > limit for row in rows])
        return Ragged.from_rows(row[:limit] for row in rows), was_cut

    def encode_prompts(
        self, texts: list[str], limit: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ids of each prompt, and which of the texts had to be cut."""
        rows, was_cut = self.prompter.encode(texts, np.full(len(texts), limit))
        return np.split(rows.values, rows.offsets[1:-1]), was_cut

    def decode(self, ids: list[int]) -> str:
        """Return the text that ids stand for, without special tokens."""
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield text as its ids come; a character of several ids comes whole."""
        taken: list[int] = []
        shown = ""
        for token in ids:
            taken.append(token)
            text = self.decode(taken)
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                yield text[len(shown) :]
                shown = text
        rest = self.decode(taken)[len(shown) :]
        if rest:
            yield rest

    def stopper(self, strings: Iterable[str]) -> Callable[[list[int]], bool] | None:
        """Return what says whether written ids hold one of some strings."""
        wanted = list(strings)
        if not wanted:
            return None
        return lambda ids: any(s in self.decode(ids) for s in wanted)


def make_layout(estimator: Any, tokenizer: Any, config: Any, found: Conventions) -> Any:
    """Return the layout that an estimator's parameters ask for.

    Parameters
    ----------
    estimator : TransformerGenerator
        Only read.
    tokenizer : PreTrainedTokenizerBase
        Not changed: languages are set on a copy.
    config : PreTrainedConfig
        The model's.
    found : Conventions
        The model's.

    Returns
    -------
    Layout
        Ready to be used.

    Raises
    ------
    ValueError
        The parameters do not fit one another or the model.
    """
    is_pair = bool(config.is_encoder_decoder)
    first_id = found.forced_first_id
    if estimator.source_lang is not None or estimator.target_lang is not None:
        tokenizer, first_id = _set_languages(
            tokenizer, estimator.source_lang, estimator.target_lang, first_id
        )
    return Layout(
        tokenizer=tokenizer,
        conventions=found,
        is_pair=is_pair,
        template=_template(estimator.prompt_template, estimator.source_prefix),
        is_chat=_is_chat(estimator, tokenizer, is_pair),
        system_prompt=estimator.system_prompt,
        first_id=first_id if is_pair else None,
    )


def _template(template: str | None, prefix: str | None) -> str:
    if template is not None and prefix is not None:
        raise ValueError(
            "prompt_template and source_prefix both say what goes before a source. "
            "Pass one of them."
        )
    if template is None:
        return f"{prefix or ''}{_SLOT}"
    if _SLOT not in template:
        raise ValueError(
            f"prompt_template must have {_SLOT!r} where the source goes. Got "
            f"{template!r}, in which every source would read the same."
        )
    return template


def _is_chat(estimator: Any, tokenizer: Any, is_pair: bool) -> bool:
    can_chat = bool(getattr(tokenizer, "chat_template", None)) and not is_pair
    wanted = estimator.use_chat_template
    if wanted == "auto":
        wanted = can_chat and estimator.prompt_template is None
    if wanted and not can_chat:
        raise ValueError(
            f"use_chat_template=True, but the tokenizer of {estimator.model!r} has no "
            "chat template, or its model is no decoder. Pass prompt_template instead."
        )
    if estimator.system_prompt is not None and not wanted:
        raise ValueError(
            "system_prompt is the system's message of a chat, but no chat template is "
            "used here. Put it into prompt_template."
        )
    return bool(wanted)


def _set_languages(
    tokenizer: Any, source: str | None, target: str | None, first_id: int | None
) -> tuple[Any, int | None]:
    """Return a copy of the tokenizer set to languages, and the target language's id."""
    tokenizer = copy.deepcopy(tokenizer)
    for name, language in (("source_lang", source), ("target_lang", target)):
        if language is None:
            continue
        token_id = _id_of_language(tokenizer, language)
        if token_id is None:
            raise ValueError(
                f"{name}={language!r}: the tokenizer knows no such language. Pass one "
                "of its codes, such as those among its special tokens: "
                f"{tokenizer.all_special_tokens[:12]}."
            )
        if name == "source_lang":
            tokenizer.src_lang = language
        else:
            tokenizer.tgt_lang = language
            first_id = token_id
    return tokenizer, first_id


def _id_of_language(tokenizer: Any, language: str) -> int | None:
    if hasattr(tokenizer, "get_lang_id"):  # of the kind that writes __en__
        try:
            return int(tokenizer.get_lang_id(language))
        except KeyError:
            return None
    token_id = tokenizer.convert_tokens_to_ids(language)
    return None if token_id in (None, tokenizer.unk_token_id) else int(token_id)


def require_fitting(was_cut: np.ndarray, long_text: str, limit: int) -> None:
    """Raise TextValueError for a text that is too long, if none may be cut."""
    if long_text == "error" and was_cut.any():
        raise TextValueError(
            f"X[{int(was_cut.argmax())}] takes more than the {limit} tokens there is "
            f"room for ({int(was_cut.sum())} such texts in all). Shorten them, raise "
            "max_length, or pass long_text='truncate'."
        )
