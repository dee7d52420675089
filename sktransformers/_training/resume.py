"""Save the state of a fit in training checkpoints, and resume from them."""

import hashlib
from typing import Any

import numpy as np
import torch

from .._hardware import devices as hardware
from .._models.weights import hash_tensors
from .._text.dataset import EncodedDataset
from ..exceptions import CheckpointError
from .checkpoints import TrainingCheckpoints
from .loop import BestWeights, Progress, Trainer, trained_tensors

# Parameters that may differ between the interrupted fit and the resumed one.
_IGNORED = {"checkpoint_dir", "device", "inference_precision", "memory", "verbose"}


class Resumption:
    """Resume a fit from its newest checkpoint and write further checkpoints.

    Parameters
    ----------
    folder : path
        Directory of the checkpoints.
    estimator : estimator
        Estimator being fitted.
    data : EncodedDataset
        Training data, before the validation set is split off.
    rng : numpy.random.Generator
        Random number generator of the fit. When resuming, reset to its state at the
        start of the interrupted fit.

    Raises
    ------
    CheckpointError
        If the checkpoints belong to a fit with other data or parameters.
    """

    def __init__(
        self,
        folder: Any,
        estimator: Any,
        data: EncodedDataset,
        rng: np.random.Generator,
    ) -> None:
        self.checkpoints = TrainingCheckpoints(folder, _identity(estimator, data))
        self._saved = self.checkpoints.newest()
        if self._saved is not None:
            rng.bit_generator.state = self._saved["rng_at_start"]
        self._rng_at_start = rng.bit_generator.state
        self._frozen: str | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self._saved is not None

    def restore(
        self,
        trainer: Trainer,
        model: torch.nn.Module,
        best: BestWeights | None,
        rng: np.random.Generator,
    ) -> Progress:
        """Load the newest checkpoint, if any; return the progress of the training."""
        saved, self._saved = self._saved, None
        self._frozen = _hash_frozen(model)
        if saved is None:
            return Progress()
        if saved["frozen"] != self._frozen:
            raise CheckpointError(
                "The weights of the frozen layers differ from those of the checkpoint: "
                "the pre-trained model has changed since the checkpoint was written. "
                "Delete the checkpoint to start the fit again."
            )
        tensors = trained_tensors(model)
        with torch.no_grad():
            for name, tensor in saved["weights"].items():
                tensors[name].copy_(tensor)
        trainer.load_state_dict(saved["trainer"])
        if best is not None:
            best.load_state_dict(saved["best"])
        rng.bit_generator.state = saved["rng"]
        hardware.set_rng_state(trainer.device, saved["torch_rng"])
        return Progress(**saved["progress"])

    def keep(
        self,
        progress: Progress,
        trainer: Trainer,
        model: torch.nn.Module,
        best: BestWeights | None,
        rng_state: Any,
    ) -> None:
        """Write a checkpoint if one is due; then raise a deferred SIGTERM, if any."""
        if not self.checkpoints.is_due():
            return
        state = {
            "rng_at_start": self._rng_at_start,
            "rng": rng_state,
            "torch_rng": hardware.rng_state(trainer.device),
            "frozen": self._frozen,
            "weights": trained_tensors(model),
            "trainer": trainer.state_dict(),
            "best": None if best is None else best.state_dict(),
            "progress": vars(progress),
        }
        self.checkpoints.save(progress.n_steps, state)
        self.checkpoints.raise_deferred_sigterm()


def open_resumption(
    estimator: Any, data: EncodedDataset, rng: np.random.Generator
) -> Resumption | None:
    """Return the resumption of a fit, or None if ``checkpoint_dir`` is None."""
    folder = estimator.checkpoint_dir
    return None if folder is None else Resumption(folder, estimator, data, rng)


def _hash_frozen(model: torch.nn.Module) -> str:
    """Return a hash of the weights that do not train."""
    return hash_tensors(
        (name, p) for name, p in model.named_parameters() if not p.requires_grad
    )


def _identity(estimator: Any, data: EncodedDataset) -> str:
    """Return a hash of the training data and the estimator's parameters."""
    params = estimator.get_params(deep=False)
    if not isinstance(params["random_state"], int):
        params["random_state"] = None  # its state is in the checkpoint
    relevant = sorted((k, repr(v)) for k, v in params.items() if k not in _IGNORED)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((type(estimator).__name__, relevant)).encode())
    encoding = data.encoding
    for array in (*_arrays_of(encoding), data.targets, data.weights):
        digest.update(repr((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays_of(encoding: Any) -> list[np.ndarray]:
    """Return all arrays of an encoding."""
    found = []
    for value in vars(encoding).values():
        if isinstance(value, np.ndarray):
            found.append(value)
        elif hasattr(value, "offsets"):
            found += [value.values, value.offsets]
    return found
