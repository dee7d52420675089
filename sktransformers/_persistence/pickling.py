"""Pickle estimators without the weights that can be loaded again from the checkpoint.

Also validates the LoRA parameters.
"""

import copy
from dataclasses import dataclass
from typing import Any

from ..exceptions import ModelFormatError, ModelNotFoundError


@dataclass(frozen=True)
class PickledModel:
    """A model without the weights of its checkpoint.

    It describes how the model was built in fit, as the parameters of the estimator may
    have changed since.

    Attributes
    ----------
    description : ModelDescription
        Description of the model.
    has_remote_code : bool
        Whether the model runs custom code, which was trusted in fit.
    weights : AdapterState or OwnWeights
        Weights that differ from the checkpoint.
    """

    description: Any
    has_remote_code: bool
    weights: Any


def adapter_attributes(estimator: Any, *, warm_start: bool) -> dict[str, Any]:
    """Return the fitted attributes that describe the adapter.

    Parameters
    ----------
    estimator : estimator
        Not changed.
    warm_start : bool
        Whether the training continues with the fitted model, which keeps its adapter.

    Returns
    -------
    dict
        ``_adapter``, its settings or None, and ``_has_trained_base``, whether it is
        added to weights that are not those of the checkpoint.
    """
    if not warm_start:
        return {"_adapter": adapter_settings(estimator), "_has_trained_base": False}
    from .._models.lora import has_adapter

    if has_adapter(estimator.model_):
        names = "_adapter", "_has_trained_base"
        return {name: vars(estimator).get(name) for name in names}
    return {"_adapter": adapter_settings(estimator), "_has_trained_base": True}


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
    from .weights import describe_model, has_remote_code

    description, is_remote = describe_model(model), has_remote_code(estimator)
    weights: Any
    if has_adapter(model) and state.get("_has_trained_base"):
        return
    if has_adapter(model):
        weights = adapter_state(model, state["_adapter"])
    elif store is False:
        try:
            base = _build(estimator, description, is_remote)
        except (ModelNotFoundError, ModelFormatError):
            return  # keep weights that cannot be loaded again
        weights = own_weights(model, base)
    else:
        return
    state["model_"] = PickledModel(description, is_remote, weights)
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
    found = vars(estimator).get("model_")
    if found is None:
        return
    from .._hardware import devices as hardware
    from .._models.lora import AdapterState, restore_adapter
    from .._models.weights import restore_weights

    with hardware.gradients_enabled():
        if not isinstance(found, PickledModel):
            # Unpickled in inference mode, its tensors could not be trained.
            if any(parameter.is_inference() for parameter in found.parameters()):
                estimator.model_ = copy.deepcopy(found)
            return
        model = _build(estimator, found.description, found.has_remote_code)
        if isinstance(found.weights, AdapterState):
            restore_adapter(model, found.weights, estimator.tokenizer_)
        else:
            restore_weights(model, found.weights, estimator.tokenizer_)
    estimator.model_ = model


def _build(estimator: Any, description: Any, trust_remote_code: bool) -> Any:
    """Build the model of an estimator from its checkpoint, as in fit."""
    from .._hardware import devices as hardware
    from .._models.loading import find_checkpoint
    from .weights import build_described

    name, revision = estimator._checkpoint_name
    checkpoint = find_checkpoint(name, revision, trust_remote_code)
    with hardware.isolated_rng(0, hardware.resolve_device("cpu")):
        return build_described(checkpoint, description, estimator._task)
