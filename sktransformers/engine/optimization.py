"""Parameter groups and the learning-rate schedule."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler


def make_optimizer(
    body: nn.Module,
    head: nn.Module,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Build AdamW over the parameters that train.

    Matrices decay; biases and normalization weights do not, as is usual for
    transformers. Weight decay is decoupled (https://arxiv.org/abs/1711.05101).

    Parameters
    ----------
    body, head : nn.Module
        The pre-trained part and the new part; each has its own learning rate.
    learning_rate, head_learning_rate : float
        Peak rates of the two parts.
    weight_decay : float
        Decay of the matrices.

    Returns
    -------
    torch.optim.Optimizer
        Fused where torch offers it.
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
    trained = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    return [(matrices, weight_decay), (vectors, 0.0)]


def restore_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on with the moments of an earlier optimizer, at this one's rates.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Changed in place; left as it is where other parameters train than before.
    state : dict
        The earlier one's ``state_dict()``; not changed.
    """
    groups = optimizer.state_dict()["param_groups"]
    if [len(g["params"]) for g in groups] == [
        len(g["params"]) for g in state["param_groups"]
    ]:
        moments = copy.deepcopy(state["state"])
        optimizer.load_state_dict({"state": moments, "param_groups": groups})


def make_schedule(
    optimizer: torch.optim.Optimizer,
    kind: str,
    *,
    n_steps: int,
    warmup_ratio: float,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the schedule of the learning rate.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose rates it changes.
    kind : str
        A name that :func:`transformers.get_scheduler` knows.
    n_steps : int
        Optimizer steps of the whole training.
    warmup_ratio : float
        Share of the steps in which the rate rises from 0.

    Returns
    -------
    torch.optim.lr_scheduler.LRScheduler
        To be stepped after each optimizer step.
    """
    return get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=round(warmup_ratio * n_steps),
        num_training_steps=n_steps,
    )
