"""Encoding of prompts and targets as token ids, and decoding of generated ids."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .._json import Schema
from ..exceptions import ModelFormatError, TextValueError
from .dataset import EncodedDataset
from .prompts import (
    PromptEncoder,
    cut_blocks,
    encode_continuations,
    encode_pairs,
    surround,
)
from .ragged import Ragged
from .tokenization import SpecialTokens, escape_special_tokens, tokenize

_SLOT = "{text}"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_BYTES = 4  # of a UTF-8 character


class SpecialTokenIds(Schema):
    """Special token ids and context length of a generative model.

    Attributes
    ----------
    end_id : int or None
        End-of-sequence id to append to training targets. It may equal ``pad_id``, so
        mask the loss by length, not by id.
    eos_ids : tuple of int
        All end-of-sequence ids.
    pad_id : int
        Id of the padding token.
    start_id : int or None
        Decoder start id, used in the absence of a prompt.
    forced_first_id : int or None
        Id that is forced as the first generated token.
    context : int or None
        Maximum number of tokens of the decoder. None: unlimited.
    """

    end_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    start_id: int | None
    forced_first_id: int | None
    context: int | None


class PromptSettings(Schema):
    """Settings of a prompt format.

    Attributes
    ----------
    special_ids : SpecialTokenIds
        Special token ids of the model.
    is_encoder_decoder : bool
        Whether the model is an encoder-decoder.
    template : str
        Prompt template, with "{text}" in place of the source.
    is_chat : bool
        Whether the prompt is a user message in the chat template.
    system_prompt : str or None
        System message of the chat.
    start_id : int or None
        Decoder start id, used in the absence of a prompt.
    first_id : int or None
        Id of the first generated token, such as a language code.
    is_plain : bool
        Whether the model is trained by language modelling on X, without targets.
    """

    special_ids: SpecialTokenIds
    is_encoder_decoder: bool
    template: str
    is_chat: bool
    system_prompt: str | None
    start_id: int | None
    first_id: int | None
    is_plain: bool


class PromptFormat(PromptSettings):
    """Prompt format of a fitted model: encodes prompts and targets, decodes outputs.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer, with the source and target language set, if any.
    """

    tokenizer: Any

    def render(self, text: str) -> str:
        """Return the prompt for a source text."""
        if self._has_special_tokens:
            text = escape_special_tokens(self.tokenizer, text)
        prompt = self.template.replace(_SLOT, text)
        if not self.is_chat:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except ImportError:  # e.g. jinja2 is not installed
            raise
        except Exception as error:  # templates may raise any exception
            raise ValueError(
                f"The chat template of the tokenizer cannot be applied: {error}. "
                "Leave out system_prompt, or pass use_chat_template=False and a "
                "prompt_template."
            ) from error
        return rendered

    @property
    def _has_special_tokens(self) -> bool:
        """Whether special tokens are written in the prompt, around the text."""
        template = self.template
        is_plain = escape_special_tokens(self.tokenizer, template) == template
        return self.is_chat or not is_plain

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """Encoder of source texts as prompts."""
        special = None if self.is_chat else SpecialTokens.of(self.tokenizer)
        split = not self._has_special_tokens
        if special is None or self.is_encoder_decoder:
            return PromptEncoder(self.tokenizer, self.render, special, split)
        prefix, empty = special.prefix, special.empty
        if not prefix and self.is_plain and self.start_id is not None:
            prefix, empty = [self.start_id], []
        elif not prefix and special.suffix:
            empty = special.suffix[:1]
        # A suffix such as end-of-sequence would stop generation after the prompt.
        special = dataclasses.replace(special, prefix=prefix, suffix=[], empty=empty)
        return PromptEncoder(self.tokenizer, self.render, special, split)

    def make_data(
        self,
        sources: list[str],
        targets: list[str],
        weights: np.ndarray,
        max_length: int,
        *,
        may_cut: bool,
    ) -> EncodedDataset:
        """Encode sources and targets as training data.

        Parameters
        ----------
        sources, targets : list of str
            Source texts and their targets.
        weights : ndarray of shape (n_texts,)
            Weight of each text.
        max_length : int
            Maximum number of tokens of source and target together, or, for an
            encoder-decoder, of each.
        may_cut : bool
            Whether to truncate longer texts.

        Returns
        -------
        EncodedDataset
            Training data with one target per target token, end-of-sequence included.

        Raises
        ------
        TextValueError
            If a text is too long and ``may_cut`` is False, or a target has no tokens.
        """
        most = max_length if self.is_encoder_decoder else max_length // 2
        written, was_cut = self.encode_targets(targets, most)
        if not written.lengths.all():
            raise TextValueError(
                f"y[{int(written.lengths.argmin())}] has no tokens, and the model has "
                "no end-of-sequence token. Drop the row."
            )
        taken = (
            np.zeros_like(written.lengths)
            if self.is_encoder_decoder
            else written.lengths
        )
        limits = max_length - taken
        prompts, is_short = self.prompt_encoder.encode(sources, limits)
        if not may_cut:
            require_fitting(was_cut, np.full(len(targets), most), "y")
            require_fitting(is_short, limits, "X")
        options = {
            "pad_id": self.special_ids.pad_id,
            "n_truncated": int((was_cut | is_short).sum()),
        }
        encoding: Any
        if self.is_encoder_decoder:
            assert self.start_id is not None, "checked by make_prompt_format"
            encoding, ids = encode_pairs(
                prompts, written, start_id=self.start_id, **options
            )
        else:
            encoding, ids = encode_continuations(prompts, written, **options)
        return EncodedDataset(encoding, ids, np.repeat(weights, encoding.output_counts))

    def make_plain_data(
        self, texts: list[str], weights: np.ndarray, max_length: int
    ) -> EncodedDataset:
        """Encode texts for language modelling, in blocks.

        Parameters
        ----------
        texts : list of str
            Training texts.
        weights : ndarray of shape (n_texts,)
            Weight of each text.
        max_length : int
            Maximum number of tokens of a block. Texts are not packed into one block, as
            batches of similar length need little padding.

        Returns
        -------
        EncodedDataset
            Training data with one target per token, except the first.

        Raises
        ------
        TextValueError
            If no text has more than one token.
        """
        end = [] if self.special_ids.end_id is None else [self.special_ids.end_id]
        start = end if self.start_id is None else [self.start_id]
        rows = surround(tokenize(self.tokenizer, texts), start, end)
        blocks, sample_index = cut_blocks(rows, max_length)
        has_some = blocks.lengths > 1
        if not has_some.any():
            raise TextValueError(
                "There is nothing to predict: no text of X has more than one token."
            )
        blocks, sample_index = blocks.keep(has_some), sample_index[has_some]
        no_prompts = Ragged(
            np.empty(0, np.int32), np.zeros(len(blocks) + 1, dtype=np.int64)
        )
        encoding, targets = encode_continuations(
            no_prompts, blocks, pad_id=self.special_ids.pad_id
        )
        encoding = dataclasses.replace(
            encoding, sample_index=sample_index.astype(np.int32), n_texts=len(texts)
        )
        return EncodedDataset(
            encoding, targets, np.repeat(weights[sample_index], encoding.output_counts)
        )

    def encode_targets(
        self, targets: list[str], limit: int
    ) -> tuple[Ragged, np.ndarray]:
        """Return the token ids of the targets, and a mask of the truncated ones."""
        ids = tokenize(self.tokenizer, targets)
        if getattr(self.tokenizer, "backend_tokenizer", None) is None:
            escaped = [escape_special_tokens(self.tokenizer, text) for text in targets]
            ids = Ragged.from_rows(
                self.tokenizer(
                    text_target=escaped, add_special_tokens=False, verbose=False
                )["input_ids"]
            )
        first = [] if self.first_id is None else [self.first_id]
        end = [] if self.special_ids.end_id is None else [self.special_ids.end_id]
        written = surround(ids, first, end)
        return written.head(limit), written.lengths > limit

    def encode_prompts(
        self, texts: list[str], limit: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the token ids of each prompt, and a mask of the truncated texts."""
        rows, was_cut = self.prompt_encoder.encode(texts, np.full(len(texts), limit))
        return rows.rows(), was_cut

    def decode(self, ids: list[int]) -> str:
        """Decode token ids, skipping special tokens."""
        if ids and ids[0] == self.first_id:  # not special in every tokenizer
            ids = ids[1:]
        text = self._decode(ids)
        if not text.endswith(_REPLACEMENT):
            return text
        # Some tokenizers drop all bytes before an incomplete character.
        for n_left in range(len(ids) - 1, max(0, len(ids) - _MAX_BYTES), -1):
            whole = self._decode(ids[:n_left])
            if not whole.endswith(_REPLACEMENT):
                return text if text.startswith(whole) else whole + _REPLACEMENT
        return text

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode a stream of ids, yielding complete characters only."""
        taken: list[int] = []
        shown = ""
        for token in ids:
            taken.append(token)
            text = self.decode(taken)
            is_whole = not text.endswith(_REPLACEMENT)
            if is_whole and len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
        rest = self.decode(taken)[len(shown) :]
        if rest:
            yield rest

    def stopper(self, strings: Iterable[str]) -> Callable[[list[int]], bool] | None:
        """Return a stopping criterion for stop strings, or None without strings.

        The criterion takes the generated ids of a sequence and returns whether to stop.
        """
        wanted = list(strings)
        if not wanted:
            return None
        return lambda ids: any(s in self.decode(ids) for s in wanted)


def make_prompt_format(
    estimator: Any,
    tokenizer: Any,
    config: Any,
    found: SpecialTokenIds,
    *,
    is_plain: bool,
) -> PromptFormat:
    """Build the prompt format from an estimator's parameters.

    Parameters
    ----------
    estimator : TransformerGenerator
        Estimator with the parameters; not modified.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model; languages are set on a copy.
    config : PreTrainedConfig
        Configuration of the model.
    found : SpecialTokenIds
        Special token ids of the model.
    is_plain : bool
        Whether the model is trained by language modelling on X, without targets.

    Returns
    -------
    PromptFormat
        The prompt format.

    Raises
    ------
    ValueError
        If the parameters are incompatible with each other or with the model.
    ModelFormatError
        If an encoder-decoder has no decoder start id.
    """
    is_encoder_decoder = bool(config.is_encoder_decoder)
    start_id, first_id = found.start_id, found.forced_first_id
    if estimator.source_lang is not None or estimator.target_lang is not None:
        tokenizer = _set_languages(
            tokenizer, estimator.source_lang, estimator.target_lang
        )
    if estimator.target_lang is not None:
        first_id = _language_id(tokenizer, estimator.target_lang)
        # In these two families the language code is the decoder start id.
        last_id = tokenizer(text_target="a")["input_ids"][-1]
        if last_id == first_id and config.model_type in ("mbart", "plbart"):
            start_id, first_id = first_id, None
    if is_encoder_decoder and start_id is None:
        raise ModelFormatError(
            f"The configuration of {estimator.model!r} has no "
            "decoder_start_token_id. Set it and save the model again."
        )
    prompt_format = PromptFormat(
        tokenizer=tokenizer,
        special_ids=found,
        is_encoder_decoder=is_encoder_decoder,
        template=_template(estimator.prompt_template, estimator.source_prefix),
        is_chat=_is_chat(estimator, tokenizer, is_encoder_decoder, is_plain),
        system_prompt=estimator.system_prompt,
        start_id=start_id,
        first_id=first_id if is_encoder_decoder else None,
        is_plain=is_plain,
    )
    prompt_format.render("")  # raise errors of the chat template early
    return prompt_format


def _template(template: str | None, prefix: str | None) -> str:
    if template is not None and prefix is not None:
        raise ValueError(
            "prompt_template and source_prefix both set the text before the source. "
            "Pass only one of them."
        )
    if template is None:
        return f"{prefix or ''}{_SLOT}"
    if _SLOT not in template:
        raise ValueError(
            f"prompt_template must have {_SLOT!r} where the source goes. Got "
            f"{template!r} instead."
        )
    return template


def _is_chat(
    estimator: Any, tokenizer: Any, is_encoder_decoder: bool, is_plain: bool
) -> bool:
    can_chat = (
        bool(getattr(tokenizer, "chat_template", None)) and not is_encoder_decoder
    )
    wanted = estimator.use_chat_template
    if wanted == "auto":
        wanted = can_chat and estimator.prompt_template is None and not is_plain
    if wanted and not can_chat:
        raise ValueError(
            f"use_chat_template=True, but the tokenizer of {estimator.model!r} has no "
            "chat template, or the model is not decoder-only. Pass prompt_template "
            "instead."
        )
    if estimator.system_prompt is not None and not wanted:
        raise ValueError(
            "system_prompt is the system message of a chat, but no chat template is "
            "used. Put it into prompt_template."
        )
    return bool(wanted)


def _set_languages(tokenizer: Any, source: str | None, target: str | None) -> Any:
    """Return a copy of the tokenizer with the source and target language set."""
    tokenizer = copy.deepcopy(tokenizer)
    for name, language in (("source_lang", source), ("target_lang", target)):
        if language is None:
            continue
        if _language_id(tokenizer, language) is None:
            known = _languages(tokenizer)
            advice = "Put the language into prompt_template or source_prefix."
            if known:
                advice = f"Pass a supported code, such as {', '.join(known[:12])}."
            raise ValueError(
                f"{name}={language!r}: the tokenizer does not support it. {advice}"
            )
        setattr(
            tokenizer, "src_lang" if name == "source_lang" else "tgt_lang", language
        )
    return tokenizer


def _languages(tokenizer: Any) -> list[str]:
    """Return the language codes of a tokenizer."""
    if not hasattr(tokenizer, "src_lang"):
        return []
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M100: codes differ from tokens
        return list(tokenizer.lang_code_to_token)
    kinds = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    others = {getattr(tokenizer, f"{kind}_token") for kind in kinds}
    return [token for token in tokenizer.all_special_tokens if token not in others]


def _language_id(tokenizer: Any, language: str) -> int | None:
    if language not in _languages(tokenizer):
        return None
    if hasattr(tokenizer, "get_lang_id"):
        return int(tokenizer.get_lang_id(language))
    return int(tokenizer.convert_tokens_to_ids(language))


def require_fitting(was_cut: np.ndarray, limits: np.ndarray, name: str) -> None:
    """Raise TextValueError if a text was truncated.

    Parameters
    ----------
    was_cut : ndarray of shape (n_texts,)
        Whether each text was truncated.
    limits : ndarray of shape (n_texts,)
        Maximum number of tokens of each text.
    name : {"X", "y"}
        Name of the input, for the message.
    """
    if was_cut.any():
        row = int(was_cut.argmax())
        raise TextValueError(
            f"{name}[{row}] takes more than the {limits[row]} tokens available "
            f"({int(was_cut.sum())} such texts in all). Shorten them, raise "
            "max_length, or pass long_text='truncate'."
        )
