"""Save and load LoRA adapters in the format of peft, with hashes of the base model."""

import hashlib
import re
from pathlib import Path
from typing import Any

from torch import nn

from .._json import write_json
from .._models.lora import (
    AdapterState,
    adapter_state,
    fingerprint,
    has_adapter,
    require_peft,
    restore_adapter,
)
from .._tasks import Task
from ..exceptions import ModelFormatError
from .state import Adapter
from .weights import (
    HEAD,
    ModelDescription,
    build_described,
    read_tensors,
    write_tensors,
)

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

_PEFT_KEY = re.compile(r"(\.lora_(embedding_)?[AB])(?=\.|$)")
_MODEL_KEY = re.compile(r"(\.lora_\w+)\.default\b")
_TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS"}


def describe_adapter(estimator: Any) -> Adapter | None:
    """Describe the adapter of an estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.

    Returns
    -------
    Adapter or None
        Description to save, or None if the model has no adapter.

    Raises
    ------
    ModelFormatError
        If the adapter was added to weights that would not be saved.
    """
    if not has_adapter(estimator.model_):
        return None
    if vars(estimator).get("_has_trained_base"):
        raise ModelFormatError(
            "The adapter was added to a model that had been trained before, by "
            "warm_start, and only the adapter would be saved. Call merge_adapter() "
            "first, or pickle the estimator."
        )
    return Adapter(
        settings=estimator._adapter,
        weights_hash=fingerprint(estimator.model_),
        vocabulary_hash=_hash_vocabulary(estimator.tokenizer_),
    )


def write_adapter(folder: Path, estimator: Any) -> None:
    """Write an adapter and its head in the format of peft.

    Parameters
    ----------
    folder : Path
        Directory to write to.
    estimator : estimator
        Fitted estimator with an adapter.
    """
    model = estimator.model_
    tensors = adapter_state(model, estimator._adapter).tensors
    if model.has_new_head:
        write_tensors(folder / HEAD, model.head.state_dict())
    names = {name: _name_for_peft(name, model) for name in tensors}
    write_tensors(
        folder / ADAPTER,
        {peft: tensors[name] for name, peft in names.items() if peft is not None},
    )
    write_json(folder / ADAPTER_CONFIG, _config_for_peft(estimator))


def read_adapter(
    folder: Path,
    checkpoint: Any,
    adapter: Adapter,
    description: ModelDescription,
    task: Task,
) -> Any:
    """Load an adapter into the base model that it was trained with.

    Parameters
    ----------
    folder : Path
        Directory of the adapter.
    checkpoint : PretrainedCheckpoint
        The base model.
    adapter : Adapter
        Description of the adapter.
    description : ModelDescription
        Description of the model.
    task : Task
        Task of the estimator.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        The model in evaluation mode.

    Raises
    ------
    ModelFormatError
        If the base model or its tokenizer has changed, or does not match the adapter.
    """
    require_peft()
    if _hash_vocabulary(checkpoint.tokenizer) != adapter.vocabulary_hash:
        raise ModelFormatError(
            f"{folder}: the adapter was trained with another tokenizer than "
            f"{checkpoint.name!r} has now. Provide the same version of the model."
        )
    model = build_described(checkpoint, description, task)
    tensors = {
        _name_from_peft(n, model): t for n, t in read_tensors(folder / ADAPTER).items()
    }
    if model.has_new_head:
        head = read_tensors(folder / HEAD)
        tensors |= {f"head.{name}": tensor for name, tensor in head.items()}
    state = AdapterState(adapter.settings, tensors, adapter.weights_hash)
    restore_adapter(model, state, checkpoint.tokenizer)
    expected = adapter_state(model, adapter.settings).tensors.keys()
    if tensors.keys() != expected:
        raise ModelFormatError(
            f"{folder / ADAPTER}: weights are missing "
            f"({sorted(expected - tensors.keys())[:3]}) or unexpected "
            f"({sorted(tensors.keys() - expected)[:3]})."
        )
    return model.eval()


def _name_from_peft(name: str, model: Any) -> str:
    prefix = "encoder." if model.has_new_head else "model."
    return prefix + _PEFT_KEY.sub(r"\1.default", name.removeprefix("base_model.model."))


def _name_for_peft(name: str, model: Any) -> str | None:
    """Return the name of a tensor in peft; None for a new head, which peft lacks."""
    prefix = "encoder." if model.has_new_head else "model."
    if not name.startswith(prefix):
        return None
    return "base_model.model." + _MODEL_KEY.sub(r"\1", name.removeprefix(prefix))


def _config_for_peft(estimator: Any) -> dict[str, Any]:
    from peft import LoraConfig

    model, settings = estimator.model_, estimator._adapter
    name, revision = estimator._checkpoint_name
    module: nn.Module = model.module
    task = None if model.has_new_head else _TASKS.get(estimator._task.head)
    if model.predicts_tokens:
        is_encoder_decoder = module.config.is_encoder_decoder
        task = "SEQ_2_SEQ_LM" if is_encoder_decoder else "CAUSAL_LM"
    layers = {n: m for n, m in module.named_modules() if hasattr(m, "get_base_layer")}
    below = None if model.has_new_head else model.encoder
    trained = [
        n for n, m in module.named_children() if m is not below and list(m.parameters())
    ]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(layers),
        fan_in_fan_out=any(
            getattr(m, "fan_in_fan_out", False) for m in layers.values()
        ),
        modules_to_save=None
        if task in (None, "CAUSAL_LM", "SEQ_2_SEQ_LM")
        else trained,
        task_type=task,
        base_model_name_or_path=str(name),
        revision=revision,
        inference_mode=True,
    )
    found = {k: getattr(v, "value", v) for k, v in config.to_dict().items()}
    return {k: sorted(v) if isinstance(v, set) else v for k, v in found.items()}


def _hash_vocabulary(tokenizer: Any) -> str:
    tokens = sorted(tokenizer.get_vocab().items())
    return hashlib.blake2b(repr(tokens).encode("utf-8", "surrogatepass")).hexdigest()[
        :32
    ]
