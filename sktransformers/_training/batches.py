"""Sampling of training batches as padded tensors."""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from .._inference.forward import to_tensors
from .._text.batching import training_batches
from .._text.dataset import EncodedDataset
from .loop import Batch, MakeBatches


@dataclass
class EpochSampler:
    """Draw the training batches of each epoch.

    Attributes
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
    with_rows : bool
        Whether the batches include the row indices as input ``rows``, for a model with
        cached frozen layers.
    rng_state : dict
        State of ``rng`` before the current epoch was drawn.
    """

    data: EncodedDataset
    batch_size: int
    rng: np.random.Generator
    batches_per_pool: int
    device: torch.device
    dtype: torch.dtype
    with_rows: bool

    def __post_init__(self) -> None:
        self.rng_state = self.rng.bit_generator.state

    def draw(self) -> list[MakeBatches]:
        """Return the steps of an epoch, each a callable that makes its batches."""
        self.rng_state = self.rng.bit_generator.state
        batches = training_batches(
            self.data.encoding.lengths,
            self.batch_size,
            self.rng,
            pool=self.batches_per_pool,
        )
        return [functools.partial(self._make_step, rows) for rows in batches]

    def _make_step(self, rows: np.ndarray, n_parts: int) -> list[Batch]:
        # Normalize the loss by the expected number of outputs of a step. With the
        # actual number, each output would weigh more in a step of short rows.
        encoding = self.data.encoding
        n_outputs = len(rows) * encoding.n_outputs / len(encoding)
        return [
            self._make_batch(batch, n_outputs)
            for part in np.array_split(rows, min(n_parts, len(rows)))
            for batch in encoding.split(part)
        ]

    def _make_batch(self, rows: np.ndarray, n_outputs_in_step: float) -> Batch:
        data = self.data
        outputs = data.encoding.outputs_of(rows)
        targets = data.targets[data.target_of_output[outputs]]
        weights = data.step_weights[outputs] / n_outputs_in_step
        inputs = to_tensors(data.encoding.pad(rows, few_widths=True), self.device)
        if self.with_rows:
            inputs["rows"] = torch.from_numpy(rows)
        return Batch(
            inputs,
            torch.from_numpy(targets).to(self.device),
            torch.from_numpy(weights).to(self.device, self.dtype),
            n_tokens=int(data.encoding.lengths[rows].sum()),
        )
