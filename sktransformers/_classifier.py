"""TransformerClassifier: fine-tune a transformer to label texts."""

from os import PathLike
from typing import Any, Self

import joblib
import numpy as np
from sklearn.base import ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._base import DEFAULT_MODEL, BaseTextEstimator
from ._compat import StrOptions, fit_context, generate_get_feature_names_out
from ._targets import (
    Target,
    check_classification_y,
    classification_target,
    first_target,
)


class TransformerClassifier(ClassifierMixin, TransformerMixin, BaseTextEstimator):
    """Fine-tune a transformer to label texts: binary, multiclass or multilabel.

    The head starts from logistic regression on the frozen embeddings; then the whole
    model is trained with AdamW.

    Parameters
    ----------
    model : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        A local directory or the id of a model on the Hugging Face hub. The default
        also ships as a Python package (the ``embedded`` extra) and then needs no
        network. Any encoder or decoder that transformers can load will do.
    revision : str, default=None
        Branch, tag or commit on the hub. None: "main"; a commit pins the weights.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with the model; needs a pinned revision
        (a commit) unless `model` is a local directory. That code can do whatever you
        can: read it first. It is kept in the cache of the Hugging Face libraries, and
        only processes that have read the model can unpickle what was fitted from it.
    max_length : int, default=None
        Tokens a text may have, special ones too. None: the model's own, at most 512.
    long_text : {"truncate", "window", "error"}, default="truncate"
        What happens to a longer text: its end is cut off, with a warning that counts
        such texts; it is read in windows that overlap by a quarter, whose
        probabilities are averaged (slower, nothing lost); or a ValueError.
    max_epochs : int or "auto", default="auto"
        Passes over the training texts. "auto": as many as make enough optimizer
        steps, see the user guide; the number chosen is ``n_epochs_``. 0 keeps the
        trained head of a checkpoint, or where there is none, logistic regression on
        the frozen embeddings.
    batch_size : int, default=32
        Texts (windows of long ones count apiece) that an optimizer step sees.
    gradient_accumulation_steps : int, default=1
        Parts that ``batch_size`` is split into, to save memory.
    learning_rate : float, default=1e-4
        Peak rate of AdamW for the pre-trained layers.
    head_learning_rate : float, default=1e-3
        Peak rate for the head.
    weight_decay : float, default=0.01
        Decoupled decay of the weight matrices.
    warmup_ratio : float, default=0.1
        Share of all steps in which the rates rise from 0.
    lr_scheduler_type : {"linear", "cosine", "constant", "constant_with_warmup"}, \
            default="linear"
        What the rates do after that, by the names of transformers.
    max_grad_norm : float, default=1.0
        Gradients are scaled down to this norm. None: never.
    pooling : {"auto", "mean", "cls", "last", "head"}, default="auto"
        What the head reads: the mean of the tokens, the first or the last one.
        "head": the classification head of the model's own architecture. "auto":
        a trained head is kept; a sentence-transformers model is pooled as it was
        trained; else "mean" for encoders and "last" for decoders.
    trainable : {"all", "head"} or int, default="all"
        What trains: everything, the head alone, or the head and this many of the top
        layers. Less is faster and mostly less accurate. "head" needs no epochs. Frozen
        layers run without dropout and, if 1 GiB holds what they give, once a fit.
    early_stopping : bool, default=False
        Whether to stop when held-out texts score no better, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the texts held out for ``early_stopping``, of each class alike.
    n_iter_no_change : int, default=3
        Epochs without a better score after which ``early_stopping`` stops.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced": inversely to their frequency.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the fitted weights.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16", "float64"}, default="auto"
        Number format of the matrix products in training. "auto": bfloat16 where the
        hardware multiplies it natively, else float32. Weights stay in float32.
    inference_precision : {"float32", "bfloat16", "float16"}, default=None
        The same for prediction. None: float32, in which a prediction does not depend
        on the texts it is made together with; bfloat16 is faster and less exact.
    lora_rank : int, default=None
        Rank of the matrices that are trained in place of the weights [3]_: a few
        percent of them or less. Pickles hold nothing else, and find the model again.
        None: the weights themselves are trained. Needs the ``lora`` extra.
    lora_alpha : float, default=None
        What the matrices add is scaled by ``lora_alpha / lora_rank``. None: twice the
        rank.
    lora_dropout : float, default=0.0
        Share of the matrices' inputs that is left out in training.
    lora_target_modules : str or list of str, default=None
        Which layers get them: the ends of their names, or a regular expression for the
        whole. None: all linear layers below the output.
    gradient_checkpointing : bool, default=False
        Whether to recompute activations rather than keep them: less memory, slower.
    compile : bool, default=False
        Whether to train through :func:`torch.compile`: slow to start, faster later.
    store_backbone : bool or "auto", default="auto"
        Whether a pickle holds the weights that are as the checkpoint has them, too.
        False: it is small, and finds them by the model's name again, where they must
        have the same hash. "auto": all weights, but an adapter's pickle is small.
    checkpoint_dir : str or path, default=None
        Where a fit that is interrupted leaves off, and where the same fit then goes on:
        checkpoints are written now and then and at SIGTERM, and removed at the end.
        None: nothing is ever written to disk.
    memory : str, path or joblib.Memory, default=None
        With ``trainable="head"`` each text runs through the frozen layers once, however
        many folds, candidates and predictions there are. None: up to 256 MiB of what
        they give is kept in this process; a directory keeps it for others too.
    random_state : int, RandomState instance or None, default=None
        An int makes fits on a CPU repeatable. Global state is never touched.
    verbose : int, default=0
        1 shows a progress bar, 0 nothing. In a search or a pipeline, set a
        ``ProgressBar`` on the outermost estimator instead, by its ``set_callbacks``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; for multilabel y the column numbers.
    model_ : torch.nn.Module
        The fine-tuned model, of parts ``model_.encoder`` and ``model_.head``.
    tokenizer_ : PreTrainedTokenizerBase
        The model's tokenizer.
    history_ : list of dict
        A record for each epoch, ready for ``pandas.DataFrame(history_)``: "epoch",
        "n_steps", "train_loss", "learning_rate", "seconds", "tokens_per_second",
        "gradient_accumulation_steps" (doubled where memory was short),
        and with ``early_stopping`` also "valid_loss" and "valid_score" (accuracy).
    n_epochs_ : int
        Epochs trained.
    n_truncated_ : int
        Training texts that were cut to ``max_length``.
    n_features_in_ : int
        Number of text columns, if X had columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the text columns, if X had names.

    Raises
    ------
    ModelNotFoundError
        By ``fit``: the model is neither here nor on the hub.
    DivergenceError
        By ``fit``: the loss became infinite. An earlier fit stays intact.

    See Also
    --------
    sktransformers.datasets.load_docstrings : Real texts to try it on.

    Notes
    -----
    Batches are drawn from pools of like length, so that little work goes into padding.
    A head that starts from a linear model keeps the features intact [1]_; AdamW: [2]_.

    References
    ----------
    .. [1] Kumar et al., `Fine-Tuning can Distort Pretrained Features and Underperform
       Out-of-Distribution <https://arxiv.org/abs/2202.10054>`_, 2022.
    .. [2] Loshchilov and Hutter, `Decoupled Weight Decay Regularization
       <https://arxiv.org/abs/1711.05101>`_, 2019.
    .. [3] Hu et al., `LoRA: Low-Rank Adaptation of Large Language Models
       <https://arxiv.org/abs/2106.09685>`_, 2021.

    Examples
    --------
    >>> from sktransformers import TransformerClassifier
    >>> texts = ["what a lovely film", "a dull plot", "charming", "a waste of time"]
    >>> labels = ["good", "bad", "good", "bad"]
    >>> classifier = TransformerClassifier(max_epochs=2, random_state=0)
    >>> classifier.fit(texts, labels).predict(["a lovely time", "dull"])
    array(['good', 'bad'], dtype='<U4')
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseTextEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        model: str | PathLike[str] = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_length: int | None = None,
        long_text: str = "truncate",
        max_epochs: int | str = "auto",
        batch_size: int = 32,
        gradient_accumulation_steps: int = 1,
        learning_rate: float = 1e-4,
        head_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        lr_scheduler_type: str = "linear",
        max_grad_norm: float | None = 1.0,
        pooling: str = "auto",
        trainable: str | int = "all",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        class_weight: dict | str | None = None,
        warm_start: bool = False,
        device: str = "auto",
        precision: str = "auto",
        inference_precision: str | None = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        lora_target_modules: str | list[str] | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        store_backbone: bool | str = "auto",
        checkpoint_dir: str | PathLike[str] | None = None,
        memory: str | PathLike[str] | joblib.Memory | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.max_length = max_length
        self.long_text = long_text
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.lr_scheduler_type = lr_scheduler_type
        self.max_grad_norm = max_grad_norm
        self.pooling = pooling
        self.trainable = trainable
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.inference_precision = inference_precision
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.lora_target_modules = lora_target_modules
        self.gradient_checkpointing = gradient_checkpointing
        self.compile = compile
        self.store_backbone = store_backbone
        self.checkpoint_dir = checkpoint_dir
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fine-tune the model on labelled texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            Texts, in a list, tuple, array or Series; pairs of texts, as 2-tuples or
            in two columns; or a DataFrame of text columns.
        y : array-like of shape (n_texts,) or indicator of shape (n_texts, n_labels)
            Labels; or 0 and 1 for each label, dense or sparse.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text in the loss; 0 leaves it out.

        Returns
        -------
        self : TransformerClassifier
            The fitted classifier.

        Raises
        ------
        TextValueError
            X is empty or holds something other than texts; the message names the row.
        TextTypeError
            X is no container of texts.
        ValueError
            y or the weights do not fit X, or are no labels or weights.
        """
        go_on = self.warm_start and hasattr(self, "model_")
        return self._fit(
            X, y, sample_weight, target=self._target if go_on else None, go_on=go_on
        )

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train one pass over some texts, going on from what was learned before.

        The learning rates stay at their peak and ``early_stopping`` is not looked at.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            As for ``fit``.
        y : array-like of shape (n_texts,) or indicator of shape (n_texts, n_labels)
            As for ``fit``.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. Required by the first call, unless y is
            an indicator matrix.
        sample_weight : array-like of shape (n_texts,), default=None
            As for ``fit``.

        Returns
        -------
        self : TransformerClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            A label is not among the classes, or the classes are missing in the first
            call or differ from those given there.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which sees "
                "a part of the texts. Pass the weights of the classes as a dict."
            )
        go_on = hasattr(self, "model_")
        target = self._target if go_on else first_target(y, classes)
        if classes is not None:
            classes = np.unique(check_classification_y(classes))
            if not np.array_equal(classes, target.classes):
                raise ValueError(
                    f"classes={classes.tolist()} differ from those of the model or "
                    f"the columns of y, {target.classes.tolist()}."
                )
        return self._fit(
            X, y, sample_weight, target=target, go_on=go_on, one_epoch=True
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            As for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,) or (n_texts, n_labels)
            Labels; or indicators, if y was an indicator matrix.
        """
        outputs = self._outputs(X)
        return self._target.decode(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Estimate the probability of each class.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            As for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            In the order of ``classes_``. Rows sum to 1; for multilabel y each entry
            stands alone.
        """
        outputs = self._outputs(X)
        return self._target.probabilities(outputs)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            As for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,) or (n_texts, n_classes)
            Of two classes: the log-odds of the second. For multilabel y: the log-odds
            of each label.
        """
        outputs = self._outputs(X)
        return self._target.decision(outputs)

    def transform(self, X: Any) -> np.ndarray:
        """Return the fine-tuned model's embedding of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or frame
            As for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts, hidden_size)
            What the head reads; for the head of an architecture the mean of the last
            hidden states (of a decoder, the last one).
        """
        return self._embeddings(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of ``transform``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the text columns; only checked against those of ``fit``.

        Returns
        -------
        ndarray of shape (hidden_size,)
            "transformerclassifier0", "transformerclassifier1" and so on.
        """
        check_is_fitted(self)
        width = self.model_.encoder.config.get_text_config().hidden_size
        return generate_get_feature_names_out(self, width, input_features)

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        check_is_fitted(self)
        return self._target.classes

    def _check_y(self, y: Any) -> np.ndarray:
        return check_classification_y(y)

    def _make_target(self, y: np.ndarray) -> Target:
        return classification_target(y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.transformer_tags.preserves_dtype = []  # X has no dtype to preserve
        return tags
