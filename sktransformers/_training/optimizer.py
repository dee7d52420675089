"""Optimizer with parameter groups, and learning rate scheduler."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from .._hardware.vocabulary import compact_embeddings


def make_optimizer(
    body: nn.Module,
    head: nn.Module,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Create an AdamW optimizer for the trainable parameters.

    As usual for transformers, weight decay is applied to matrices but not to biases
    and normalization weights. It is decoupled (https://arxiv.org/abs/1711.05101).

    Parameters
    ----------
    body, head : nn.Module
        Pre-trained model and head. Parameters of ``body`` that belong to ``head`` too
        are treated as the head's.
    learning_rate, head_learning_rate : float
        Peak learning rates of the body and the head.
    weight_decay : float
        Weight decay of the matrices.

    Returns
    -------
    torch.optim.Optimizer
        Fused AdamW.
    """
    head_ids = {id(parameter) for parameter in head.parameters()}
    body_only = [p for p in body.parameters() if id(p) not in head_ids]
    groups = [
        {"params": params, "lr": rate, "weight_decay": decay}
        for parameters, rate in (
            (body_only, learning_rate),
            (head.parameters(), head_learning_rate),
        )
        for params, decay in _split_by_decay(parameters, weight_decay)
        if params
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _split_by_decay(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[tuple[list[nn.Parameter], float]]:
    trainable = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    return [(matrices, weight_decay), (vectors, 0.0)]


def moments_of(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    earlier: dict[str, dict[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the state of an optimizer by parameter name.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Optimizer of parameters of the model.
    model : nn.Module
        Model with the parameters.
    earlier : dict or None, default=None
        Moments that the optimizer started with. Token embeddings that are not trained
        keep theirs, or have moments of zero.

    Returns
    -------
    dict of str to dict
        Step and moments of each parameter that was trained.
    """
    named = model.named_parameters()
    moments = {name: optimizer.state[p] for name, p in named if p in optimizer.state}
    for name, table in compact_embeddings(model).items():
        known = (earlier or {}).get(name, {})
        moments[name] = {
            key: table.put(value, known.get(key)) if value.ndim else value
            for key, value in moments.get(name, {}).items()
        }
    return moments


def restore_moments(
    optimizer: torch.optim.Optimizer, model: nn.Module, moments: dict[str, Any]
) -> None:
    """Load the moments of an earlier optimizer but keep the current learning rates.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Modified in place. Parameters that were not trained before start without
        moments.
    model : nn.Module
        Model with the parameters.
    moments : dict
        Result of :func:`moments_of` for the earlier optimizer. Not modified.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    ordered = [
        names[id(p)] for group in optimizer.param_groups for p in group["params"]
    ]
    moments = copy.deepcopy(moments)
    for name, table in compact_embeddings(model).items():
        moments[name] = {
            key: table.take(value) if value.ndim else value
            for key, value in moments.get(name, {}).items()
        }
    state = {i: moments[name] for i, name in enumerate(ordered) if moments.get(name)}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def make_schedule(
    optimizer: torch.optim.Optimizer,
    kind: str,
    *,
    n_steps: int,
    warmup_ratio: float,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Create a learning rate scheduler.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Optimizer whose learning rates are scheduled.
    kind : str
        Name of a scheduler of :func:`transformers.get_scheduler`.
    n_steps : int
        Total number of optimizer steps.
    warmup_ratio : float
        Fraction of the steps used for linear warmup from 0.

    Returns
    -------
    torch.optim.lr_scheduler.LRScheduler
        Scheduler, to be stepped after each optimizer step.
    """
    return get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=round(warmup_ratio * n_steps),
        num_training_steps=n_steps,
    )
