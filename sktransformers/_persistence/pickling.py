"""Pickle estimators without the weights that can be loaded again from the checkpoint.

Also validates the LoRA parameters.
"""

import copy
from typing import Any

from ..exceptions import ModelFormatError, ModelNotFoundError


def adapter_settings(estimator: Any) -> Any:
    """Make the adapter settings from the LoRA parameters of an estimator.

    Parameters
    ----------
    estimator : estimator
        Not changed.

    Returns
    -------
    AdapterSettings or None
        None if ``lora_rank`` is None.

    Raises
    ------
    ValueError
        If ``trainable`` is also set.
    ImportError
        If peft is not installed.
    """
    rank = estimator.lora_rank
    if rank is None:
        return None
    if estimator.trainable != "all":
        raise ValueError(
            f"trainable={estimator.trainable!r} and lora_rank={rank} both select the "
            "weights to train. Leave one of them at its default."
        )
    from .._models.lora import AdapterSettings, require_peft

    require_peft()
    alpha, targets = estimator.lora_alpha, estimator.lora_target_modules
    return AdapterSettings(
        rank,
        2 * rank if alpha is None else alpha,
        estimator.lora_dropout,
        list(targets) if isinstance(targets, tuple) else targets,
    )


def leave_out_base(estimator: Any, state: dict[str, Any]) -> None:
    """Drop the weights of the checkpoint from a state, depending on ``store_backbone``.

    Parameters
    ----------
    estimator : estimator
        Not changed.
    state : dict
        Its state for pickling; changed in place.
    """
    store = state.get("store_backbone", "auto")
    model = state.get("model_")
    if model is None or store is True:
        return
    from .._models.lora import adapter_state, has_adapter
    from .._models.weights import own_weights

    if has_adapter(model):
        state["model_"] = adapter_state(model, state["_adapter"])
    elif store is False:
        try:
            base = _read_model(estimator, next(model.parameters()).dtype)
        except (ModelNotFoundError, ModelFormatError):
            return  # keep weights that cannot be loaded again
        state["model_"] = own_weights(model, base)
    else:
        return
    state.pop("_accelerated", None)


def read_base(estimator: Any) -> None:
    """Load the weights that a pickle leaves out.

    Parameters
    ----------
    estimator : estimator
        Changed in place if its weights were left out.

    Raises
    ------
    ModelNotFoundError
        If the checkpoint is no longer available.
    ModelFormatError
        If the weights of the checkpoint have changed.
    """
    if "model_" not in vars(estimator):
        return
    from .._hardware import devices as hardware
    from .._models.lora import AdapterState, restore_adapter
    from .._models.weights import OwnWeights, restore_weights

    own = estimator.model_
    with hardware.gradients_enabled():
        if isinstance(own, AdapterState):
            model = _read_model(estimator, hardware.weights_dtype(estimator.precision))
            restore_adapter(model, own, estimator.tokenizer_)
        elif isinstance(own, OwnWeights):
            model = _read_model(estimator, own.dtype)
            restore_weights(model, own, estimator.tokenizer_)
        elif any(parameter.is_inference() for parameter in own.parameters()):
            model = copy.deepcopy(own)  # unpickled in inference mode
        else:
            return
    estimator.model_ = model


def _read_model(estimator: Any, dtype: Any) -> Any:
    """Load the model of an estimator from its checkpoint, as in fit."""
    from .._hardware import devices as hardware
    from .._models.loading import find_checkpoint

    name, revision = estimator._checkpoint_name
    checkpoint = find_checkpoint(name, revision, estimator.trust_remote_code)
    with hardware.isolated_rng(0, hardware.resolve_device("cpu")):
        model = estimator._build(checkpoint, estimator._task, dtype)
    model.name_labels(estimator._task.label_names())
    return model.eval()
