"""What the checkpoints of a fit hold, and which fit they are of."""

import hashlib
from typing import Any

import numpy as np
import torch

from ._data import Data
from .engine import hardware
from .engine.checkpoints import Checkpoints
from .engine.training import BestWeights, Progress, Trainer
from .exceptions import CheckpointError

# What a fit does not depend on, or what may differ where it goes on.
_IRRELEVANT = {"checkpoint_dir", "device", "inference_precision", "memory", "verbose"}


class Resumption:
    """Lets a fit go on from its newest checkpoint, and writes more of them.

    Parameters
    ----------
    folder : path
        Of the checkpoints.
    estimator : estimator
        Whose hyper-parameters hold.
    data : Data
        All that is learned from, before any is held out.
    rng : numpy.random.Generator
        Source of all randomness; goes back to where the interrupted fit began.

    Raises
    ------
    CheckpointError
        The checkpoints are of other data or parameters.
    """

    def __init__(
        self, folder: Any, estimator: Any, data: Data, rng: np.random.Generator
    ) -> None:
        self.checkpoints = Checkpoints(folder, _identity(estimator, data))
        self._saved = self.checkpoints.newest()
        if self._saved is not None:
            rng.bit_generator.state = self._saved["rng_at_start"]
        self._rng_at_start = rng.bit_generator.state
        self._frozen: str | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._saved is not None

    def restore(
        self,
        trainer: Trainer,
        model: torch.nn.Module,
        best: BestWeights | None,
        rng: np.random.Generator,
    ) -> Progress:
        """Put the newest checkpoint, if any, into all that a training changes."""
        saved, self._saved = self._saved, None
        self._frozen = _hash_frozen(model)
        if saved is None:
            return Progress()
        if saved["frozen"] != self._frozen:
            raise CheckpointError(
                "The checkpoint is of a model with other weights in its frozen layers: "
                "the model has changed since. Delete the checkpoint to begin anew."
            )
        trained = dict(_trained(model))
        with torch.no_grad():
            for name, tensor in saved["weights"].items():
                trained[name].copy_(tensor)
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
        """Write a checkpoint, if it is time to; end the process, if it was asked to."""
        if not self.checkpoints.is_due():
            return
        state = {
            "rng_at_start": self._rng_at_start,
            "rng": rng_state,
            "torch_rng": hardware.rng_state(trainer.device),
            "frozen": self._frozen,
            "weights": dict(_trained(model)),
            "trainer": trainer.state_dict(),
            "best": None if best is None else best.state_dict(),
            "progress": vars(progress),
        }
        self.checkpoints.save(progress.n_steps, state)
        self.checkpoints.pass_on_termination()


def open_resumption(
    estimator: Any, data: Data, rng: np.random.Generator
) -> Resumption | None:
    """Return what a fit goes on from, if ``checkpoint_dir`` says where that is."""
    folder = estimator.checkpoint_dir
    return None if folder is None else Resumption(folder, estimator, data, rng)


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _hash_frozen(model: torch.nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            raw = parameter.detach().cpu().contiguous().view(torch.uint8)
            digest.update(name.encode())
            digest.update(raw.numpy().data)
    return digest.hexdigest()


def _identity(estimator: Any, data: Data) -> str:
    """Return a hash of what is learned from, and how."""
    params = estimator.get_params(deep=False)
    if not isinstance(params["random_state"], int):
        params["random_state"] = None  # the checkpoint has the state itself
    relevant = sorted((k, repr(v)) for k, v in params.items() if k not in _IRRELEVANT)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((type(estimator).__name__, relevant)).encode())
    encoding = data.encoding
    for array in (*_arrays_of(encoding), data.targets, data.weights):
        digest.update(repr((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays_of(encoding: Any) -> list[np.ndarray]:
    """Return all arrays that an encoding consists of."""
    found = []
    for value in vars(encoding).values():
        if isinstance(value, np.ndarray):
            found.append(value)
        elif hasattr(value, "offsets"):
            found += [value.values, value.offsets]
    return found
