"""Initialize a head with a linear model fitted on the frozen embeddings.

With a randomly initialized head, the first steps of fine-tuning distort the
pre-trained features (https://arxiv.org/abs/2202.10054). Linear probing avoids this at
the cost of one forward pass over the training data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Coefficients = tuple[torch.Tensor, torch.Tensor]

_PENALTIES = (1.0, 0.1, 0.01)  # strongest first
_N_FOLDS = 5
_MAX_CV_ROWS = 1000
_MAX_ITERATIONS = 100
_BIAS_PENALTY = 1e-3  # keeps the bias finite for a label that all or no rows have


def init_head(
    head: nn.Linear,
    features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    loss: Loss,
    *,
    penalty: float | Sequence[float] | None = None,
) -> None:
    """Fit a linear head with L2 regularization on fixed features.

    Minimizes ``sum(weights * loss(W z + b, targets)) + penalty / 2 * ||W||^2`` by
    L-BFGS, where z are the features, centered and divided by a common scale. The
    solution is therefore invariant to the offset and scale of the embeddings.

    Parameters
    ----------
    head : nn.Linear
        Its parameters are overwritten.
    features : Tensor of shape (n_rows, n_features)
        Input of the head.
    targets : Tensor of shape (n_rows, ...)
        Second argument of ``loss``.
    weights : Tensor of shape (n_rows,)
        Sample weights. A weight of 2 is equivalent to repeating the row.
    loss : callable
        Takes outputs and targets, returns a loss for each row, of shape (n_rows,).
    penalty : float, sequence of float or None, default=None
        Strength of the L2 regularization. From a sequence, ordered from strongest to
        weakest, the value with the lowest cross-validated loss is chosen. None is
        equivalent to (1.0, 0.1, 0.01).
    """
    features, weights = features.to(head.weight.dtype), weights.to(head.weight.dtype)
    normalized = weights / weights.sum()
    mean = normalized @ features
    scale = (normalized @ (features - mean).square().sum(dim=1)).sqrt().clamp_min(1e-12)
    probe = _LinearProbe((features - mean) / scale, targets, loss, head.out_features)
    if not isinstance(penalty, float):
        penalty = _choose_penalty(probe, weights, penalty or _PENALTIES)
    weight, bias = (tensor[0] for tensor in probe.fit(weights[None], penalty))
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        if head.bias is not None:
            head.bias.copy_(bias - (weight / scale) @ mean)


@dataclass(frozen=True)
class _LinearProbe:
    """Regularized linear models on fixed features, fitted together.

    Attributes
    ----------
    rows : Tensor of shape (n_rows, n_features)
        Features.
    targets : Tensor of shape (n_rows, ...)
        Second argument of ``loss``.
    loss : callable
        See :func:`init_head`.
    n_outputs : int
        Number of outputs of each model.
    """

    rows: torch.Tensor
    targets: torch.Tensor
    loss: Loss
    n_outputs: int

    def take(self, rows: torch.Tensor) -> "_LinearProbe":
        """Return the same for the rows with the given indices."""
        return replace(self, rows=self.rows[rows], targets=self.targets[rows])

    def fit(
        self, weights: torch.Tensor, penalty: float, start: Coefficients | None = None
    ) -> Coefficients:
        """Fit a model for each weight vector.

        Parameters
        ----------
        weights : Tensor of shape (n_models, n_rows)
            Sample weights for each model. The models are fitted together, which takes
            hardly longer than fitting one.
        penalty : float
            Strength of the L2 regularization.
        start : tuple of Tensor or None, default=None
            Initial weights and biases. None starts from zeros.

        Returns
        -------
        weight : Tensor of shape (n_models, n_outputs, n_features)
            Coefficients of the models.
        bias : Tensor of shape (n_models, n_outputs)
            Intercepts of the models.
        """
        if start is None:
            bias = self.rows.new_zeros(len(weights), self.n_outputs)
            start = bias.new_zeros(*bias.shape, self.rows.shape[1]), bias
        weight, bias = (tensor.clone().requires_grad_() for tensor in start)
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=_MAX_ITERATIONS,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )
        totals = weights.sum(dim=1)

        def objective() -> torch.Tensor:
            solver.zero_grad()
            data_term = (self.losses(weight, bias) * weights).sum(dim=1)
            penalty_term = penalty * weight.square().sum(dim=(1, 2))
            penalty_term = penalty_term + _BIAS_PENALTY * bias.square().sum(dim=1)
            value = ((data_term + penalty_term / 2) / totals).sum()
            value.backward()
            return value

        with torch.enable_grad():
            solver.step(objective)
        return weight.detach(), bias.detach()

    def losses(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return the losses of all models, of shape (n_models, n_rows)."""
        n_models = len(weight)
        outputs = self.rows @ weight.transpose(1, 2) + bias[:, None]
        repeated = self.targets.repeat(n_models, *[1] * (self.targets.ndim - 1))
        losses = self.loss(outputs.flatten(0, 1), repeated)
        return losses.view(n_models, len(self.rows))


def _choose_penalty(
    probe: _LinearProbe, weights: torch.Tensor, penalties: Sequence[float]
) -> float:
    """Return the penalty with the lowest cross-validated loss."""
    device = weights.device
    order = torch.randperm(len(weights))[:_MAX_CV_ROWS].to(device)
    if len(order) < 2 * _N_FOLDS:
        return penalties[0]
    probe, weights = probe.take(order), weights[order]
    fold_of_row = torch.arange(len(order), device=device) % _N_FOLDS
    test_weights = weights * (
        fold_of_row == torch.arange(_N_FOLDS, device=device)[:, None]
    )
    losses, solution = [], None
    for penalty in penalties:
        solution = probe.fit(weights - test_weights, penalty, start=solution)
        with torch.no_grad():
            losses.append(float((probe.losses(*solution) * test_weights).sum()))
    return penalties[int(np.argmin(losses))]
