"""Build the model for a task from a pre-trained checkpoint."""

import torch

from .._tasks import Task
from ..exceptions import HeadMismatchError
from .generative import load_generative
from .heads import ArchitectureModel, PooledModel, build, standardize_head
from .language_model import LanguageModel
from .loading import PretrainedCheckpoint


def build_model(
    checkpoint: PretrainedCheckpoint, task: Task, *, pooling: str, dtype: torch.dtype
) -> PooledModel | ArchitectureModel | LanguageModel:
    """Load a checkpoint as the model for a task.

    Parameters
    ----------
    checkpoint : PretrainedCheckpoint
        Checkpoint of the model.
    task : Task
        Task of the model.
    pooling : {"auto", "mean", "cls", "last", "head", "positions"}
        As in :func:`~sktransformers._models.heads.build`. Ignored by language models.
    dtype : torch.dtype
        Data type of the weights.

    Returns
    -------
    PooledModel, ArchitectureModel or LanguageModel
        The model, in evaluation mode.

    Raises
    ------
    HeadMismatchError
        If the task is regression, but the trained head of the checkpoint gives labels.
    """
    if task.head is None:
        return LanguageModel(load_generative(checkpoint, dtype)).eval()
    model = build(
        checkpoint,
        n_outputs=task.n_outputs,
        pooling=pooling,
        head=task.head,
        dtype=dtype,
    )
    if task.units is not None and not model.has_new_head:
        if checkpoint.has_trained_head(task.head):
            if task.from_config(checkpoint.config) is None:
                raise HeadMismatchError(
                    f"The trained head of {checkpoint.name!r} gives labels, not "
                    "numbers. Pass pooling='mean' (or 'cls', 'last') to put a new "
                    "head in its place."
                )
            standardize_head(model.head, *task.units)
        model.module.config.problem_type = task.problem_type
    return model
