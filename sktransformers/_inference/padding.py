"""Which prompts a generative model can be given together.

Models that take an attention mask and the positions of the tokens do not depend on
padding. Some others do, or even mix the states of the rows, and no attribute tells: the
logits for a few prompts together are compared with those for each prompt alone.
"""

import copy
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from .._compat import forward_arguments, has_recurrent_state
from .._hardware.devices import is_out_of_memory
from .sampling import GenerationSettings

# Relative to the largest logit; rounding errors are smaller.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}
_TOLERANCE_OF_HALF_PRECISION = 5e-2

# By model: what was found, and the length of the longest prompt that it was found with.
_KNOWN: WeakKeyDictionary[Any, tuple[str, int]] = WeakKeyDictionary()


def find_shared_by(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    device: torch.device,
) -> str:
    """Return which prompts can share a batch without changing each other's logits.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder model, in evaluation mode. Not modified.
    prompts : sequence of ndarray of shape (n_ids,)
        Token ids. The longest is tried, with its parts; the result is cached until a
        much longer one comes.
    settings : GenerationSettings
        Generation settings.
    device : torch.device
        Device of the model.

    Returns
    -------
    {"all", "equal", "none"}
        All prompts, those of equal length, or none.
    """
    if model.config.is_encoder_decoder or (
        "position_ids" in forward_arguments(model) and not has_recurrent_state(model)
    ):
        return "all"
    if len(prompts) < 2 and settings.num_beams == 1:
        return "all"
    longest = max(prompts, key=len, default=np.empty(0))
    found, tried = _KNOWN.get(model, ("all", 0))
    if found == "none" or len(longest) <= 2 * tried:
        return found
    # The second step reads the key-value cache or the state.
    is_full = settings.context is not None and len(longest) + 2 > settings.context
    config = GenerationConfig(
        max_new_tokens=1 if is_full else 2,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=settings.pad_id,
        decoder_start_token_id=settings.decoder_start_id,
    )
    plain = without_generation_config(model)
    n = len(longest)
    rows = [longest, longest[::-1].copy(), longest[n // 2 :], longest[-(n // 8) - 1 :]]
    tolerance = _TOLERANCE.get(model.dtype, _TOLERANCE_OF_HALF_PRECISION)

    def are_independent(rows: list[np.ndarray]) -> bool:
        together = _next_logits(plain, rows, config, device)
        alone = torch.cat([_next_logits(plain, [row], config, device) for row in rows])
        if not alone.isfinite().all():
            return True  # there is nothing to compare; generation raises an error
        difference, scale = (together - alone).abs().max(), alone.abs().max()
        return bool(difference <= tolerance * scale)

    try:
        with torch.inference_mode():
            if found == "all" and not are_independent(rows):
                found = "equal"
            if found == "equal" and not are_independent(rows[:2]):
                found = "none"
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return found if settings.num_beams > 1 else "none"
    _KNOWN[model] = found, len(longest)
    return found


def _next_logits(
    model: Any, prompts: list[np.ndarray], config: GenerationConfig, device: Any
) -> torch.Tensor:
    """Return the logits of the next tokens, of shape (n_prompts, n_steps, n_tokens)."""
    ids, mask = pad(
        prompts, config.pad_token_id, left=not model.config.is_encoder_decoder
    )
    outputs = model.generate(
        torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=config,
        logits_processor=LogitsProcessorList([_ForceToken()]),
    )
    return torch.stack(outputs.logits, dim=1)


class _ForceToken(LogitsProcessor):
    """Force the same token in all rows."""

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, 0] = 0.0
        return forced


def without_generation_config(model: Any) -> Any:
    """Return a shallow copy of a model with an empty generation config.

    Its ``generate`` fills values that are unset in the passed config with those of the
    model's.
    """
    model = copy.copy(model)
    model.generation_config = GenerationConfig()
    return model


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
