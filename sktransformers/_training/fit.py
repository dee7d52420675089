"""One fit: checked data and hyper-parameters in, fitted attributes out.

The estimator is only read, so that a fit that fails or is interrupted leaves an earlier
fit intact.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .._hardware import devices
from .._hardware.frozen import CachedFrozenLayers, cache_frozen_layers
from .._hardware.training import fast_training
from .._inference.batch_rules import with_rule
from .._inference.forward import to_tensors
from .._inference.memory import memory_folder
from .._inference.predict import (
    embed,
    mark_frozen,
    predict_texts,
    source_of,
    token_losses,
)
from .._models.embeddings import add_embeddings, require_embeddings
from .._models.heads import (
    ArchitectureModel,
    PooledModel,
    order_outputs,
    set_checkpointing,
    set_trainable,
    standardize_head,
)
from .._models.language_model import LanguageModel
from .._models.loading import PretrainedCheckpoint
from .._models.lora import add_adapter, freeze_base, has_adapter, require_used
from .._tasks import Task
from .._text.dataset import EncodedDataset
from ..exceptions import ModelFormatError
from .batches import EpochSampler
from .callbacks import FitMonitor
from .head_init import init_head
from .loop import BestWeights, Progress, Trainer, train
from .optimizer import make_optimizer, make_schedule, moments_of, restore_moments
from .resume import Resumption

Model = PooledModel | ArchitectureModel | LanguageModel

# max_epochs="auto", chosen by measurement: see docs/defaults.md.
_AUTO_STEPS_PER_ROOT = 10
_AUTO_MIN_EPOCHS = 3


@dataclass(frozen=True)
class FitInputs:
    """Everything that a fit depends on.

    Attributes
    ----------
    estimator : estimator
        Its hyper-parameters are read, and callbacks are given it.
    build : callable
        Takes a dtype and returns the pre-trained model with its head.
    checkpoint : PretrainedCheckpoint or None
        The pre-trained checkpoint. None: a warm start.
    task : Task
        What is predicted.
    attributes : dict
        Fitted attributes that are known before the training.
    train_data, valid_data : EncodedDataset
        Training and validation data; the second may be None.
    rng : numpy.random.Generator
        Source of all randomness.
    device : torch.device
        Where to train.
    precision : str
        Number format of the matrix products.
    batches_per_pool : int
        Number of batches that are sorted by length together.
    previous : nn.Module or None
        The fitted model of a warm start.
    one_epoch : bool
        Whether to train one epoch at a constant learning rate (``partial_fit``).
    optimizer_state : dict or None
        State of the optimizer to continue from, by parameter name.
    resumption : Resumption or None
        Training checkpoints to resume from and to write.
    """

    estimator: Any
    build: Callable[[torch.dtype], Model]
    checkpoint: PretrainedCheckpoint | None
    task: Task
    attributes: dict[str, Any]
    train_data: EncodedDataset
    valid_data: EncodedDataset | None
    rng: np.random.Generator
    device: torch.device
    precision: str
    batches_per_pool: int
    previous: Model | None = None
    one_epoch: bool = False
    optimizer_state: dict[str, Any] | None = None
    resumption: Resumption | None = None

    @property
    def n_steps_per_epoch(self) -> int:
        """Number of optimizer steps of an epoch."""
        return math.ceil(len(self.train_data.encoding) / self.estimator.batch_size)

    @property
    def trains(self) -> bool:
        """Whether the fit makes any optimizer step."""
        return self.one_epoch or self.estimator.max_epochs != 0


def fit_model(inputs: FitInputs, callback_data: dict[str, Any]) -> dict[str, Any]:
    """Train a model and return the fitted attributes.

    Parameters
    ----------
    inputs : FitInputs
        Data, hyper-parameters and model.
    callback_data : dict
        X, y and metadata, as callbacks are given them.

    Returns
    -------
    dict
        ``model_``, ``history_``, ``n_epochs_`` and the other fitted attributes; after
        ``one_epoch`` also the state of the optimizer.
    """
    estimator = inputs.estimator
    seed = int(inputs.rng.integers(2**63))
    with devices.gradients_enabled(), devices.isolated_rng(seed, inputs.device):
        model = _load_model(inputs)
        inputs = _with_rules(inputs, model)
        embeddings = _prepare_model(inputs, model)
        max_epochs = _count_epochs(inputs, model)
        context = estimator._init_callback_context(max_subtasks=max_epochs)
        context.call_on_fit_task_begin(estimator=estimator, **callback_data)
        fitted = {**inputs.attributes, "model_": model}
        with _fast_training(inputs, model):
            cached = _cache_frozen_layers(inputs, model, max_epochs, embeddings)
            best = None
            if inputs.valid_data is not None:
                best = BestWeights(model, estimator.n_iter_no_change)
            evaluate = None if best is None else lambda: _evaluate(inputs, model, best)
            monitor = FitMonitor(estimator, context, callback_data, fitted, evaluate)
            trainer = _make_trainer(inputs, model, cached or model, max_epochs)
            sampler = _make_sampler(inputs, cached)
            history = _train(inputs, trainer, sampler, model, best, monitor, max_epochs)
            if best is not None:
                best.restore()
            model.zero_grad(set_to_none=True)
            if inputs.one_epoch:
                moments = moments_of(trainer.optimizer, model, inputs.optimizer_state)
    if estimator.gradient_checkpointing:
        set_checkpointing(model, active=False)
    mark_frozen(model, _frozen_source(inputs, model))
    fitted |= {"history_": history, "n_epochs_": len(history)}
    context.call_on_fit_task_end(
        estimator=estimator, reconstruction_attributes=fitted, **callback_data
    )
    if inputs.one_epoch:
        fitted["_optimizer_state"] = moments
    return fitted


def _train(
    inputs: FitInputs,
    trainer: Trainer,
    sampler: EpochSampler,
    model: Model,
    best: BestWeights | None,
    monitor: FitMonitor,
    max_epochs: int,
) -> list[dict[str, Any]]:
    """Train from the beginning, or resume from a training checkpoint."""
    resumption, rng = inputs.resumption, inputs.rng
    if resumption is None:
        return train(trainer, sampler.draw, monitor, max_epochs=max_epochs)
    progress = resumption.restore(trainer, model, best, rng)
    monitor.history += progress.history

    def keep(progress: Progress) -> None:
        # Inside of an epoch, the epoch is drawn again and its first steps are skipped.
        state = sampler.rng_state if progress.losses else rng.bit_generator.state
        resumption.keep(progress, trainer, model, best, state)

    with resumption.checkpoints.watching():
        history = train(
            trainer,
            sampler.draw,
            monitor,
            max_epochs=max_epochs,
            progress=progress,
            keep=keep,
        )
    resumption.checkpoints.clear()
    return history


def _load_model(inputs: FitInputs) -> Model:
    """Return the pre-trained model, with an embedding for each token."""
    params = inputs.estimator
    dtype = devices.weights_dtype(params.precision)
    if inputs.checkpoint is None:
        assert inputs.previous is not None
        model = copy.deepcopy(inputs.previous).to(dtype)
    else:
        model = inputs.build(dtype)
    tokenizer, encoding = inputs.attributes["tokenizer_"], inputs.train_data.encoding
    if not inputs.trains:
        require_embeddings(model, tokenizer, encoding.all_ids)
    if inputs.trains or inputs.attributes["_adapter"] is not None:
        add_embeddings(model, tokenizer)
    return model.to(inputs.device)


def _with_rules(inputs: FitInputs, model: Model) -> FitInputs:
    """Find out which rows of the data may share a batch."""
    found = {}
    for name in ("train_data", "valid_data"):
        data = getattr(inputs, name)
        if data is not None:
            encoding = with_rule(model, data.encoding, inputs.device)
            found[name] = dataclasses.replace(data, encoding=encoding)
    return dataclasses.replace(inputs, **found)


def _prepare_model(inputs: FitInputs, model: Model) -> np.ndarray | None:
    """Prepare a model for training; return the embeddings if no layer below trains."""
    params, embeddings = inputs.estimator, None
    if inputs.checkpoint is not None:
        if model.has_new_head and _needs_head_init(inputs):
            embeddings = _init_head(inputs, model)
        elif not model.has_new_head:
            if inputs.checkpoint.has_trained_head(inputs.task.head):
                _match_labels(inputs, model)
                if inputs.trains and inputs.task.units is not None:
                    _match_units(inputs, model)
            model.name_labels(inputs.task.label_names())
    set_trainable(model, params.trainable)
    adapter = inputs.attributes["_adapter"]
    if has_adapter(model):
        freeze_base(model)
    elif adapter is not None:
        add_adapter(model, adapter)
        one = inputs.train_data.encoding.pad(np.array([0]))
        require_used(model, to_tensors(one, inputs.device))
    if params.gradient_checkpointing:
        set_checkpointing(model, active=True)
    return embeddings


def _match_units(inputs: FitInputs, model: Any) -> None:
    """Center a trained head that is less accurate than the mean of y."""
    data = inputs.train_data
    options = data.encoding, inputs.device, inputs.precision
    outputs = predict_texts(model, inputs.task, *options).astype(np.float64)
    errors = (outputs - data.targets) ** 2  # of standardized targets
    if (np.average(errors, axis=0, weights=data.weights) > 1).any():
        # Not scaled up, as a head of little use would only add noise.
        scale = np.maximum(outputs.std(axis=0), 1.0)
        standardize_head(model.head, outputs.mean(axis=0), scale)


def _needs_head_init(inputs: FitInputs) -> bool:
    """Whether an initialized head, or the embeddings computed for it, will be used."""
    is_resumed = inputs.resumption is not None and inputs.resumption.is_under_way
    return not is_resumed or inputs.estimator.trainable == "head"


def _init_head(inputs: FitInputs, model: PooledModel) -> np.ndarray | None:
    """Initialize a new head; return the embeddings if the encoder does not train."""
    data, params = inputs.train_data, inputs.estimator
    is_final = _count_epochs(inputs, model) == 0
    is_frozen = params.trainable == "head"
    precision = inputs.precision
    if is_final or is_frozen:  # the embeddings must be those of prediction
        precision = devices.inference_precision(precision, params.inference_precision)
    embeddings = embed(
        model,
        data.encoding,
        inputs.device,
        precision,
        # A resumed fit must be bit-equal, which cached embeddings are not.
        source=_frozen_source(inputs, model) if inputs.resumption is None else None,
        memory=memory_folder(params),
    )
    dtype = model.head.weight.dtype
    init_head(
        model.head,
        torch.from_numpy(embeddings).to(inputs.device, dtype),
        torch.from_numpy(data.targets[data.target_of_output]).to(inputs.device),
        torch.from_numpy(data.output_weights).to(inputs.device, dtype),
        inputs.task.loss,
        # Before further training a strong penalty leaves gradients to learn from.
        penalty=inputs.task.head_penalties if is_final else inputs.task.head_penalty,
    )
    return embeddings if is_frozen else None


def _frozen_source(inputs: FitInputs, model: Model) -> str | None:
    """Return what identifies the weights below the head, if none of them trains."""
    params = inputs.estimator
    is_frozen = params.trainable == "head" and params.lora_rank is None
    if not (is_frozen and model.has_new_head):
        return None
    if inputs.checkpoint is None:
        return None if inputs.previous is None else source_of(inputs.previous)
    return f"{inputs.checkpoint.identity} {model.pooling} {model.encoder.dtype}"


def _match_labels(inputs: FitInputs, model: Any) -> None:
    """Put the trained head's outputs in the order of the classes."""
    assert inputs.checkpoint is not None
    classes = inputs.task.label_names()
    needs_names = _count_epochs(inputs, model) == 0 and classes != [
        str(i) for i in range(len(classes))
    ]
    try:
        names = inputs.checkpoint.label_names
    except ModelFormatError:
        if needs_names:
            raise
        return
    exact = {name: i for i, name in enumerate(names)}
    lookup = {name.lower(): i for i, name in enumerate(names)}
    order = [exact.get(c, lookup.get(c.lower(), -1)) for c in classes]
    if sorted(order) == list(range(len(names))):
        order_outputs(model, order)
    elif needs_names:
        raise ValueError(
            "max_epochs=0 keeps the checkpoint's trained head, whose labels are "
            f"{names}, but y has {classes}. Rename the labels of y, number them "
            "from 0 in the checkpoint's order, or train at least one epoch."
        )


def _count_epochs(inputs: FitInputs, model: Model) -> int:
    """Return the number of epochs; "auto" aims at a number of optimizer steps."""
    params = inputs.estimator
    if inputs.one_epoch:
        return 1
    if params.max_epochs != "auto":
        return int(params.max_epochs)
    if params.trainable == "head" and model.has_new_head and inputs.checkpoint:
        return 0  # the initialization is the solution
    n_steps = _AUTO_STEPS_PER_ROOT * math.sqrt(len(inputs.train_data.encoding))
    return max(_AUTO_MIN_EPOCHS, math.ceil(n_steps / inputs.n_steps_per_epoch))


def _fast_training(
    inputs: FitInputs, model: Model
) -> contextlib.AbstractContextManager[None]:
    encoding, token_ids = inputs.train_data.encoding, None
    if not model.predicts_tokens:
        token_ids = encoding.all_ids
    return fast_training(
        model,
        inputs.device,
        encoding.lengths,
        token_ids,
        compile=inputs.estimator.compile,
    )


def _cache_frozen_layers(
    inputs: FitInputs, model: Model, max_epochs: int, embeddings: np.ndarray | None
) -> CachedFrozenLayers | None:
    """Return a model that runs its frozen layers once a row, if it has any."""
    if model.predicts_tokens:
        return None
    encoding = inputs.train_data.encoding
    by_length = np.argsort(encoding.lengths)
    sample = encoding.pad(encoding.split(by_length[[len(encoding) // 2, -1]])[0])
    cached = cache_frozen_layers(
        model,
        to_tensors(sample, inputs.device),
        torch.from_numpy(encoding.lengths),
        torch.from_numpy(encoding.output_counts),
        keep=max_epochs > 1 and inputs.resumption is None,
    )
    if cached is not None and embeddings is not None:
        cached.remember(torch.from_numpy(embeddings))
    return cached


def _make_sampler(inputs: FitInputs, cached: CachedFrozenLayers | None) -> EpochSampler:
    return EpochSampler(
        inputs.train_data,
        inputs.estimator.batch_size,
        inputs.rng,
        batches_per_pool=inputs.batches_per_pool,
        device=inputs.device,
        dtype=devices.weights_dtype(inputs.precision),
        with_rows=cached is not None,
    )


def _make_trainer(
    inputs: FitInputs, model: Model, network: torch.nn.Module, max_epochs: int
) -> Trainer:
    """Return what makes the steps: optimizer and schedule of a network.

    Parameters
    ----------
    inputs : FitInputs
        Hyper-parameters.
    model : nn.Module
        Whose parameters are trained.
    network : nn.Module
        What is called: the model, or the model with cached frozen layers.
    max_epochs : int
        Number of epochs that the schedule is for.

    Returns
    -------
    Trainer
        Ready for the first step.
    """
    params = inputs.estimator
    optimizer = make_optimizer(
        model,
        model.head,
        learning_rate=params.learning_rate,
        head_learning_rate=getattr(params, "head_learning_rate", params.learning_rate),
        weight_decay=params.weight_decay,
    )
    if inputs.optimizer_state is not None:
        restore_moments(optimizer, model, inputs.optimizer_state)
    schedule = make_schedule(
        optimizer,
        "constant" if inputs.one_epoch else params.lr_scheduler_type,
        n_steps=max_epochs * inputs.n_steps_per_epoch,
        warmup_ratio=params.warmup_ratio,
    )
    return Trainer(
        model=network,
        loss=inputs.task.loss,
        optimizer=optimizer,
        schedule=schedule,
        device=inputs.device,
        precision=inputs.precision,
        max_grad_norm=params.max_grad_norm,
        compile=params.compile,
        n_parts=params.gradient_accumulation_steps,
    )


def _evaluate(
    inputs: FitInputs, model: Any, best: BestWeights
) -> tuple[dict[str, float], bool]:
    """Score the validation data; return whether the scores stopped improving."""
    data, task = inputs.valid_data, inputs.task
    assert data is not None
    encoding, device, precision = data.encoding, inputs.device, inputs.precision
    if model.predicts_tokens:
        losses = token_losses(model, encoding, data.targets, device, precision)
        loss = float(np.average(losses, weights=data.weights))
        return {"valid_loss": loss}, best.update((-loss,))
    outputs = predict_texts(model, task, encoding, device, precision)
    losses = task.loss(torch.from_numpy(outputs), torch.from_numpy(data.targets))
    loss = float(np.average(losses.numpy(), weights=data.weights))
    score = task.score(outputs, data.targets, data.weights, data.n_targets)
    return {"valid_loss": loss, "valid_score": score}, best.update((score, -loss))
