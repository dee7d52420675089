"""A checkpoint that somebody else has trained becomes a fitted estimator."""

import os
import re
from typing import Any

import numpy as np

from .._tag_target import TagTarget
from .._tags import encode_tags, scheme_of
from .._targets import FloatTarget, LabelTarget, MultilabelTarget, TextTarget
from .._writing import make_layout, make_settings
from ..engine import hardware
from ..exceptions import ModelFormatError
from ..models.generative import find_conventions, load_generative, require_generative
from ..models.language import LanguageModel
from ..models.loading import Checkpoint, find_checkpoint
from ..models.modules import ArchitectureModel, order_outputs
from ._state import name_of
from ._weights import read_foreign_head

_UNNAMED = re.compile(r"LABEL_\d+")
_DEFAULT_NEW_TOKENS = 256


def read_foreign(
    cls: Any, model: str | os.PathLike[str], revision: str | None, n_columns: int
) -> Any:
    """Read a checkpoint with a trained head as an estimator that was fitted.

    Parameters
    ----------
    cls : type
        The estimator's class.
    model : str or path
        Directory or hub id.
    revision : str or None
        On the hub.
    n_columns : int
        Text columns of X that the model reads.

    Returns
    -------
    estimator
        Fitted, with the parameters' defaults.

    Raises
    ------
    ModelNotFoundError
        There is no such model.
    ModelFormatError
        It has no trained head for what the estimator does.
    """
    kind = name_of(cls)
    estimator = cls(model, revision=revision)
    checkpoint = find_checkpoint(os.fspath(model), revision)
    dtype = hardware.weights_dtype(estimator.precision)
    if kind == "TransformerGenerator":
        found = _read_writer(estimator, checkpoint, dtype)
    else:
        _require_head(checkpoint, cls, kind)
        found = _read_head(estimator, checkpoint, kind, dtype)
    estimator.__dict__.update(
        {
            "_n_columns": n_columns,
            "_length_limit": checkpoint.max_length,
            "_adapter": None,
            "_checkpoint_name": (model, revision),
            "tokenizer_": checkpoint.tokenizer,
            "n_truncated_": 0,
            "history_": [],
            "n_epochs_": 0,
            **found,
        }
    )
    return estimator


def _require_head(checkpoint: Checkpoint, cls: Any, kind: str) -> None:
    if checkpoint.has_trained_head(cls._task):
        gives_numbers = _gives_numbers(checkpoint.config)
        if kind == "TransformerTagger" or gives_numbers == (
            kind == "TransformerRegressor"
        ):
            return
        other = "TransformerRegressor" if gives_numbers else "TransformerClassifier"
        raise ModelFormatError(
            f"The trained head of {checkpoint.name!r} gives "
            f"{'numbers' if gives_numbers else 'labels'}. Read it with "
            f"{other}.from_pretrained."
        )
    found = (checkpoint.config.architectures or ["none"])[0]
    raise ModelFormatError(
        f"{checkpoint.name!r} has no trained head for {kind} (its architecture is "
        f"{found}), so that there is nothing to predict with yet. Train one: "
        f"{cls.__name__}({checkpoint.name!r}).fit(X, y)."
    )


def _gives_numbers(config: Any) -> bool:
    kind = config.problem_type
    return kind == "regression" or (kind is None and config.num_labels == 1)


def _read_head(estimator: Any, checkpoint: Checkpoint, kind: str, dtype: Any) -> Any:
    module = read_foreign_head(checkpoint, estimator._task, dtype)
    model = ArchitectureModel(module).eval()
    config = module.config
    config.use_cache = False
    if config.pad_token_id is None:
        ids = (checkpoint.tokenizer.pad_token_id, checkpoint.tokenizer.eos_token_id, 0)
        config.pad_token_id = next(i for i in ids if i is not None)
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if kind == "TransformerRegressor":
        ones = np.ones(len(names))
        target: Any = FloatTarget(0 * ones, ones, is_flat=len(names) == 1)
    elif kind == "TransformerTagger":
        order = _sort(model, names)
        # Each tag by itself: both kinds of BIO have the same ones, and this gives BIO.
        scheme = scheme_of(encode_tags([[tag] for tag in order]))
        target = TagTarget(np.array(order), scheme)
    elif config.problem_type == "multi_label_classification":
        target = MultilabelTarget(len(names))
    elif all(_UNNAMED.fullmatch(name) for name in names):
        target = LabelTarget(np.arange(len(names)))
    else:
        target = LabelTarget(np.array(_sort(model, names)))
    return {"model_": model, "_target": target}


def _sort(model: ArchitectureModel, names: list[str]) -> list[str]:
    """Put the outputs in the order of sorted labels, as every classifier has them."""
    if len(set(names)) < len(names):
        raise ModelFormatError(
            f"Two outputs of the trained head have the same label: {sorted(names)}."
        )
    order = sorted(range(len(names)), key=names.__getitem__)
    order_outputs(model, order)
    ordered = [names[i] for i in order]
    model.name_labels(ordered)
    return ordered


def _read_writer(estimator: Any, checkpoint: Checkpoint, dtype: Any) -> Any:
    require_generative(checkpoint)
    module = load_generative(checkpoint, dtype)
    layout = make_layout(
        estimator,
        checkpoint.tokenizer,
        module.config,
        find_conventions(checkpoint),
        is_plain=False,
    )
    make_settings(estimator, layout, n=1, longest=1)  # raises if it cannot write so
    return {
        "model_": LanguageModel(module).eval(),
        "tokenizer_": layout.tokenizer,
        "_target": TextTarget(),
        "_layout": layout,
        "max_new_tokens_": _DEFAULT_NEW_TOKENS,
    }
