"""How a model's sources and targets are laid out as ids, and ids turned into texts."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._data import Data
from .engine.choosing import Settings
from .exceptions import ModelFormatError, TextValueError
from .models.generative import Conventions
from .text.encoding import Ragged, SpecialTokens, tokenize
from .text.prompts import (
    Prompter,
    cut_blocks,
    encode_continuations,
    encode_pairs,
)

_SLOT = "{text}"
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 4  # of a character


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
    start_id : int or None
        What the decoder begins with if it is given nothing else.
    first_id : int or None
        What every text that is written begins with, such as its language.
    is_plain : bool
        Whether texts were learned for themselves, each after what a decoder begins
        with.
    """

    tokenizer: Any
    conventions: Conventions
    is_pair: bool
    template: str
    is_chat: bool
    system_prompt: str | None
    start_id: int | None
    first_id: int | None
    is_plain: bool

    def render(self, text: str) -> str:
        """Return the prompt of a source."""
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
        except ImportError:  # of what reads templates
            raise
        except Exception as error:  # templates may raise what they like
            raise ValueError(
                f"The chat template of the tokenizer cannot be filled in: {error}. "
                "Leave out system_prompt, or pass use_chat_template=False and a "
                "prompt_template."
            ) from error
        return rendered

    @property
    def prompter(self) -> Prompter:
        """What turns sources into ids."""
        special = None if self.is_chat else SpecialTokens.of(self.tokenizer)
        if special is None or self.is_pair:
            return Prompter(self.tokenizer, self.render, special)
        prefix, empty = special.prefix, special.empty
        if not prefix and self.is_plain and self.start_id is not None:
            prefix, empty = [self.start_id], []
        elif not prefix and special.suffix:
            empty = special.suffix[:1]
        # The end of a text would keep a decoder from going on.
        special = dataclasses.replace(special, prefix=prefix, suffix=[], empty=empty)
        return Prompter(self.tokenizer, self.render, special)

    def make_data(
        self,
        sources: list[str],
        targets: list[str],
        weights: np.ndarray,
        max_length: int,
        *,
        may_cut: bool,
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
        may_cut : bool
            Whether longer ones are cut.

        Returns
        -------
        Data
            A target for each token that is to be written, the end included.

        Raises
        ------
        TextValueError
            A text is longer and may not be cut, or a target has not one token.
        """
        most = max_length if self.is_pair else max_length // 2
        written, was_cut = self.encode_targets(targets, most)
        if not written.lengths.all():
            raise TextValueError(
                f"y[{int(written.lengths.argmin())}] has no tokens, and the model has "
                "none for the end of a text. Drop the row."
            )
        taken = np.zeros_like(written.lengths) if self.is_pair else written.lengths
        limits = max_length - taken
        prompts, is_short = self.prompter.encode(sources, limits)
        if not may_cut:
            require_fitting(was_cut, np.full(len(targets), most), "y")
            require_fitting(is_short, limits, "X")
        options = {
            "pad_id": self.conventions.pad_id,
            "n_truncated": int((was_cut | is_short).sum()),
        }
        encoding: Any
        if self.is_pair:
            assert self.start_id is not None, "make_layout has seen to it"
            encoding, ids = encode_pairs(
                prompts, written, start_id=self.start_id, **options
            )
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

        Raises
        ------
        TextValueError
            No text has more than one token.
        """
        ids = tokenize(self.tokenizer, texts)
        begin = self.start_id
        ends = [] if self.conventions.end_id is None else [self.conventions.end_id]
        starts = ends if begin is None else [begin]
        bounds = zip(ids.offsets[:-1], ids.offsets[1:], strict=True)
        rows = Ragged.from_rows(
            [*starts, *ids.values[a:b].tolist(), *ends] for a, b in bounds
        )
        blocks, owners = cut_blocks(rows, max_length)
        has_some = blocks.lengths > 1
        if not has_some.any():
            raise TextValueError(
                "There is nothing to predict: no text of X has more than one token."
            )
        blocks, owners = blocks.keep(has_some), owners[has_some]
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
        if ids and ids[0] == self.first_id:  # not every tokenizer counts it as special
            ids = ids[1:]
        text = self._decode(ids)
        if not text.endswith(_BROKEN):
            return text
        # Some tokenizers give up all the bytes before the one that is missing.
        for n_left in range(len(ids) - 1, max(0, len(ids) - _MOST_BYTES), -1):
            whole = self._decode(ids[:n_left])
            if not whole.endswith(_BROKEN):
                return text if text.startswith(whole) else whole + _BROKEN
        return text

    def _decode(self, ids: list[int]) -> str:
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
            is_whole = not text.endswith(_BROKEN)
            if is_whole and len(text) > len(shown):
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


def make_layout(
    estimator: Any,
    tokenizer: Any,
    config: Any,
    found: Conventions,
    *,
    is_plain: bool,
) -> Layout:
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
    is_plain : bool
        Whether texts are learned for themselves.

    Returns
    -------
    Layout
        Ready to be used.

    Raises
    ------
    ValueError
        The parameters do not fit one another or the model.
    ModelFormatError
        An encoder-decoder does not say what its decoder starts from.
    """
    is_pair = bool(config.is_encoder_decoder)
    start_id, first_id = found.start_id, found.forced_first_id
    if estimator.source_lang is not None or estimator.target_lang is not None:
        tokenizer = _set_languages(
            tokenizer, estimator.source_lang, estimator.target_lang
        )
    if estimator.target_lang is not None:
        first_id = _id_of_language(tokenizer, estimator.target_lang)
        # In two families the language is not written, but what the decoder starts from.
        last_id = tokenizer(text_target="a")["input_ids"][-1]
        if last_id == first_id and config.model_type in ("mbart", "plbart"):
            start_id, first_id = first_id, None
    if is_pair and start_id is None:
        raise ModelFormatError(
            f"The configuration of {estimator.model!r} does not say what its decoder "
            "starts from. Set decoder_start_token_id in it and save the model again."
        )
    layout = Layout(
        tokenizer=tokenizer,
        conventions=found,
        is_pair=is_pair,
        template=_template(estimator.prompt_template, estimator.source_prefix),
        is_chat=_is_chat(estimator, tokenizer, is_pair, is_plain),
        system_prompt=estimator.system_prompt,
        start_id=start_id,
        first_id=first_id if is_pair else None,
        is_plain=is_plain,
    )
    layout.render("")  # which a chat template may refuse
    return layout


def make_settings(estimator: Any, layout: Layout, n: int, longest: int) -> Settings:
    """Return how to generate, as the engine takes it.

    Parameters
    ----------
    estimator : TransformerGenerator
        Only read.
    layout : Layout
        How the model's texts are laid out.
    n : int
        Texts for each source.
    longest : int
        Tokens to write at most where ``max_new_tokens`` does not say.

    Returns
    -------
    Settings
        Checked.

    Raises
    ------
    ValueError
        Parameters do not fit one another.
    """
    for string in estimator.stop_strings or ():
        if not isinstance(string, str) or not string:
            raise ValueError(
                f"stop_strings must be str, none of them empty. Got {string!r}."
            )
    return Settings(
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
        eos_ids=layout.conventions.eos_ids,
        pad_id=layout.conventions.pad_id,
        forced_first_id=layout.first_id,
        decoder_start_id=layout.start_id if layout.is_pair else None,
        context=layout.conventions.context,
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


def _is_chat(estimator: Any, tokenizer: Any, is_pair: bool, is_plain: bool) -> bool:
    can_chat = bool(getattr(tokenizer, "chat_template", None)) and not is_pair
    wanted = estimator.use_chat_template
    if wanted == "auto":
        wanted = can_chat and estimator.prompt_template is None and not is_plain
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


def _set_languages(tokenizer: Any, source: str | None, target: str | None) -> Any:
    """Return a copy of the tokenizer that is set to languages."""
    tokenizer = copy.deepcopy(tokenizer)
    for name, language in (("source_lang", source), ("target_lang", target)):
        if language is None:
            continue
        if _id_of_language(tokenizer, language) is None:
            known = _languages(tokenizer)
            advice = "Put the language into prompt_template or source_prefix."
            if known:
                advice = f"Pass one of its codes, such as {', '.join(known[:12])}."
            raise ValueError(
                f"{name}={language!r}: the tokenizer knows no such language. {advice}"
            )
        setattr(
            tokenizer, "src_lang" if name == "source_lang" else "tgt_lang", language
        )
    return tokenizer


def _languages(tokenizer: Any) -> list[str]:
    """Return the codes of the languages that a tokenizer marks."""
    if not hasattr(tokenizer, "src_lang"):
        return []
    if hasattr(tokenizer, "lang_code_to_token"):  # of the kind that writes __en__
        return list(tokenizer.lang_code_to_token)
    kinds = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    others = {getattr(tokenizer, f"{kind}_token") for kind in kinds}
    return [token for token in tokenizer.all_special_tokens if token not in others]


def _id_of_language(tokenizer: Any, language: str) -> int | None:
    if language not in _languages(tokenizer):
        return None
    if hasattr(tokenizer, "get_lang_id"):
        return int(tokenizer.get_lang_id(language))
    return int(tokenizer.convert_tokens_to_ids(language))


def require_fitting(was_cut: np.ndarray, limits: np.ndarray, name: str) -> None:
    """Raise TextValueError for a text that is too long.

    Parameters
    ----------
    was_cut : ndarray of shape (n_texts,)
        Which ones are.
    limits : ndarray of shape (n_texts,)
        Tokens there is room for.
    name : {"X", "y"}
        Where they are from.
    """
    if was_cut.any():
        row = int(was_cut.argmax())
        raise TextValueError(
            f"{name}[{row}] takes more than the {limits[row]} tokens there is room for "
            f"({int(was_cut.sum())} such texts in all). Shorten them, raise "
            "max_length, or pass long_text='truncate'."
        )
