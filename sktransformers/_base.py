"""What the estimators share: hyper-parameters, the fit template, tags, pickling.

Guarded ground: think twice before adding to it. A subclass says what y may be
(``_check_y``, ``_make_target``) and has its own constructor; machinery belongs into
:mod:`.text`, :mod:`.engine`, :mod:`.models` or :mod:`._fitting`.
"""

import copy
import warnings
from abc import ABCMeta, abstractmethod
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ._callbacks import progress_bar
from ._compat import check_feature_names, get_feature_names
from ._constraints import SHARED
from ._data import Data, make_rng, seen_by_callbacks, split, weigh
from ._lora import adapter_settings, leave_out_base, read_base
from ._memory import memory_folder
from ._targets import Target
from .exceptions import TextValueError, TruncationWarning
from .text.inputs import Texts, check_texts

if TYPE_CHECKING:
    from .text.encoding import Encoding

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class BaseTextEstimator(CallbackSupportMixin, BaseEstimator, metaclass=ABCMeta):
    """Base of the estimators; see :class:`TransformerClassifier` for parameters."""

    _parameter_constraints: dict[str, Any] = SHARED

    _longest_default = 512
    _advice_on_length = " long_text='window' reads them whole."

    # Batches that are sorted by length together.
    _batches_in_pool = 50

    # What a trained head must be for, in the words of transformers.
    _task = "SequenceClassification"

    @abstractmethod
    def _check_y(self, y: Any) -> np.ndarray:
        """Check y and return it as an array."""

    @abstractmethod
    def _make_target(self, y: np.ndarray) -> Target:
        """Choose the target that fits y."""

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        target: Target | None = None,
        go_on: bool = False,
        one_epoch: bool = False,
    ) -> Self:
        """Check everything, train, and only then change the estimator.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As passed to ``fit``.
        target : Target or None
            None: made from y.
        go_on : bool
            Whether to start from the fitted model.
        one_epoch : bool
            As ``partial_fit`` does: one pass at a constant rate.
        """
        texts, kept, target, targets, weights = self._check(
            X, y, sample_weight, target, go_on=go_on
        )
        # Not earlier: importing torch takes longer than checking bad input.
        from ._fitting import Fit
        from ._resuming import open_resumption
        from .models.loading import find_checkpoint

        asked = self.model, self.revision, self.trust_remote_code
        checkpoint = None if go_on else find_checkpoint(*asked)
        limit = self._length_limit if checkpoint is None else checkpoint.max_length
        data, found = self._make_data(
            texts, targets, weights, target, checkpoint=checkpoint, limit=limit
        )
        self._warn_of_truncation(data.encoding)
        rng, valid = self._make_rng(), None
        resumption = None if one_epoch else open_resumption(self, data, rng)
        trained: np.ndarray | None = None
        if self.early_stopping and not one_epoch:
            rows, held_out = split(data, self.validation_fraction, rng)
            data, valid = data.take(rows), data.take(held_out)
            trained = kept[rows]
        fit = Fit(
            estimator=self,
            checkpoint=checkpoint,
            target=target,
            attributes={
                "_length_limit": limit,
                "_n_texts": len(texts),
                "_target": target,
                "_adapter": adapter_settings(self),
                "_checkpoint_name": (
                    self._checkpoint_name if go_on else (self.model, self.revision)
                ),
                **self._attributes_of(texts),
                **found,
            },
            train_data=data,
            valid_data=valid,
            rng=rng,
            previous=self.model_ if go_on else None,
            one_epoch=one_epoch,
            optimizer_state=self.__dict__.get("_optimizer_state") if go_on else None,
            resumption=resumption,
        )
        with progress_bar(self):
            fitted = fit.run(seen_by_callbacks(X, y, sample_weight, trained))
        return self._become(fitted)

    def _check(
        self, X: Any, y: Any, sample_weight: Any, target: Any, *, go_on: bool
    ) -> tuple[Any, np.ndarray, Any, np.ndarray, np.ndarray]:
        """Check what is to be learned; leave out texts without weight."""
        texts = self._check_texts(X) if go_on else self._check_X(X)
        labels = self._check_y(y)
        self._check_lengths(texts, labels)
        target = self._make_target(labels) if target is None else target
        kept, targets, weights = weigh(
            labels, target, sample_weight, getattr(self, "class_weight", None)
        )
        if len(kept) < len(texts):
            texts = texts.take(kept)
        return texts, kept, target, targets, weights

    def _become(self, fitted: dict[str, Any]) -> Self:
        """Take on the attributes of a fit that went well, in place of the last."""
        for name in (
            "n_features_in_",
            "feature_names_in_",
            "_optimizer_state",
            "_accelerated",
        ):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted)
        return self

    def _make_data(
        self,
        texts: Texts,
        targets: np.ndarray,
        weights: np.ndarray,
        target: Target,
        *,
        checkpoint: Any,
        limit: int,
    ) -> tuple[Data, dict[str, Any]]:
        """Tokenize what is to be learned; return it and fitted attributes."""
        tokenizer = self.tokenizer_ if checkpoint is None else checkpoint.tokenizer
        encoding = self._encode(texts, tokenizer, limit)
        found = {"tokenizer_": tokenizer, "n_truncated_": encoding.n_truncated}
        return Data(encoding, targets, weights), found

    def _build(self, checkpoint: Any, target: Target, dtype: Any) -> Any:
        """Read the model that is fine-tuned."""
        from .models.modules import build

        return build(
            checkpoint,
            n_outputs=target.n_outputs,
            pooling=self._pooling_of(checkpoint, target),
            task=self._task,
            dtype=dtype,
        )

    def _make_rng(self) -> np.random.Generator:
        return make_rng(self.random_state)

    def _attributes_of(self, texts: Texts) -> dict[str, Any]:
        """Return scikit-learn's attributes for what X looked like."""
        # The first also where X has no columns: callbacks see a copy of the estimator
        # that still has the public attributes of an earlier fit.
        attributes: dict[str, Any] = {"_n_columns": len(texts.columns)}
        if texts.is_frame:
            attributes["n_features_in_"] = len(texts.columns)
        if texts.names is not None and len(set(texts.names)) == len(texts.names):
            attributes["feature_names_in_"] = np.array(texts.names, dtype=object)
        return attributes

    def _encode(self, texts: Texts, tokenizer: Any, limit: int) -> "Encoding":
        """Tokenize texts, once, and cut them to what the model can read."""
        from .text.encoding import SpecialTokens, encode, require_fitting, tokenize

        special = SpecialTokens.of(tokenizer)
        least = special.count(len(texts.columns)) + len(texts.columns)
        max_length = self._check_max_length(least, limit)
        columns = [tokenize(tokenizer, column) for column in texts.columns]
        if self.long_text == "error":
            require_fitting(columns, special, max_length)
        return encode(
            columns,
            special,
            max_length=max_length,
            window=self.long_text == "window",
        )

    def _check_max_length(self, least: int, limit: int) -> int:
        """Return how many tokens the model is given at most."""
        max_length = self.max_length or min(limit, self._longest_default)
        if not least <= max_length <= limit:
            raise ValueError(
                f"max_length={max_length} must be between {least} (the special tokens "
                f"and one of each text) and {limit}, the limit of the model."
            )
        return int(max_length)

    def _warn_of_truncation(self, encoding: "Encoding") -> None:
        if encoding.n_truncated:
            warnings.warn(
                f"{encoding.n_truncated} of {encoding.n_texts} texts were longer than "
                f"max_length tokens and were cut.{self._advice_on_length}",
                TruncationWarning,
                stacklevel=5,  # the caller of fit or predict
            )

    def _check_X(self, X: Any) -> Texts:
        """Check X by itself: the one place where it enters."""
        return check_texts(X)

    def _check_lengths(self, texts: Texts, labels: np.ndarray) -> None:
        """Check that X and y belong together."""
        check_consistent_length(texts, labels)

    def _pooling_of(self, checkpoint: Any, target: Target) -> str:
        """Choose what the head reads."""
        return self.pooling

    def _check_texts(self, X: Any) -> Texts:
        """Check X against what the estimator was fitted on."""
        # Names first: other columns than in fit need not even hold texts.
        if hasattr(self, "feature_names_in_"):
            try:
                if get_feature_names(X) is not None:
                    check_feature_names(self, X, reset=False)
            except (TypeError, ValueError) as error:
                raise TextValueError(str(error)) from None
        texts = self._check_X(X)
        expected = self._n_columns
        if len(texts.columns) != expected:
            raise TextValueError(
                f"X has {len(texts.columns)} features, but {type(self).__name__} is "
                f"expecting {expected} features as input: text columns, as in fit."
            )
        return texts

    def _encode_fitted(self, X: Any) -> "Encoding":
        """Check and encode X for prediction."""
        if "model_" not in vars(self):  # the check takes as long as reading a text
            check_is_fitted(self)
        texts = self._check_texts(X)
        encoding = self._encode(texts, self.tokenizer_, self._length_limit)
        if not self.n_truncated_:  # else fit has warned already
            self._warn_of_truncation(encoding)
        return encoding

    def merge_adapter(self) -> Self:
        """Make what LoRA has learned part of the model's own weights.

        Predictions stay what they are but for rounding, and are as fast as without an
        adapter; the pickle then holds all weights.

        Returns
        -------
        self : estimator
            The same fitted estimator.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ValueError
            The model has no adapter.
        """
        check_is_fitted(self)
        from .models.adapters import has_adapter, merge_adapter

        if not has_adapter(self.model_):
            raise ValueError(
                "The model has no adapter to merge: it was fitted without lora_rank, "
                "or merged before."
            )
        merge_adapter(self.model_)
        self.__dict__.pop("_accelerated", None)
        return self

    def accelerate_inference(self, backend: str | None) -> Self:
        """Predict with a runtime that is made for CPUs, or again with torch.

        The fitted model is converted, in memory, and compared with torch on a few
        texts; then every method that predicts uses the runtime. This holds until the
        next fit, in copies and pickles too, which convert the model again when they
        first predict. Where ``device`` or ``inference_precision`` are changed, torch
        predicts.

        Parameters
        ----------
        backend : {"openvino", "onnx"} or None
            OpenVINO, in float32 or, with ``inference_precision="bfloat16"``, faster
            and less exact; or ONNX Runtime, in float32. None: torch.

        Returns
        -------
        self : estimator
            The same fitted estimator.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ImportError
            The runtime is not installed; the message says how to.
        ValueError
            There is no such backend, it cannot predict in ``inference_precision``, or
            ``device`` is not the CPU.
        RuntimeError
            The runtime cannot take the model, or its outputs are another's: they differ
            by more than 0.001 (in bfloat16 0.2). The estimator is as before.
        """
        check_is_fitted(self)
        accelerated = None
        if backend is not None:
            from ._prediction import accelerate
            from .engine import hardware

            accelerated = accelerate(
                self.model_,
                backend,
                hardware.resolve_device(self.device),
                hardware.inference_precision(self.precision, self.inference_precision),
                self.tokenizer_,
                self._n_columns,
                self._length_limit,
                at_positions=self._task == "TokenClassification",
            )
        self._accelerated = accelerated
        return self

    def save_pretrained(
        self, directory: str | PathLike[str], *, overwrite: bool = False
    ) -> Self:
        """Write the fitted estimator to a directory that transformers reads too.

        Weights in safetensors, all else in JSON: nothing in it can run. The directory
        is complete or not there, whatever happens meanwhile. With ``lora_rank`` only
        the adapter is written, and which model it belongs to.

        Parameters
        ----------
        directory : str or path
            Where to. Made if it is not there.
        overwrite : bool, default=False
            Whether to replace what was saved there before. What this method has not
            written is never replaced.

        Returns
        -------
        self : estimator
            The same fitted estimator.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ModelSaveError
            The directory is not empty, or cannot be written; what was there is still.
        ModelFormatError
            A parameter or a label cannot be written as JSON, such as a RandomState.
        """
        from .persistence import save

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
        """Read a fitted estimator, or a model that was trained elsewhere.

        What ``save_pretrained`` has written predicts what it predicted. Any other
        checkpoint must have a trained head for what the estimator does; its labels
        become the classes. Labels that were never named, LABEL_0 and so on, become
        integers.

        Parameters
        ----------
        model : str or path
            A directory, or the id of a model on the Hugging Face hub.
        revision : str, default=None
            Branch, tag or commit on the hub. None: "main".
        device : str, default=None
            As for the constructor. None: what was saved, or "auto".
        n_columns : int, default=1
            Text columns of X, where the model was trained elsewhere: 2 if it reads
            pairs.

        Returns
        -------
        estimator
            Fitted.

        Raises
        ------
        ModelNotFoundError
            There is no such model.
        ModelFormatError
            A file is missing, damaged or not allowed, another estimator was saved, or
            the model has no trained head. The message names file and cause.
        """
        from .persistence import load

        return load(cls, model, revision=revision, device=device, n_columns=n_columns)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload a fitted estimator",
    ) -> str:
        """Upload what ``save_pretrained`` writes to the Hugging Face hub.

        With the login of ``hf auth login``. Settings and weights of an earlier model in
        the repository are removed by the same commit.

        Parameters
        ----------
        repo_id : str
            Such as "your-name/your-model". Made if it is not there.
        private : bool, default=None
            Whether a new repository is private. None: as the account says.
        commit_message : str, default="Upload a fitted estimator"
            Of the commit.

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        NotFittedError
            The estimator is not fitted.
        ModelFormatError
            A parameter or a label cannot be written as JSON.
        huggingface_hub.errors.HfHubHTTPError
            The hub refuses.
        """
        from .persistence import push

        return push(self, repo_id, private=private, message=commit_message)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the model's outputs for each text."""
        from ._prediction import place_model, predict_texts

        encoding = self._encode_fitted(X)
        model, device, precision = place_model(self)
        folder = memory_folder(self)
        return predict_texts(model, self._target, encoding, device, precision, folder)

    def _embeddings(self, X: Any) -> np.ndarray:
        """Return one vector for each text; windows of a text are averaged."""
        from ._prediction import embed, place_model, pool_windows, source_of

        encoding = self._encode_fitted(X)
        model, device, precision = place_model(self)
        vectors = embed(
            model,
            encoding,
            device,
            precision,
            source=source_of(model),
            memory=memory_folder(self),
        )
        if len(encoding) == encoding.n_texts:
            return vectors
        return pool_windows(vectors, encoding.owners).astype(vectors.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the weights on the CPU, so that they load on any machine."""
        state = dict(super().__getstate__())
        state.pop("_optimizer_state", None)
        model = state.get("model_")
        if model is not None and any(
            p.device.type != "cpu" for p in model.parameters()
        ):
            state["model_"] = copy.deepcopy(model).cpu()
            state.pop("_accelerated", None)  # of before the model moved
        leave_out_base(self, state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the base of an adapter where it was found for the fit."""
        super().__setstate__(state)
        read_base(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags
