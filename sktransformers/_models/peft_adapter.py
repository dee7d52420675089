"""Checkpoints that peft saved: a LoRA adapter and the name of its base model."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from .._compat import model_class
from ..exceptions import ModelFormatError
from .files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, quiet

_LORA = re.compile(r"(.+)\.lora_(embedding_)?([AB])(\.weight)?")
_WRAPPER = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
# Initializations that leave the weights of the base model as they are.
_INITIALIZATIONS = (True, False, None, "gaussian", "orthogonal", "eva")


class AdapterConfig(msgspec.Struct):
    """The settings of an adapter that matter for predictions.

    Attributes
    ----------
    base_model_name_or_path : str
        Name of the base model.
    revision : str or None
        Its branch, tag or commit on the Hub.
    peft_type : str
        Kind of the adapter.
    task_type : str or None
        Kind of the head of the model, such as "SEQ_CLS".
    lora_alpha : float
        Scaling: the update is multiplied by ``lora_alpha / rank``, or with
        ``use_rslora`` by ``lora_alpha / sqrt(rank)``.
    use_rslora : bool
        See above.
    alpha_pattern : dict
        Other values of ``lora_alpha``, by regular expressions of layer names.
    use_dora : bool
        Whether there are magnitudes, too.
    init_lora_weights : bool, str or None
        Initialization; some change the weights of the base model.
    layer_replication : object
        Layers of the base model that are repeated.
    """

    base_model_name_or_path: str
    peft_type: str
    revision: str | None = None
    task_type: str | None = None
    lora_alpha: float = 8
    use_rslora: bool = False
    alpha_pattern: dict[str, float] | None = None
    use_dora: bool = False
    init_lora_weights: bool | str | None = True
    layer_replication: Any = None


class PeftAdapter:
    """A LoRA adapter.

    Parameters
    ----------
    folder : Path
        Directory with its configuration and weights.

    Attributes
    ----------
    config : AdapterConfig
        Its configuration.
    tensors : dict of str to Tensor
        Its weights, by the names of layers of the model that it was trained with.

    Raises
    ------
    ModelFormatError
        If a file cannot be read, or the adapter is of an unsupported kind.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            content = (folder / ADAPTER_CONFIG).read_bytes()
            self.config = msgspec.json.decode(content, type=AdapterConfig)
            found = _read(folder)
        except Exception as error:  # of msgspec, safetensors and torch
            raise ModelFormatError(
                f"The adapter in {str(folder)!r} cannot be read: {error}"
            ) from error
        self._require_supported(found)
        self.tensors = {
            _WRAPPER.sub("", name.removeprefix("base_model.model.")): tensor
            for name, tensor in found.items()
        }

    def _require_supported(self, names: Any) -> None:
        config = self.config
        others = [n for n in names if "lora_" in n and not _LORA.fullmatch(n)]
        unknown = {
            f"peft_type={config.peft_type!r}": config.peft_type != "LORA",
            "use_dora=True": config.use_dora,
            f"init_lora_weights={config.init_lora_weights!r}": (
                config.init_lora_weights not in _INITIALIZATIONS
            ),
            "layer_replication": bool(config.layer_replication),
            f"the weight {min(others, default='')!r}": bool(others),
        }
        for name, is_found in unknown.items():
            if is_found:
                raise ModelFormatError(
                    f"The adapter in {str(self.folder)!r} has {name}, which is not "
                    "supported: only LoRA is. Merge it into its base model with peft "
                    "(merge_and_unload) and save the model."
                )

    def adapt_config(self, config: Any, auto_classes: dict[str, Any]) -> Any:
        """Return the configuration of the base model with the head of the adapter.

        Parameters
        ----------
        config : PreTrainedConfig
            Configuration of the base model; not changed.
        auto_classes : dict of str to type
            Auto class for each ``task_type`` whose models have a head with labels.

        Returns
        -------
        PreTrainedConfig
            Configuration whose ``architectures`` and ``num_labels`` are those of the
            model that the adapter was trained with.
        """
        auto_class = auto_classes.get(self.config.task_type or "")
        kind = auto_class and model_class(auto_class, config)
        config = copy.deepcopy(config)
        if kind is None:
            return config
        sizes = [_sizes(kind, config, n_labels) for n_labels in (2, 3)]
        for name, size in sizes[0].items():
            if size != sizes[1][name] and name in self.tensors:
                config.architectures = [kind.__name__]
                n_labels = len(self.tensors[name])
                if config.num_labels != n_labels:
                    config.num_labels = n_labels  # replaces the names of the labels
        return config

    def merge_into(self, module: Any) -> set[str]:
        """Add the adapter to the weights of a model, and replace those saved with it.

        The model may have another head than the one that the adapter was trained with,
        or none. Weights of other heads are left out.

        Parameters
        ----------
        module : PreTrainedModel
            Modified in place.

        Returns
        -------
        set of str
            Names of the weights that were replaced.

        Raises
        ------
        ModelFormatError
            If the adapter does not match the model.
        """
        known = dict(module.named_parameters(remove_duplicate=False))
        known |= dict(module.named_buffers())
        replaced: set[str] = set()
        pairs: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in self.tensors.items():
            match = _LORA.fullmatch(name)
            if match is not None:
                pairs.setdefault(match[1], {})[match[3]] = tensor
                continue
            local = self._local_name(name, module, known)
            if local is not None:
                self._replace(module, name, known[local], tensor)
                replaced.add(local)
        for layer, pair in pairs.items():
            local = self._local_name(f"{layer}.weight", module, known)
            if local is not None and pair.keys() == {"A", "B"}:
                part = module.get_submodule(local.removesuffix(".weight"))
                self._add_update(module, layer, part, pair["A"], pair["B"])
            elif local is not None:
                raise ModelFormatError(f"{self.folder}: {layer} lacks a matrix.")
        return replaced

    def _local_name(
        self, name: str, module: Any, known: dict[str, torch.Tensor]
    ) -> str | None:
        """Return the name of a weight in a model; None for those of another head."""
        prefix = f"{module.base_model_prefix}."
        for local in (name, name.removeprefix(prefix), prefix + name):
            if local in known:
                return local
        trained_with_head = any(n.startswith(prefix) for n in self.tensors)
        if trained_with_head and not name.startswith(prefix):
            return None
        raise ModelFormatError(
            f"The adapter in {str(self.folder)!r} adapts {name}, which its base model "
            f"{self.config.base_model_name_or_path!r} lacks."
        )

    def _add_update(
        self, module: Any, name: str, layer: Any, a: torch.Tensor, b: torch.Tensor
    ) -> None:
        """Add the product of the matrices to the weights of a layer."""
        rank, alpha = len(a), self.config.lora_alpha
        for pattern, value in (self.config.alpha_pattern or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", name):
                alpha = value
                break
        scale = alpha / (math.sqrt(rank) if self.config.use_rslora else rank)
        weight = layer.weight
        update = (b.to(weight.dtype) @ a.to(weight.dtype)) * scale
        if isinstance(layer, (Conv1D, nn.Embedding)):
            update = update.T
        elif not isinstance(layer, nn.Linear):
            raise ModelFormatError(
                f"The adapter in {str(self.folder)!r} adapts {name}, a layer of type "
                f"{type(layer).__name__}, which is not supported."
            )
        if update.shape == weight.shape:
            update = weight.data + update
        self._replace(module, name, weight, update)

    def _replace(
        self, module: Any, name: str, weight: torch.Tensor, value: torch.Tensor
    ) -> None:
        """Set a weight that no other layer shares."""
        parameters = module.named_parameters(remove_duplicate=False)
        if sum(parameter is weight for _, parameter in parameters) > 1:
            raise ModelFormatError(
                f"The adapter in {str(self.folder)!r} adapts {name}, whose weights "
                "another layer shares, which is not supported."
            )
        if value.shape != weight.shape:
            raise ModelFormatError(
                f"The adapter in {str(self.folder)!r} does not match its base model: "
                f"{name} is of shape {tuple(value.shape)}, but {tuple(weight.shape)} "
                "in the model."
            )
        weight.data = value.to(weight.dtype)


def _read(folder: Path) -> dict[str, torch.Tensor]:
    safe, pickled = (folder / name for name in ADAPTER_WEIGHTS)
    if safe.is_file():
        return load_file(safe)
    return torch.load(pickled, map_location="cpu", weights_only=True)


def _sizes(kind: Any, config: Any, n_labels: int) -> dict[str, torch.Size]:
    """Return the shapes of the weights of an architecture for a number of labels."""
    config = copy.deepcopy(config)
    config.num_labels = n_labels
    with torch.device("meta"), quiet():
        model = kind(config)
    return {name: parameter.shape for name, parameter in model.named_parameters()}
