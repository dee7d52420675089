"""Whether a generative model can be given prompts of different lengths together.

Most models mask padding and take the positions of the other tokens. Some have no
attention mask, read the last column, select what they attend to, or keep a state. No
attribute of a model tells, so its logits for a few prompts together are compared with
those for each prompt alone.
"""

import copy
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from .sampling import GenerationSettings

# Relative to the largest logit; rounding errors are smaller.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}
_TOLERANCE_OF_HALF_PRECISION = 5e-2

# By model: what was found, and the length of the longest prompt that it was found with.
_KNOWN: WeakKeyDictionary[Any, tuple[bool, int]] = WeakKeyDictionary()


def takes_padding(
    model: Any,
    prompts: Sequence[np.ndarray],
    settings: GenerationSettings,
    device: torch.device,
) -> bool:
    """Return whether the next tokens do not depend on the other prompts of a batch.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only or encoder-decoder model, in evaluation mode. Not modified.
    prompts : sequence of ndarray of shape (n_ids,)
        Token ids, some of which are tried. The result is cached until much longer
        prompts come.
    settings : GenerationSettings
        Generation settings.
    device : torch.device
        Device of the model.

    Returns
    -------
    bool
        Whether prompts of different lengths can share a batch.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    if not len(prompts) or lengths.min() == (longest := int(lengths.max())):
        return True  # there is nothing to pad
    found, tried = _KNOWN.get(model, (True, 0))
    if not found or longest <= 2 * tried:
        return found
    order = np.argsort(lengths, kind="stable")
    rows = [prompts[i] for i in order[[0, len(order) // 2, -1]]]
    # The second step reads the key-value cache or the state.
    is_full = settings.context is not None and longest + 2 > settings.context
    config = GenerationConfig(
        max_new_tokens=1 if is_full else 2,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=settings.pad_id,
        decoder_start_token_id=settings.decoder_start_id,
    )
    plain = without_generation_config(model)
    with torch.inference_mode():
        together = _next_logits(plain, rows, config, device)
        alone = torch.cat([_next_logits(plain, [row], config, device) for row in rows])
    tolerance = _TOLERANCE.get(model.dtype, _TOLERANCE_OF_HALF_PRECISION)
    difference, scale = (together - alone).abs().max(), alone.abs().max()
    found = bool(difference <= tolerance * scale)
    _KNOWN[model] = found, longest
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
