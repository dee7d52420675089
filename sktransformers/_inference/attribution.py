"""Integrated gradients: attributions of the tokens of a text."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from .._models.base import TextModel
from .._tasks import Task

_TOLERANCE = 0.02  # of the difference of the scores
_MAX_STEPS = 1024
_ROWS = 32  # rows of a forward and backward pass


class FixedEmbedding(nn.Module):
    """Input embeddings whose values for the current ids can be set.

    Parameters
    ----------
    embedding : nn.Module
        Embeddings of the model.
    """

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.ids: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def forward(self, ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the values that are set if the ids are those, else the embeddings."""
        # A decoder may embed other ids with the same table.
        if self.values is not None and ids is self.ids:
            return self.values
        return self.embedding(ids, *args, **kwargs)


class GradientExplainer:
    """Compute integrated gradients with captum.

    Parameters
    ----------
    model : TextModel
        Fitted model. Not modified: a copy that shares its weights is used.
    task : Task
        Task of the model.
    device : torch.device
        Device of the model.
    baseline_id : int
        Token id in place of each token in the baseline.

    Raises
    ------
    NotImplementedError
        If the input embeddings of the model cannot be reached.
    """

    def __init__(
        self, model: TextModel, task: Task, device: torch.device, baseline_id: int
    ) -> None:
        self._task = task
        self._device = device
        self._baseline_id = baseline_id
        self._model = _copy(model)
        embedding = self._model.encoder.get_input_embeddings()
        self._embedding = FixedEmbedding(embedding)
        self._model.encoder.set_input_embeddings(self._embedding)

    def attribute(
        self,
        inputs: dict[str, np.ndarray],
        is_token: np.ndarray,
        target: int,
        n_steps: int,
    ) -> tuple[np.ndarray, float, float]:
        """Return the attributions of the tokens of one text.

        Parameters
        ----------
        inputs : dict of str to ndarray of shape (n_windows, n_ids)
            Inputs of the model: the windows of the text.
        is_token : ndarray of shape (n_windows, n_ids)
            Whether each id is a token of the text, not a special token or padding.
        target : int
            Output to explain.
        n_steps : int
            Initial number of steps, doubled until the attributions add up.

        Returns
        -------
        attributions : ndarray of shape (n_windows, n_ids)
            Attribution of each id.
        score, baseline_score : float
            Score of the text, and without its tokens.
        """
        from captum.attr import IntegratedGradients

        tensors = {k: torch.from_numpy(v).to(self._device) for k, v in inputs.items()}
        ids = tensors.pop("input_ids")
        mask = torch.from_numpy(is_token).to(self._device)
        without = ids.masked_fill(mask, self._baseline_id)

        def score(embeddings: torch.Tensor) -> torch.Tensor:
            return self._score(embeddings, ids, tensors, target)

        with torch.no_grad():
            table = self._embedding.embedding
            start, end = table(without)[None], table(ids)[None]
            scores = score(torch.cat([end, start])).tolist()
        method = IntegratedGradients(score, multiply_by_inputs=True)
        tolerance = _TOLERANCE * abs(scores[0] - scores[1]) + 1e-6
        while True:
            with torch.enable_grad():
                values = method.attribute(
                    end,
                    baselines=start,
                    n_steps=n_steps,
                    internal_batch_size=max(1, _ROWS // len(ids)),
                )
            by_token = values[0].sum(dim=-1).double()
            error = abs(float(by_token.sum()) - (scores[0] - scores[1]))
            if error <= tolerance or n_steps >= _MAX_STEPS:
                return by_token.cpu().numpy(), scores[0], scores[1]
            n_steps *= 2

    def _score(
        self,
        embeddings: torch.Tensor,
        ids: torch.Tensor,
        others: dict[str, torch.Tensor],
        target: int,
    ) -> torch.Tensor:
        """Return the score of each version of the text, of shape (n_versions,)."""
        n_versions, n_windows = embeddings.shape[:2]
        self._embedding.ids = ids.repeat(n_versions, 1)
        self._embedding.values = embeddings.flatten(0, 1)
        outputs = self._model(
            input_ids=self._embedding.ids,
            **{name: value.repeat(n_versions, 1) for name, value in others.items()},
        )
        self._embedding.values = None
        return self._task.explained_score(
            outputs.float().unflatten(0, (n_versions, n_windows)), target
        )


def _copy(model: Any) -> Any:
    """Return a copy of a model in float32 that shares its weights if they are."""
    weights: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().float(), requires_grad=False)
        for p in model.parameters()
    }
    return copy.deepcopy(model, weights).eval()
