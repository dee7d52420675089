"""One fit: checked data and hyper-parameters in, fitted attributes out.

The estimator is read, never written to, so that a fit that fails or is interrupted
leaves it as it was.
"""

import copy
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._callbacks import FitMonitor
from ._compat import attention_implementation
from ._data import Data
from ._memory import memory_folder
from ._prediction import (
    embed,
    mark_frozen,
    predict_texts,
    source_of,
    to_tensors,
    token_losses,
)
from ._resuming import Resumption
from ._targets import Target
from .engine import hardware
from .engine.optimization import make_optimizer, make_schedule, restore_state
from .engine.start import start_head
from .engine.training import (
    Batch,
    BestWeights,
    MakeBatches,
    Progress,
    Trainer,
    train,
)
from .models.adapters import add_adapter, freeze_base, has_adapter
from .models.attention import set_attention, training_attention
from .models.dropout import set_fast_dropout
from .models.frozen import FrozenBottom, split_frozen
from .models.language import LanguageModel
from .models.loading import Checkpoint
from .models.modules import (
    ArchitectureModel,
    PooledModel,
    order_outputs,
    set_checkpointing,
    set_trainable,
)
from .models.vocabulary import compact_vocabulary, expand_vocabulary
from .text.batching import training_batches

Model = PooledModel | ArchitectureModel | LanguageModel

# Chosen by measurement, see docs/defaults.md.
_AUTO_STEPS_PER_ROOT = 10
_AUTO_LEAST_EPOCHS = 3


@dataclass
class Fit:
    """Everything one fit needs; :meth:`run` does it.

    Attributes
    ----------
    estimator : estimator
        Whose hyper-parameters hold.
    checkpoint : Checkpoint or None
        The pre-trained model; not needed to go on from a fitted one.
    target : Target
        What is learned.
    attributes : dict
        Fitted attributes that are known before the training.
    train_data, valid_data : Data
        The second may be None.
    rng : numpy.random.Generator
        Source of all randomness.
    previous : module or None
        A fitted model to go on from.
    one_epoch : bool
        Whether to train one epoch at a constant rate, to be gone on from.
    optimizer_state : dict or None
        State of the optimizer to go on from.
    resumption : Resumption or None
        Checkpoints of the fit.
    """

    estimator: Any
    checkpoint: Checkpoint | None
    target: Target
    attributes: dict[str, Any]
    train_data: Data
    valid_data: Data | None
    rng: np.random.Generator
    previous: Model | None
    one_epoch: bool
    optimizer_state: dict[str, Any] | None = None
    resumption: Resumption | None = None

    def run(self, callback_data: dict[str, Any]) -> dict[str, Any]:
        """Train and return the fitted attributes.

        Parameters
        ----------
        callback_data : dict
            X, y and metadata, as callbacks see them.

        Returns
        -------
        dict
            ``model_``, ``history_``, ``n_epochs_`` and the optimizer's state.
        """
        params = self.estimator
        self.device = hardware.resolve_device(params.device)
        self.precision = hardware.resolve_precision(params.precision, self.device)
        self.embeddings: np.ndarray | None = None
        with hardware.isolated_rng(int(self.rng.integers(2**63)), self.device):
            model = self._make_model()
            max_epochs = self._plan_epochs(model)
            context = params._init_callback_context(max_subtasks=max_epochs)
            context.call_on_fit_task_begin(estimator=params, **callback_data)
            trainer = self._make_trainer(model, max_epochs)
            best = self._make_best_weights(model)

            def fitted_attributes() -> dict[str, Any]:
                return {**self.attributes, "model_": model}

            evaluate = None if best is None else lambda: self._evaluate(model, best)
            monitor = FitMonitor(
                params, context, callback_data, fitted_attributes, evaluate
            )
            history = self._train(trainer, model, best, monitor, max_epochs)
        if best is not None:
            best.restore()
        model.zero_grad(set_to_none=True)
        self._prepare_for_use(model)
        mark_frozen(model, self._source(model))
        fitted = {
            **fitted_attributes(),
            "history_": history,
            "n_epochs_": len(history),
        }
        context.call_on_fit_task_end(
            estimator=params, reconstruction_attributes=fitted, **callback_data
        )
        if self.one_epoch:
            fitted["_optimizer_state"] = trainer.optimizer.state_dict()
        return fitted

    def _train(
        self,
        trainer: Trainer,
        model: Model,
        best: BestWeights | None,
        monitor: FitMonitor,
        max_epochs: int,
    ) -> list[dict[str, Any]]:
        """Train from the beginning, or from where a checkpoint was written."""
        resumption = self.resumption
        if resumption is None:
            return train(trainer, self._draw_epoch, monitor, max_epochs=max_epochs)
        progress = resumption.restore(trainer, model, best, self.rng)
        monitor.history += progress.history

        def keep(progress: Progress) -> None:
            # An epoch under way is drawn again, and its first steps are left out.
            rng = self.epoch_rng if progress.losses else self.rng.bit_generator.state
            resumption.keep(progress, trainer, model, best, rng)

        with resumption.checkpoints.watching():
            history = train(
                trainer,
                self._draw_epoch,
                monitor,
                max_epochs=max_epochs,
                progress=progress,
                keep=keep,
            )
        resumption.checkpoints.clear()
        return history

    def _make_model(self) -> Model:
        """Read the model and give its head a start, or copy the fitted one."""
        params = self.estimator
        dtype = hardware.weights_dtype(params.precision)
        if self.checkpoint is None:
            assert self.previous is not None
            model = copy.deepcopy(self.previous).to(self.device, dtype)
        else:
            model = params._build(self.checkpoint, self.target, dtype).to(self.device)
            if isinstance(model, PooledModel) and self._needs_start:
                self._start_head(model, is_final=self._plan_epochs(model) == 0)
            elif isinstance(model, ArchitectureModel):
                if self.checkpoint.has_trained_head(params._task):
                    self._match_labels(model)
                model.name_labels([str(label) for label in self.target.classes])
        self._prepare_for_training(model)
        return model

    def _prepare_for_training(self, model: Model) -> None:
        params, encoding = self.estimator, self.train_data.encoding
        set_trainable(model, params.trainable)
        settings = self.attributes["_adapter"]
        if has_adapter(model):
            freeze_base(model)
        elif settings is not None:
            add_adapter(model, settings)
        if params.gradient_checkpointing:
            set_checkpointing(model, active=True)
        self.attention = attention_implementation(model.encoder.config)
        set_attention(
            model,
            training_attention(model.encoder.config, self.device, encoding.lengths),
        )
        # A compiled model draws its masks in compiled code.
        is_on_cpu = self.device.type == "cpu"
        set_fast_dropout(model, active=is_on_cpu and not params.compile)
        is_writer = isinstance(model, LanguageModel)  # which predicts every token
        # What goes on from an optimizer's state needs all the rows that it has.
        if not (is_writer or self.one_epoch or self.optimizer_state is not None):
            ids = np.append(encoding.ids.values, encoding.pad_id)
            compact_vocabulary(model, model.encoder, ids)

    def _prepare_for_use(self, model: Model) -> None:
        """Undo what serves the training alone."""
        expand_vocabulary(model)
        set_fast_dropout(model, active=False)
        set_attention(model, self.attention)
        if self.estimator.gradient_checkpointing:
            set_checkpointing(model, active=False)

    @property
    def _needs_start(self) -> bool:
        """Whether the head's start, or what it is made from, will be used."""
        is_under_way = self.resumption is not None and self.resumption.is_under_way
        return not is_under_way or self.estimator.trainable == "head"

    def _start_head(self, model: PooledModel, *, is_final: bool) -> None:
        data = self.train_data
        precision = self.precision
        is_kept = self.estimator.trainable == "head"
        if is_final or is_kept:  # then it must suit the embeddings of prediction
            precision = hardware.inference_precision(
                precision, self.estimator.inference_precision
            )
        embeddings = embed(
            model,
            data.encoding,
            self.device,
            precision,
            # To go on bit by bit, the same is made again, whatever else is known.
            source=self._source(model) if is_kept and not self.resumption else None,
            memory=memory_folder(self.estimator),
        )
        if is_kept:
            self.embeddings = embeddings
        dtype = model.head.weight.dtype
        start_head(
            model.head,
            torch.from_numpy(embeddings).to(self.device, dtype),
            torch.from_numpy(data.targets[data.target_of_output]).to(self.device),
            torch.from_numpy(data.output_weights).to(self.device, dtype),
            self.target.loss,
            # Where training follows, a cautious start leaves it something to learn.
            penalty=self.target.penalties if is_final else self.target.start_penalty,
        )

    def _source(self, model: Model) -> str | None:
        """Say where the weights below the head are from, if none of them trains."""
        params = self.estimator
        is_frozen = params.trainable == "head" and params.lora_rank is None
        if not (is_frozen and isinstance(model, PooledModel)):
            return None
        if self.checkpoint is None:
            return None if self.previous is None else source_of(self.previous)
        return f"{self.checkpoint.identity} {model.pooling} {model.encoder.dtype}"

    def _match_labels(self, model: ArchitectureModel) -> None:
        """Put the trained head's outputs in the order of the classes."""
        names = [str(name) for _, name in sorted(model.model.config.id2label.items())]
        classes = [str(label) for label in self.target.classes.tolist()]
        exact = {name: i for i, name in enumerate(names)}
        lookup = {name.lower(): i for i, name in enumerate(names)}
        order = [exact.get(c, lookup.get(c.lower(), -1)) for c in classes]
        if sorted(order) == list(range(len(names))):
            order_outputs(model, order)
        elif self._plan_epochs(model) == 0 and classes != [
            str(i) for i in range(len(classes))
        ]:
            raise ValueError(
                "max_epochs=0 keeps the checkpoint's trained head, whose labels are "
                f"{names}, but y has {classes}. Rename the labels of y, number them "
                "from 0 in the checkpoint's order, or train at least one epoch."
            )

    def _plan_epochs(self, model: Model) -> int:
        """Turn "auto" into epochs: steps make a model good, not epochs."""
        if self.one_epoch:
            return 1
        if self.estimator.max_epochs != "auto":
            return int(self.estimator.max_epochs)
        is_new = self.checkpoint is not None and isinstance(model, PooledModel)
        if self.estimator.trainable == "head" and is_new:
            return 0  # the start is this problem's solution
        n_steps = _AUTO_STEPS_PER_ROOT * math.sqrt(len(self.train_data.encoding))
        return max(_AUTO_LEAST_EPOCHS, math.ceil(n_steps / self._n_steps_per_epoch))

    @property
    def _n_steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_data.encoding) / self.estimator.batch_size)

    def _make_trainer(self, model: Model, max_epochs: int) -> Trainer:
        params = self.estimator
        network = self._make_network(model, max_epochs)
        optimizer = make_optimizer(
            model,
            model.head,
            learning_rate=params.learning_rate,
            head_learning_rate=getattr(
                params, "head_learning_rate", params.learning_rate
            ),
            weight_decay=params.weight_decay,
        )
        if self.optimizer_state is not None:
            restore_state(optimizer, self.optimizer_state)
        schedule = make_schedule(
            optimizer,
            "constant" if self.one_epoch else params.lr_scheduler_type,
            n_steps=max_epochs * self._n_steps_per_epoch,
            warmup_ratio=params.warmup_ratio,
        )
        return Trainer(
            model=network,
            loss=self.target.loss,
            optimizer=optimizer,
            schedule=schedule,
            device=self.device,
            precision=self.precision,
            max_grad_norm=params.max_grad_norm,
            compile=params.compile,
            n_parts=params.gradient_accumulation_steps,
        )

    def _make_network(self, model: Model, max_epochs: int) -> torch.nn.Module:
        """Return what a step calls: the model, with a frozen bottom that runs once."""
        self.frozen: FrozenBottom | None = None
        if isinstance(model, LanguageModel):
            return model
        encoding = self.train_data.encoding
        by_length = np.argsort(encoding.lengths)
        sample = encoding.pad(by_length[[0, len(encoding) // 2]])
        self.frozen = split_frozen(
            model,
            to_tensors(sample, self.device),
            torch.from_numpy(encoding.lengths),
            torch.from_numpy(encoding.output_counts),
            keep=max_epochs > 1 and self.resumption is None,
        )
        if self.frozen is None:
            return model
        if self.embeddings is not None:
            self.frozen.remember(torch.from_numpy(self.embeddings))
        return self.frozen

    def _draw_epoch(self) -> list[MakeBatches]:
        self.epoch_rng = self.rng.bit_generator.state
        batches = training_batches(
            self.train_data.encoding.lengths,
            self.estimator.batch_size,
            self.rng,
            pool=self.estimator._batches_in_pool,
        )
        return [functools.partial(self._make_step, rows) for rows in batches]

    def _make_step(self, rows: np.ndarray, n_parts: int) -> list[Batch]:
        # As many outputs as so many rows have on average: divided by its own number, a
        # step of short rows would weigh each of its outputs more than one of long rows.
        encoding = self.train_data.encoding
        n_outputs = len(rows) * encoding.n_outputs / len(encoding)
        return [
            self._make_batch(part, n_outputs)
            for part in np.array_split(rows, min(n_parts, len(rows)))
        ]

    def _make_batch(self, rows: np.ndarray, n_outputs_in_step: float) -> Batch:
        data = self.train_data
        outputs = data.encoding.outputs_of(rows)
        targets = data.targets[data.target_of_output[outputs]]
        weights = data.step_weights[outputs] / n_outputs_in_step
        dtype = hardware.weights_dtype(self.precision)
        inputs = to_tensors(data.encoding.pad(rows, few_widths=True), self.device)
        if self.frozen is not None:
            inputs["rows"] = torch.from_numpy(rows)
        return Batch(
            inputs,
            torch.from_numpy(targets).to(self.device),
            torch.from_numpy(weights).to(self.device, dtype),
            n_tokens=int(data.encoding.lengths[rows].sum()),
        )

    def _make_best_weights(self, model: Model) -> BestWeights | None:
        if self.valid_data is None:
            return None
        return BestWeights(model, self.estimator.n_iter_no_change)

    def _evaluate(
        self, model: Model, best: BestWeights
    ) -> tuple[dict[str, float], bool]:
        """Score the held-out texts; say whether the scores stopped improving."""
        assert self.valid_data is not None
        data = self.valid_data
        if isinstance(model, LanguageModel):
            losses = token_losses(
                model, data.encoding, data.targets, self.device, self.precision
            )
            loss = float(np.average(losses, weights=data.weights))
            return {"valid_loss": loss}, best.update((-loss,))
        outputs = predict_texts(
            model, self.target, data.encoding, self.device, self.precision
        )
        losses = self.target.loss(
            torch.from_numpy(outputs), torch.from_numpy(data.targets)
        )
        loss = float(np.average(losses.numpy(), weights=data.weights))
        score = self.target.score(outputs, data.targets, data.weights, data.n_targets)
        scores = {"valid_loss": loss, "valid_score": score}
        return scores, best.update((score, -loss))
