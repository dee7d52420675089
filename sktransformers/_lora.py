"""What an estimator's LoRA parameters ask for, and what its pickle leaves out."""

from typing import Any


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


def leave_out_base(state: dict[str, Any]) -> None:
    """Let a pickled state hold an adapter rather than the model that it is in.

    Parameters
    ----------
    state : dict
        Of an estimator; changed in place, if its model has an adapter.
    """
    if state.get("_adapter") is None or "model_" not in state:
        return
    from .models.adapters import adapter_state, has_adapter

    if has_adapter(state["model_"]):
        state["model_"] = adapter_state(state["model_"], state["_adapter"])
        state.pop("_accelerated", None)


def read_base(estimator: Any) -> None:
    """Read the model of a pickled adapter where the fit found it.

    Parameters
    ----------
    estimator : estimator
        Changed in place, if what it holds is an adapter.

    Raises
    ------
    ModelNotFoundError
        The model is not there any more.
    ModelFormatError
        It has other weights now.
    """
    if estimator.__dict__.get("_adapter") is None or "model_" not in vars(estimator):
        return
    from .engine import hardware
    from .models.adapters import AdapterState, restore_adapter
    from .models.loading import find_checkpoint

    state = estimator.model_
    if not isinstance(state, AdapterState):
        return
    checkpoint = find_checkpoint(*estimator._checkpoint_name)
    dtype = hardware.weights_dtype(estimator.precision)
    model = estimator._build(checkpoint, estimator._target, dtype)
    restore_adapter(model, state)
    estimator.model_ = model.eval()
