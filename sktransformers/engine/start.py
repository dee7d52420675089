"""A head's starting point: the best linear model on the frozen embeddings.

A random head makes the first steps of fine-tuning undo what pre-training learned.
Started from this solution, which costs one forward pass over the training rows, the
first step already improves on a linear model. https://arxiv.org/abs/2202.10054 shows
why that keeps the features intact.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_PENALTIES = (1.0, 0.1, 0.01)  # strongest first
_N_FOLDS = 5
_MOST_ROWS = 1000  # that the penalty is chosen on
_MAX_ITERATIONS = 100
_BIAS_PENALTY = 1e-3  # lest it run off where a label is in all rows or in none


def start_head(
    head: nn.Linear,
    features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    loss: Loss,
    *,
    penalty: float | Sequence[float] | None = None,
) -> None:
    """Set a linear head to the regularized solution on fixed features.

    Minimizes ``sum(weights * loss(W z + b, targets)) + penalty / 2 * ||W||^2`` by
    L-BFGS, with z the features centred and divided by one scale, so that the solution
    depends neither on an encoder's offset nor on the size of its embeddings.

    Parameters
    ----------
    head : nn.Linear
        Overwritten.
    features : Tensor of shape (n_rows, n_features)
        What the head will be fed.
    targets : Tensor of shape (n_rows, ...)
        Second argument of ``loss``.
    weights : Tensor of shape (n_rows,)
        Weight of each row. A row of weight 2 counts as much as two rows.
    loss : callable
        From outputs and targets to a loss for each row, of shape (n_rows,).
    penalty : float, sequence of float or None, default=None
        Strength of the regularization. Of several, strongest first, the one with the
        least loss in cross-validation, which makes the head good as it is. None: of 1,
        0.1 and 0.01.
    """
    features, weights = features.to(head.weight.dtype), weights.to(head.weight.dtype)
    shares = weights / weights.sum()
    mean = shares @ features
    scale = (shares @ (features - mean).square().sum(dim=1)).sqrt().clamp_min(1e-12)
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


def standardize_head(head: nn.Module, mean: np.ndarray, scale: np.ndarray) -> None:
    """Let a trained head of any architecture give ``(output - mean) / scale``.

    Parameters
    ----------
    head : nn.Module
        Its last linear layer is changed in place; one without a bias gets one.
    mean, scale : ndarray of shape (n_outputs,)
        Of the numbers that the head was trained to give.
    """
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
    shift, factor = (torch.from_numpy(v).to(linear.weight) for v in (mean, 1 / scale))
    with torch.no_grad():
        if linear.bias is None:
            linear.bias = nn.Parameter(torch.zeros_like(shift))
        linear.bias.sub_(shift).mul_(factor)
        linear.weight.mul_(factor[:, None])


def _choose_penalty(
    rows: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    loss: Loss,
    n_outputs: int,
    penalties: Sequence[float],
) -> float:
    """Return the penalty with the least cross-validated loss."""
    order = torch.randperm(len(rows))[:_MOST_ROWS].to(rows.device)
    if len(order) < 2 * _N_FOLDS:
        return penalties[0]
    fold_of_row = torch.arange(len(order), device=rows.device) % _N_FOLDS
    folds = torch.arange(_N_FOLDS, device=rows.device)[:, None]
    held_out = weights[order] * (fold_of_row == folds)
    kept = weights[order] - held_out
    losses, solution = [], None
    for penalty in penalties:
        solution = _solve(
            rows[order],
            targets[order],
            kept,
            loss,
            n_outputs,
            penalty,
            start=solution,
        )
        with torch.no_grad():
            fold_losses = _losses(*solution, rows[order], targets[order], loss)
        losses.append(float((fold_losses * held_out).sum()))
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
    """Fit regularized linear models to the same rows, one for each set of weights.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features)
        Features.
    targets : Tensor of shape (n_rows, ...)
        Second argument of ``loss``.
    weights : Tensor of shape (n_models, n_rows)
        Weights of the rows for each model. The models are solved for together, which
        takes hardly longer than one of them.
    loss : callable
        As for :func:`start_head`.
    n_outputs : int
        Outputs of a model.
    penalty : float
        Strength of the regularization.
    start : tuple of Tensor or None, default=None
        Weights and biases to start from. None: zeros.

    Returns
    -------
    weight : Tensor of shape (n_models, n_outputs, n_features)
        Weights of the models.
    bias : Tensor of shape (n_models, n_outputs)
        Their biases.
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
        fit = (_losses(weight, bias, rows, targets, loss) * weights).sum(dim=1)
        size = penalty * weight.square().sum(dim=(1, 2))
        size = size + _BIAS_PENALTY * bias.square().sum(dim=1)
        value = ((fit + size / 2) / totals).sum()
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
