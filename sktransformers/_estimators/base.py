"""Base class of the estimators: the steps of ``fit``, saving, tags and pickling.

A subclass defines its constructor and the type of y (``_check_y``, ``_make_task``).
Keep this class small: tokenization belongs in :mod:`sktransformers._text`, models in
:mod:`sktransformers._models` and training in :mod:`sktransformers._training`.
"""

import copy
import dataclasses
import functools
from abc import ABCMeta, abstractmethod
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._compat import check_feature_names, get_feature_names, table_of_fitted_attributes
from .._inference.memory import memory_folder
from .._persistence.pickling import adapter_attributes, leave_out_base, read_base
from .._tasks import Task
from .._text.dataset import EncodedDataset, make_rng, seen_by_callbacks, split, weigh
from .._text.inputs import Inputs, check_texts
from .._training.callbacks import progress_bar
from .._warnings import warn
from ..exceptions import (
    DroppedTextWarning,
    TextValueError,
    TruncationWarning,
)
from .parameters import SHARED
from .representation import describe_attributes

if TYPE_CHECKING:
    from .._text.encoding import Encoding
    from .._text.ragged import Ragged
    from .._text.tokenization import SpecialTokens

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class BaseTextEstimator(CallbackSupportMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of the estimators.

    See :class:`TransformerClassifier` for the parameters.
    """

    _parameter_constraints: dict[str, Any] = SHARED

    _inputs = "texts"
    _default_max_length = 512
    _truncation_advice = " Pass long_text='window' to use the whole texts."

    # Number of batches whose texts are sorted by length together.
    _batches_per_pool = 50

    @abstractmethod
    def _check_y(self, y: Any) -> np.ndarray:
        """Check y and return it as an array."""

    @abstractmethod
    def _make_task(self, y: np.ndarray, sample_weight: Any) -> Task:
        """Return the task for the values that ``_check_y`` returns."""

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        task: Task | None = None,
        warm_start: bool = False,
        one_epoch: bool = False,
    ) -> Self:
        """Validate the input, train, and set the fitted attributes.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As passed to ``fit``.
        task : Task or None
            If None, it is that of the fitted model, or else made from y.
        warm_start : bool
            Whether to start from the fitted model.
        one_epoch : bool
            Whether to train for one epoch at a constant learning rate, as in
            ``partial_fit``.
        """
        texts, kept, task, targets, weights = self._check(
            X, y, sample_weight, task, warm_start=warm_start
        )
        # Imported after the validation, so that invalid input fails fast.
        from .._hardware import devices
        from .._models.loading import find_checkpoint
        from .._training.fit import FitInputs, fit_model
        from .._training.resume import open_resumption

        location = self.model, self.revision, self.trust_remote_code
        checkpoint = None if warm_start else find_checkpoint(*location)
        limit = self._length_limit if checkpoint is None else checkpoint.max_length
        data, found = self._make_data(
            texts, targets, weights, task, checkpoint=checkpoint, limit=limit
        )
        self._warn_of_lost_text(data.encoding)
        rng, valid = self._make_rng(), None
        resumption = None if one_epoch else open_resumption(self, data, rng)
        trained: np.ndarray | None = None
        if self.early_stopping and not one_epoch:
            rows, held_out = split(data, self.validation_fraction, rng)
            data, valid = data.take(rows), data.take(held_out)
            trained = kept[rows]
        device = devices.resolve_device(self.device)
        inputs = FitInputs(
            estimator=self,
            build=functools.partial(self._build, checkpoint, task),
            checkpoint=checkpoint,
            task=task,
            attributes=self._known_attributes(texts, task, limit, warm_start) | found,
            train_data=data,
            valid_data=valid,
            rng=rng,
            device=device,
            precision=devices.resolve_precision(self.precision, device),
            batches_per_pool=self._batches_per_pool,
            previous=self.model_ if warm_start else None,
            one_epoch=one_epoch,
            optimizer_state=vars(self).get("_optimizer_state") if warm_start else None,
            resumption=resumption,
        )
        with progress_bar(self):
            callback_data = seen_by_callbacks(X, y, sample_weight, trained)
            fitted = fit_model(inputs, callback_data)
        return self._set_fitted_attributes(fitted)

    def _known_attributes(
        self, texts: Inputs, task: Task, limit: int, warm_start: bool
    ) -> dict[str, Any]:
        """Return the fitted attributes that do not depend on the training."""
        location = self.model, self.revision
        return {
            "_length_limit": limit,
            "_n_texts": len(texts),
            "_task": task,
            **adapter_attributes(self, warm_start=warm_start),
            "_checkpoint_name": self._checkpoint_name if warm_start else location,
            **self._attributes_of(texts),
        }

    def _check(
        self, X: Any, y: Any, sample_weight: Any, task: Any, *, warm_start: bool
    ) -> tuple[Any, np.ndarray, Any, np.ndarray, np.ndarray]:
        """Validate the training data and drop texts with weight zero."""
        texts = self._check_texts(X) if warm_start else self._check_X(X)
        labels = self._check_y(y)
        self._check_lengths(texts, labels)
        if task is None:
            task = self._task if warm_start else self._make_task(labels, sample_weight)
        kept, targets, weights = weigh(
            labels, task, sample_weight, getattr(self, "class_weight", None)
        )
        if len(kept) < len(texts):
            texts = texts.take(kept)
        return texts, kept, task, targets, weights

    def _set_fitted_attributes(self, fitted: dict[str, Any]) -> Self:
        """Replace the fitted attributes with those of a successful fit."""
        optional = ("n_features_in_", "feature_names_in_")
        for name in (*optional, "_optimizer_state", "_accelerated"):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted)
        return self

    def _make_data(
        self,
        texts: Any,
        targets: np.ndarray,
        weights: np.ndarray,
        task: Task,
        *,
        checkpoint: Any,
        limit: int,
    ) -> tuple[EncodedDataset, dict[str, Any]]:
        """Tokenize the training data; return it with fitted attributes."""
        if checkpoint is None:
            tokenizer, config = self.tokenizer_, self.model_.module.config
        else:
            tokenizer, config = checkpoint.tokenizer, checkpoint.config
        encoding = self._encode(texts, tokenizer, config, limit)
        found = {"tokenizer_": tokenizer, "n_truncated_": encoding.n_truncated}
        return EncodedDataset(encoding, targets, weights), found

    def _build(self, checkpoint: Any, task: Task, dtype: Any) -> Any:
        """Load the model to fine-tune."""
        from .._models.building import build_model

        pooling = self._pooling_of(checkpoint, task)
        return build_model(checkpoint, task, pooling=pooling, dtype=dtype)

    def _make_rng(self) -> np.random.Generator:
        return make_rng(self.random_state)

    def _attributes_of(self, texts: Inputs) -> dict[str, Any]:
        """Return the fitted attributes that describe the columns of X."""
        # Not n_features_in_ alone: callbacks get a copy of the estimator that still has
        # the public attributes of a previous fit.
        return {"_n_columns": texts.n_columns, **texts.fitted_attributes()}

    def _encode(
        self, texts: Any, tokenizer: Any, config: Any, limit: int
    ) -> "Encoding":
        """Tokenize texts and apply `long_text` and `max_length`."""
        from .._models.token_types import special_tokens_of
        from .._text.tokenization import count_dropped, tokenize

        special = special_tokens_of(tokenizer, config, texts.n_columns)
        columns = [tokenize(tokenizer, column) for column in texts.columns]
        encoding = self._arrange(columns, special, limit, tokenizer.truncation_side)
        pairs = zip(texts.columns, columns, strict=True)
        n_dropped = sum(count_dropped(column, ids.lengths) for column, ids in pairs)
        return dataclasses.replace(encoding, n_dropped=n_dropped)

    def _arrange(
        self,
        columns: "list[Ragged]",
        special: "SpecialTokens",
        limit: int,
        truncation_side: str,
    ) -> "Encoding":
        """Join columns of token ids and apply `long_text` and `max_length`."""
        from .._text.encoding import encode, require_fitting

        least = special.count(len(columns)) + len(columns)
        max_length = self._check_max_length(least, limit)
        if self.long_text == "error":
            require_fitting(columns, special, max_length)
        return encode(
            columns,
            special,
            max_length=max_length,
            window=self.long_text == "window",
            truncation_side=truncation_side,
        )

    def _check_max_length(self, least: int, limit: int) -> int:
        """Validate `max_length` and return it, or its default."""
        max_length = self.max_length or min(limit, self._default_max_length)
        if not least <= max_length <= limit:
            raise ValueError(
                f"max_length={max_length} must be between {least} (the special tokens "
                f"and one of each text) and {limit}, the limit of the model."
            )
        return int(max_length)

    def _warn_of_lost_text(self, encoding: "Encoding", known: int = 0) -> None:
        """Warn of what was truncated (unless fit has, ``known`` texts) or dropped."""
        if encoding.n_dropped:
            warn(
                f"The tokenizer drops all characters of {encoding.n_dropped} "
                f"{self._inputs}, which are predicted like empty ones. Pass a model "
                "whose vocabulary has these characters.",
                DroppedTextWarning,
            )
        if encoding.n_truncated and not known:
            warn(
                f"{encoding.n_truncated} of {encoding.n_texts} texts were longer than "
                f"max_length tokens and were truncated.{self._truncation_advice}",
                TruncationWarning,
            )

    def _check_X(self, X: Any) -> Inputs:
        """Validate X independently of the fitted attributes."""
        return check_texts(X)

    def _check_lengths(self, texts: Any, labels: np.ndarray) -> None:
        """Check that X and y have consistent lengths."""
        check_consistent_length(texts, labels)

    def _pooling_of(self, checkpoint: Any, task: Task) -> str:
        """Return the pooling method."""
        return getattr(self, "pooling", "auto")

    def _check_texts(self, X: Any) -> Any:
        """Validate X and compare its columns with those seen during fit."""
        # Names first, as columns not seen during fit may not contain texts.
        if hasattr(self, "feature_names_in_"):
            try:
                if get_feature_names(X) is not None:
                    check_feature_names(self, X, reset=False)
            except (TypeError, ValueError) as error:
                raise TextValueError(str(error)) from None
        texts = self._check_X(X)
        expected = self._n_columns
        if texts.n_columns != expected:
            raise TextValueError(
                f"X has {texts.n_columns} features, but {type(self).__name__} is "
                f"expecting {expected} features as input: text columns, as in fit."
            )
        return texts

    def _encode_fitted(self, X: Any) -> "Encoding":
        """Validate and tokenize X for prediction."""
        if "model_" not in vars(self):  # check_is_fitted is slow for single texts
            check_is_fitted(self)
        texts = self._check_texts(X)
        config = self.model_.module.config
        encoding = self._encode(texts, self.tokenizer_, config, self._length_limit)
        self._warn_of_lost_text(encoding, known=self.n_truncated_)
        self._require_embeddings([encoding.all_ids])
        return encoding

    def _require_embeddings(self, rows: Any) -> None:
        """Check that the model has embeddings of all token ids in a list of arrays."""
        from .._models.embeddings import require_embeddings

        require_embeddings(self.model_, self.tokenizer_, np.concatenate(rows))

    def merge_adapter(self) -> Self:
        """Merge the LoRA adapter into the weights of the model.

        Predictions are the same up to rounding, and as fast as without an adapter.
        Pickles then include all weights.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the model has no adapter.
        """
        check_is_fitted(self)
        from .._hardware import devices as hardware
        from .._models.lora import has_adapter, merge_adapter

        if not has_adapter(self.model_):
            raise ValueError(
                "The model has no adapter to merge: it was fitted without lora_rank, "
                "or merged before."
            )
        with hardware.gradients_enabled():
            merge_adapter(self.model_)
        self.__dict__.pop("_accelerated", None)
        return self

    def accelerate_inference(self, backend: str | None) -> Self:
        """Set the inference backend: a runtime optimized for CPUs, or torch.

        The fitted model is converted in memory, and its outputs are compared with those
        of torch on a few texts. All prediction methods then use the backend until the
        next ``fit``. Copies and pickles keep it, and convert the model again at their
        first prediction. If `device` or `inference_precision` are changed, torch is
        used again.

        Parameters
        ----------
        backend : {"openvino", "onnx"} or None
            Inference backend:

            - "openvino": OpenVINO, in float32 or, with
              ``inference_precision="bfloat16"``, faster and less accurate;
            - "onnx": ONNX Runtime, in float32;
            - None: torch.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ImportError
            If the runtime is not installed.
        ValueError
            If the backend is unknown or does not support `inference_precision`, if
            `device` is not the CPU, or if the estimator generates text, for which the
            backends have no key-value cache.
        RuntimeError
            If the model cannot be converted, or its outputs differ from those of torch
            by more than 0.001 (in bfloat16, 0.2). The estimator is unchanged.
        """
        check_is_fitted(self)
        accelerated = None
        if backend is not None and self._task.head is None:
            raise ValueError(
                f"accelerate_inference({backend!r}) is not supported for generation: "
                "the backends have no key-value cache. Pass None, or set "
                "inference_precision='bfloat16'."
            )
        if backend is not None:
            from .._hardware import devices as hardware
            from .._inference.predict import accelerate

            accelerated = accelerate(
                self.model_,
                backend,
                hardware.resolve_device(self.device),
                hardware.inference_precision(self.precision, self.inference_precision),
                self.tokenizer_,
                self._n_columns,
                self._length_limit,
                at_positions=self._task.predicts_words,
            )
        self._accelerated = accelerated
        return self

    def save_pretrained(
        self, directory: str | PathLike[str], *, overwrite: bool = False
    ) -> Self:
        """Save the fitted estimator to a directory that transformers can load, too.

        Weights are saved in safetensors format and everything else in JSON, so that
        loading executes no code. The directory is written atomically. With `lora_rank`,
        only the adapter and the name of its base model are saved.

        Parameters
        ----------
        directory : str or path
            Directory to save to. It is created if it does not exist.
        overwrite : bool, default=False
            Whether to replace an estimator that was saved there before. Other files are
            never replaced.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ModelSaveError
            If the directory is not empty or cannot be written. Its content is not
            changed.
        ModelFormatError
            If a parameter or a label cannot be saved as JSON, such as a RandomState.
        """
        from .._persistence import save

        save(self, directory, overwrite=overwrite)
        return self

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike[str],
        *,
        revision: str | None = None,
        device: str | None = None,
        n_columns: int = 1,
    ) -> Self:
        """Load a fitted estimator, or a fine-tuned checkpoint of another library.

        An estimator saved with ``save_pretrained`` gives the same predictions after
        loading. Any other checkpoint must have a trained head for the task of the
        estimator; its label names become the classes. Default label names (LABEL_0 and
        so on) become integers.

        Parameters
        ----------
        model : str or path
            A local directory or the id of a model on the Hugging Face Hub.
        revision : str, default=None
            Branch, tag or commit hash on the Hub. If None, "main" is used.
        device : str, default=None
            Value of the parameter `device`. If None, the saved value, or "auto" for
            other checkpoints.
        n_columns : int, default=1
            Number of text columns of X, such as 2 for a model of text pairs. Ignored
            for an estimator saved with ``save_pretrained``.

        Returns
        -------
        estimator
            The fitted estimator.

        Raises
        ------
        ModelNotFoundError
            If the model is found neither locally nor on the Hub.
        ModelFormatError
            If a file is missing, damaged or not allowed, if the directory was saved by
            another estimator, or if the model has no trained head for the task.
        """
        from .._persistence import load

        return load(cls, model, revision=revision, device=device, n_columns=n_columns)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload a fitted estimator",
    ) -> str:
        """Upload the fitted estimator to the Hugging Face Hub.

        The files are those of ``save_pretrained``. Log in with ``hf auth login`` first.
        The commit also deletes the configuration and weights of a previous model in the
        repository.

        Parameters
        ----------
        repo_id : str
            Name of the repository, such as "your-name/your-model". It is created if it
            does not exist.
        private : bool, default=None
            Whether a new repository is private. If None, the default of the account.
        commit_message : str, default="Upload a fitted estimator"
            Message of the commit.

        Returns
        -------
        str
            URL of the commit.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ModelFormatError
            If a parameter or a label cannot be saved as JSON.
        huggingface_hub.errors.HfHubHTTPError
            If the Hub rejects the upload.
        """
        from .._persistence import push

        return push(self, repo_id, private=private, message=commit_message)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the outputs of the model for each text."""
        from .._inference.predict import predict_texts, prepare_prediction

        encoding = self._encode_fitted(X)
        model, encoding, device, precision = prepare_prediction(self, encoding)
        folder = memory_folder(self)
        return predict_texts(model, self._task, encoding, device, precision, folder)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the weights on the CPU, to unpickle on any machine."""
        state = dict(super().__getstate__())
        state.pop("_optimizer_state", None)
        model = state.get("model_")
        if model is not None and any(
            p.device.type != "cpu" for p in model.parameters()
        ):
            state["model_"] = copy.deepcopy(model).cpu()
            state.pop("_accelerated", None)  # converted from the model on its device
        leave_out_base(self, state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, and load weights that the pickle leaves out."""
        super().__setstate__(state)
        read_base(self)

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        # Called by scikit-learn's HTML representation of an estimator.
        return describe_attributes(table_of_fitted_attributes(self, doc_link))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags
