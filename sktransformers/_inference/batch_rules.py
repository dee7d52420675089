"""Which rows a model may be given together, found by forward passes.

Most models mask padding. Those without an attention mask (FNet), with convolutions over
tokens (ConvBERT, MobileBERT), with a head that reads the last column (XLNet) or with
sparse attention (BigBird) give a padded text other outputs. No attribute of a model
tells, so its outputs for a few rows together are compared with those for each alone.
"""

import dataclasses
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .._hardware.devices import is_out_of_memory
from .._text.batching import BatchRule
from .._text.encoding import Encoding
from .._text.ragged import Ragged
from ..exceptions import ModelFormatError
from .forward import run, to_tensors

_TOLERANCE = 1e-4  # relative; float32 rounding errors are smaller
_WIDTHS = (1, 2, 4, 8, 16, 32)

# The rule of a model, and the length of the longest row it was found with. Known by the
# configuration too, as a search fits the same model many times.
_Known = tuple[int, BatchRule]
_KNOWN: WeakKeyDictionary[torch.nn.Module, _Known] = WeakKeyDictionary()
_KNOWN_BY_CONFIG: dict[str, _Known] = {}


def with_rule(model: Any, encoding: Any, device: torch.device) -> Any:
    """Return encoded texts with the rule by which the model can be given them.

    Parameters
    ----------
    model : TextModel
        Model on ``device``, with full precision.
    encoding : Encoding or PairEncoding
        Encoded texts. Returned as they are if the outputs are logits over the
        vocabulary.
    device : torch.device
        Device of the model.

    Returns
    -------
    Encoding
        The texts, with ``rule``.

    Raises
    ------
    ModelFormatError
        If the model cannot be given texts.
    """
    if model.predicts_tokens or not len(encoding):
        return encoding
    known = _KNOWN.get(model)
    if known is None:
        known = _KNOWN_BY_CONFIG.get(_name(model))
    if known is None:
        known = 0, BatchRule(least_width=_find_least_width(model, encoding, device))
    longest, rule = known
    if len(encoding) > 1 and encoding.longest > longest and rule.shared_by == "all":
        rule = _find_rule(model, dataclasses.replace(encoding, rule=rule), device)
        known = encoding.longest, rule
    if _KNOWN.get(model) is not known:  # naming a model is slow for a single text
        _KNOWN[model] = known
        _KNOWN_BY_CONFIG[_name(model)] = known
    return dataclasses.replace(encoding, rule=rule)


def _name(model: Any) -> str:
    config = model.encoder.config.to_json_string()
    return f"{model.kind} {model.pooling} {type(model.module).__qualname__} {config}"


def _find_least_width(model: Any, encoding: Encoding, device: torch.device) -> int:
    """Return how many tokens, padding included, a row of one token must have."""
    last = encoding.ids.values[encoding.ids.offsets[1] - 1]  # some heads look for it
    one = Ragged(np.array([last], np.int32), np.array([0, 1]))
    first = Ragged(np.array([0]), np.array([0, 1]))
    reason: Exception | None = None
    for width in _WIDTHS:
        row = Encoding(
            ids=one,
            type_ids=None,
            sample_index=np.zeros(1, np.int64),
            n_texts=1,
            n_truncated=0,
            pad_id=encoding.pad_id,
            positions=None if encoding.positions is None else first,
            rule=BatchRule(least_width=width),
        )
        try:
            _outputs(model, row, np.array([0]), device)
        except Exception as error:  # of any type
            if is_out_of_memory(error):
                raise
            reason = error
        else:
            return width
    raise ModelFormatError(
        f"{type(model.module).__name__} cannot be given texts alone: {reason} Choose a "
        "model whose only inputs are token ids."
    ) from reason


def _find_rule(model: Any, encoding: Encoding, device: torch.device) -> BatchRule:
    """Compare the outputs of a few rows together with those of each row alone."""
    order = np.argsort(encoding.lengths, kind="stable")
    n_shorter = int((encoding.lengths < encoding.longest).sum())
    rows = order[[0, len(order) // 2, max(0, n_shorter - 1), -1]]
    rows = np.array(list(dict.fromkeys(rows.tolist())))
    alone = [_outputs(model, encoding, np.array([row]), device) for row in rows]
    together = _outputs(model, encoding, rows, device)
    rule = encoding.rule
    if _are_close(together, np.concatenate(alone)):
        return rule
    twice = _outputs(model, encoding, rows[[-1, -1]], device)
    is_independent = _are_close(twice, np.concatenate([alone[-1]] * 2))
    shared_by = "equal" if is_independent else "none"
    return dataclasses.replace(rule, shared_by=shared_by)


def _outputs(
    model: Any, encoding: Encoding, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return embeddings and outputs of rows in one batch, of shape (n_outputs, n)."""
    inputs = to_tensors(encoding.pad(rows), device)
    n_outputs = int(encoding.output_counts[rows].sum())
    methods = [model.embed] if model.has_new_head else [model.embed, model]
    parts = [
        run(
            method,
            [(np.arange(n_outputs), inputs)],
            n_outputs,
            device=device,
            precision="float32",
        )
        for method in methods
    ]
    return np.concatenate(parts, axis=1)


def _are_close(found: np.ndarray, expected: np.ndarray) -> bool:
    scale = np.abs(expected).max(axis=0)
    return bool((np.abs(found - expected) <= _TOLERANCE * scale.max()).all())
