"""Sampling of training batches as padded tensors."""

import functools

import numpy as np
import torch

from .._hardware.frozen import CachedFrozenLayers
from .._inference.predict import to_tensors
from .._text.batching import training_batches
from .._text.dataset import EncodedDataset
from .loop import Batch, MakeBatches


class EpochSampler:
    """Draw the training batches of each epoch.

    Parameters
    ----------
    data : EncodedDataset
        Training data.
    batch_size : int
        Number of rows per step.
    rng : numpy.random.Generator
        Random number generator for shuffling.
    batches_per_pool : int
        Number of batches whose rows are sorted by length together.
    device : torch.device
        Device of the tensors.
    dtype : torch.dtype
        Data type of the sample weights.
    cached : CachedFrozenLayers or None
        Model with cached frozen layers, if any. Its batches include the row indices
        as input ``rows``.

    Attributes
    ----------
    rng_state : dict
        State of ``rng`` before the current epoch was drawn.
    """

    def __init__(
        self,
        data: EncodedDataset,
        batch_size: int,
        rng: np.random.Generator,
        *,
        batches_per_pool: int,
        device: torch.device,
        dtype: torch.dtype,
        cached: CachedFrozenLayers | None,
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._rng = rng
        self._batches_per_pool = batches_per_pool
        self._device = device
        self._dtype = dtype
        self._has_cache = cached is not None
        self.rng_state = rng.bit_generator.state

    def draw(self) -> list[MakeBatches]:
        """Return the steps of an epoch, each a callable that makes its batches."""
        self.rng_state = self._rng.bit_generator.state
        batches = training_batches(
            self._data.encoding.lengths,
            self._batch_size,
            self._rng,
            pool=self._batches_per_pool,
        )
        return [functools.partial(self._make_step, rows) for rows in batches]

    def _make_step(self, rows: np.ndarray, n_parts: int) -> list[Batch]:
        # Normalize the loss by the expected number of outputs of a step. With the
        # actual number, each output would weigh more in a step of short rows.
        encoding = self._data.encoding
        n_outputs = len(rows) * encoding.n_outputs / len(encoding)
        return [
            self._make_batch(part, n_outputs)
            for part in np.array_split(rows, min(n_parts, len(rows)))
        ]

    def _make_batch(self, rows: np.ndarray, n_outputs_in_step: float) -> Batch:
        data = self._data
        outputs = data.encoding.outputs_of(rows)
        targets = data.targets[data.target_of_output[outputs]]
        weights = data.step_weights[outputs] / n_outputs_in_step
        inputs = to_tensors(data.encoding.pad(rows, few_widths=True), self._device)
        if self._has_cache:
            inputs["rows"] = torch.from_numpy(rows)
        return Batch(
            inputs,
            torch.from_numpy(targets).to(self._device),
            torch.from_numpy(weights).to(self._device, self._dtype),
            n_tokens=int(data.encoding.lengths[rows].sum()),
        )
