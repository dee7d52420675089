"""Initialize a head with a linear model fitted on the frozen embeddings.

With a randomly initialized head, the first steps of fine-tuning distort the
pre-trained features (https://arxiv.org/abs/2202.10054). Linear probing avoids this at
the cost of one forward pass over the training data.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

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
    rows = (features - mean) / scale
    if not isinstance(penalty, float):
        penalty = _choose_penalty(
            rows, targets, weights, loss, head.out_features, penalty or _PENALTIES
        )
    solution = _solve(rows, targets, weights[None], loss, head.out_features, penalty)
    weight, bias = (tensor[0] for tensor in solution)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        if head.bias is not None:
            head.bias.copy_(bias - (weight / scale) @ mean)


def _choose_penalty(
    rows: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    loss: Loss,
    n_outputs: int,
    penalties: Sequence[float],
) -> float:
    """Return the penalty with the lowest cross-validated loss."""
    order = torch.randperm(len(rows))[:_MAX_CV_ROWS].to(rows.device)
    if len(order) < 2 * _N_FOLDS:
        return penalties[0]
    fold_of_row = torch.arange(len(order), device=rows.device) % _N_FOLDS
    folds = torch.arange(_N_FOLDS, device=rows.device)[:, None]
    test_weights = weights[order] * (fold_of_row == folds)
    train_weights = weights[order] - test_weights
    losses, solution = [], None
    for penalty in penalties:
        solution = _solve(
            rows[order],
            targets[order],
            train_weights,
            loss,
            n_outputs,
            penalty,
            start=solution,
        )
        with torch.no_grad():
            fold_losses = _losses(*solution, rows[order], targets[order], loss)
        losses.append(float((fold_losses * test_weights).sum()))
    return penalties[int(np.argmin(losses))]


def _solve(
    rows: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    loss: Loss,
    n_outputs: int,
    penalty: float,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit regularized linear models to the same rows, one for each weight vector.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features)
        Features.
    targets : Tensor of shape (n_rows, ...)
        Second argument of ``loss``.
    weights : Tensor of shape (n_models, n_rows)
        Sample weights for each model. The models are fitted together, which takes
        hardly longer than fitting one.
    loss : callable
        See :func:`init_head`.
    n_outputs : int
        Number of outputs of each model.
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
        shape = len(weights), n_outputs
        start = rows.new_zeros(*shape, rows.shape[1]), rows.new_zeros(*shape)
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
        data_term = (_losses(weight, bias, rows, targets, loss) * weights).sum(dim=1)
        penalty_term = penalty * weight.square().sum(dim=(1, 2))
        penalty_term = penalty_term + _BIAS_PENALTY * bias.square().sum(dim=1)
        value = ((data_term + penalty_term / 2) / totals).sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(objective)
    return weight.detach(), bias.detach()


def _losses(
    weight: torch.Tensor,
    bias: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    loss: Loss,
) -> torch.Tensor:
    """Return the losses of all models, of shape (n_models, n_rows)."""
    n_models = len(weight)
    outputs = rows @ weight.transpose(1, 2) + bias[:, None]
    repeated = targets.repeat(n_models, *[1] * (targets.ndim - 1))
    return loss(outputs.flatten(0, 1), repeated).view(n_models, len(rows))
