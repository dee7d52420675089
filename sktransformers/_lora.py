"""What an estimator's LoRA parameters ask for, and what its pickle leaves out.

A pickle may leave out weights that are found again where the fit found them.
"""

from typing import Any

from .exceptions import ModelFormatError, ModelNotFoundError


def adapter_settings(estimator: Any) -> Any:
    """Return what ``lora_rank`` and its kin ask for.

    Parameters
    ----------
    estimator : estimator
        Only read.

    Returns
    -------
    AdapterSettings or None
        None where the weights themselves are trained.

    Raises
    ------
    ValueError
        ``trainable`` says otherwise.
    ImportError
        peft is not installed.
    """
    rank = estimator.lora_rank
    if rank is None:
        return None
    if estimator.trainable != "all":
        raise ValueError(
            f"trainable={estimator.trainable!r} and lora_rank={rank} both say what "
            "trains. Leave one of them at its default."
        )
    from .models.adapters import AdapterSettings, require_peft

    require_peft()
    alpha, targets = estimator.lora_alpha, estimator.lora_target_modules
    return AdapterSettings(
        rank,
        2 * rank if alpha is None else alpha,
        estimator.lora_dropout,
        list(targets) if isinstance(targets, tuple) else targets,
    )


def leave_out_base(estimator: Any, state: dict[str, Any]) -> None:
    """Let a pickled state hold only what its model has of its own, if so asked for.

    Parameters
    ----------
    estimator : estimator
        Only read.
    state : dict
        Its state; changed in place.
    """
    store = state.get("store_backbone", "auto")
    model = state.get("model_")
    if model is None or store is True:
        return
    from .models.adapters import adapter_state, has_adapter
    from .models.backbone import own_weights

    if has_adapter(model):
        state["model_"] = adapter_state(model, state["_adapter"])
    elif store is False:
        try:
            base = _read_model(estimator, next(model.parameters()).dtype)
        except (ModelNotFoundError, ModelFormatError):
            return  # what cannot be found again is not left out
        state["model_"] = own_weights(model, base)
    else:
        return
    state.pop("_accelerated", None)


def read_base(estimator: Any) -> None:
    """Read what a pickle leaves out where the fit found it.

    Parameters
    ----------
    estimator : estimator
        Changed in place, if its model was left out.

    Raises
    ------
    ModelNotFoundError
        The model is not there any more.
    ModelFormatError
        It has other weights now.
    """
    if "model_" not in vars(estimator):
        return
    from .engine import hardware
    from .models.adapters import AdapterState, restore_adapter
    from .models.backbone import OwnWeights, restore_weights

    own = estimator.model_
    if isinstance(own, AdapterState):
        model = _read_model(estimator, hardware.weights_dtype(estimator.precision))
        restore_adapter(model, own)
        estimator.model_ = model
    elif isinstance(own, OwnWeights):
        model = _read_model(estimator, own.dtype)
        restore_weights(model, own)
        estimator.model_ = model


def _read_model(estimator: Any, dtype: Any) -> Any:
    """Read an estimator's model from its checkpoint, as the fit did."""
    from .engine import hardware
    from .models.loading import find_checkpoint
    from .models.modules import ArchitectureModel

    name, revision = estimator._checkpoint_name
    checkpoint = find_checkpoint(name, revision, estimator.trust_remote_code)
    with hardware.isolated_rng(0, hardware.resolve_device("cpu")):
        model = estimator._build(checkpoint, estimator._target, dtype)
    if isinstance(model, ArchitectureModel):
        model.name_labels([str(label) for label in estimator._target.classes])
    return model.eval()
