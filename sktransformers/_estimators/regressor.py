"""TransformerRegressor: fine-tune a transformer for regression on texts."""

from os import PathLike
from typing import Any, Self

import joblib
import numpy as np
from sklearn.base import RegressorMixin

from .._compat import fit_context
from .._tasks import Task
from .._tasks.numbers import check_regression_y, make_number_task
from .base import DEFAULT_MODEL
from .embedding import EmbeddingEstimator


class TransformerRegressor(RegressorMixin, EmbeddingEstimator):
    """Text regressor that fine-tunes a transformer.

    One or several targets per text are supported. The head is initialized with ridge
    regression on the frozen embeddings; then the whole model is trained with AdamW on
    the squared error. Targets are standardized internally; predictions are in the
    original units.

    Parameters
    ----------
    model : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        A local directory or the id of a model on the Hugging Face Hub. Any encoder or
        decoder that transformers can load is supported. The default is also distributed
        as a Python package (the ``embedded`` extra) and then requires no network
        access.
    revision : str, default=None
        Branch, tag or commit hash on the Hub. If None, "main" is used. Pass a commit
        hash to pin the weights.
    trust_remote_code : bool, default=False
        Whether to execute Python code that is distributed with the model. Requires
        `revision` to be a commit hash, unless `model` is a local directory. The code
        runs with your permissions: review it first. It is stored in the cache of the
        Hugging Face libraries, and the fitted estimator can only be unpickled in a
        process that has already loaded the model.
    max_length : int, default=None
        Maximum number of tokens per text, including special tokens. Longer sequences
        need more time and memory. If None, the limit of the model is used, but at most
        512.
    long_text : {"truncate", "window", "error"}, default="truncate"
        How to handle texts that are longer than `max_length`:

        - "truncate": drop the end of the text (or its start, if the tokenizer's
          `truncation_side` is "left"); a warning reports the number of truncated texts;
        - "window": split the text into windows that overlap by a quarter, and average
          their predicted values; slower, but the whole text is used;
        - "error": raise a ValueError.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training data, an upper bound with `early_stopping`.
        If "auto", it is chosen from the number of training texts, with more epochs for
        smaller data sets (see the user guide). The number of epochs run is stored in
        ``n_epochs_``. If 0, the model is not trained: the trained head of the
        checkpoint is used or, if it has none, ridge regression on the frozen
        embeddings.
    batch_size : int, default=32
        Number of texts per optimizer step. Each window of a long text counts as one
        text.
    gradient_accumulation_steps : int, default=1
        Number of micro-batches that each batch of `batch_size` texts is split into.
        Their gradients are accumulated before the optimizer step: less memory, slower.
    learning_rate : float, default=1e-4
        Peak learning rate of AdamW for the pre-trained layers. If it is too large,
        training diverges or the pre-trained features are lost; LoRA (`lora_rank`) needs
        a larger value than full fine-tuning, such as 1e-3.
    head_learning_rate : float, default=1e-3
        Peak learning rate of AdamW for the head.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW. It is applied to weight matrices, but not to
        biases and normalization weights.
    warmup_ratio : float, default=0.1
        Fraction of the optimizer steps in which the learning rates increase linearly
        from 0 to their peak.
    lr_scheduler_type : {"linear", "cosine", "constant", "constant_with_warmup"}, \
            default="linear"
        Learning rate schedule after the warmup, with the names of transformers.
        "constant" has no warmup.
    max_grad_norm : float, default=1.0
        Maximum norm for gradient clipping. If None, gradients are not clipped.
    pooling : {"auto", "mean", "cls", "last", "head"}, default="auto"
        How the hidden states of the last layer are pooled into the input of the head:

        - "mean": the mean over all tokens;
        - "cls": the first token;
        - "last": the last token;
        - "head": the regression head of the model's own architecture is used;
        - "auto": the trained head of the checkpoint is kept (y must be in its units);
          if it has none, a sentence-transformers model is pooled as it was trained,
          other encoders with "mean" and decoders with "last".
    trainable : {"all", "head"} or int, default="all"
        Which layers to train: all, only the head, or the head and this number of top
        layers. Training fewer layers is faster, but usually less accurate. With "head",
        ``max_epochs="auto"`` fits the new head directly, without epochs. Frozen layers
        run without dropout, and their outputs are cached during ``fit`` if they fit
        into 1 GiB.
    early_stopping : bool, default=False
        Whether to set aside `validation_fraction` of the training texts as validation
        set, stop training when the validation score has not improved for
        `n_iter_no_change` epochs, and restore the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the training texts to set aside as validation set. Only used if
        `early_stopping` is True.
    n_iter_no_change : int, default=3
        Number of epochs with no improvement of the validation score to wait before
        stopping early. Only used if `early_stopping` is True.
    warm_start : bool, default=False
        When set to True, reuse the weights of the previous call to ``fit`` as
        initialization, otherwise start from the checkpoint.
    device : str, default="auto"
        Device to run on, such as "cpu", "cuda", "cuda:1" or "mps". "auto" uses a GPU if
        one is available.
    precision : {"auto", "float32", "bfloat16", "float16", "float64"}, default="auto"
        Floating-point format of the matrix products in training. "auto" is bfloat16 if
        the hardware supports it natively, else float32. Except for "float64", the
        weights are kept in float32 (mixed precision).
    inference_precision : {"float32", "bfloat16", "float16"}, default=None
        Floating-point format of the matrix products in prediction. bfloat16 and float16
        are faster, but less accurate. If None, the format of the weights is used
        (float32, unless ``precision="float64"``), and a prediction does not depend on
        the other texts of the batch.
    lora_rank : int, default=None
        Rank of the LoRA adapter matrices [3]_. If set, the pre-trained weights are
        frozen, and only the adapter (typically a few percent of the parameters or less)
        and the head are trained: less memory, small pickles. A pickle holds only what
        was trained, and the base model is loaded again from where ``fit`` found it. If
        None, no adapter is used. Requires the ``lora`` extra.
    lora_alpha : float, default=None
        The output of the adapter is scaled by ``lora_alpha / lora_rank``. If None,
        twice the rank.
    lora_dropout : float, default=0.0
        Dropout probability of the inputs of the adapter in training.
    lora_target_modules : str or list of str, default=None
        Modules to adapt: a list of name suffixes, or a regular expression that matches
        the full name. If None, all linear layers except the output layer.
    gradient_checkpointing : bool, default=False
        Whether to recompute activations in the backward pass instead of storing them:
        less memory, slower.
    compile : bool, default=False
        Whether to train with :func:`torch.compile`: slow to start, faster afterwards.
    store_backbone : bool or "auto", default="auto"
        Whether pickles include the weights that are unchanged from the checkpoint. If
        False, pickles are small, and unpickling loads these weights again from `model`
        and verifies their hash. If "auto", they are included unless `lora_rank` is set.
    checkpoint_dir : str or path, default=None
        Directory of training checkpoints to resume from. If ``fit`` is interrupted,
        calling it again with the same data and parameters resumes from the last
        checkpoint. Checkpoints are written about once a minute and on SIGTERM, and
        deleted when ``fit`` is done. If None, no checkpoints are written.
    memory : str, path or joblib.Memory, default=None
        Cache of the embeddings with ``trainable="head"``: each text runs through the
        frozen layers only once across folds, candidates and predictions. If None, up to
        256 MiB are cached in the memory of the process. If a directory or
        ``joblib.Memory``, they are also cached on disk, for other processes.
    random_state : int, RandomState instance or None, default=None
        Controls shuffling, dropout and the split of the validation set. Pass an int for
        reproducible output across multiple function calls on a CPU. The global random
        state is neither used nor changed.
    verbose : int, default=0
        If 1, show a progress bar. In a search or a pipeline, register a ``ProgressBar``
        on the outermost estimator with ``set_callbacks`` instead.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fine-tuned model, with the parts ``model_.encoder`` and ``model_.head``.
    tokenizer_ : PreTrainedTokenizerBase
        The tokenizer of the model.
    history_ : list of dict
        One record per epoch, suitable for ``pandas.DataFrame(history_)``, with the keys
        "epoch", "n_steps", "train_loss", "learning_rate", "seconds",
        "tokens_per_second", "gradient_accumulation_steps" (doubled when memory runs
        out) and, with `early_stopping`, "valid_loss" and "valid_score" (R^2).
    n_epochs_ : int
        Number of epochs run.
    n_truncated_ : int
        Number of training texts that were truncated to `max_length`.
    n_features_in_ : int
        Number of text columns seen during ``fit``. Defined only if X has columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the text columns seen during ``fit``. Defined only if X has feature
        names.

    Raises
    ------
    ModelNotFoundError
        If ``fit`` finds the model neither locally nor on the Hub.
    HeadMismatchError
        If the trained head of the checkpoint has another number of outputs than y, or
        is a classification head.
    DivergenceError
        If the loss becomes infinite or NaN during ``fit``. The estimator keeps the
        state of the previous ``fit``.

    See Also
    --------
    TransformerClassifier : Classification of texts.

    Notes
    -----
    Each column of y is standardized with its mean and standard deviation in ``fit`` or
    in the first ``partial_fit``, weighted by ``sample_weight``; later calls with
    ``warm_start`` or of ``partial_fit`` use the same values. The loss is the squared
    error of the standardized targets, averaged over the columns, and does not depend on
    their units. A trained head of the checkpoint is rescaled accordingly, and its
    predictions are unchanged with ``max_epochs=0``. Initializing a new head with a
    linear model preserves the pre-trained features [1]_. AdamW is described in [2]_.

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
    >>> from sktransformers import TransformerRegressor
    >>> texts = ["what a lovely film", "a dull plot", "charming", "a waste of time"]
    >>> stars = [5, 2, 4, 1]
    >>> regressor = TransformerRegressor(max_epochs=2, random_state=0)
    >>> regressor.fit(texts, stars).predict(["a lovely time", "dull"]).shape
    (2,)
    """

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
        """Fine-tune the model on texts and their targets.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or DataFrame
            Texts, in a list, tuple, array or Series; pairs of texts, as 2-tuples or
            in two columns; or a DataFrame of text columns.
        y : array-like of shape (n_texts,) or (n_texts, n_numbers)
            Target values, in any units.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text in the loss. Texts with weight 0 are ignored.

        Returns
        -------
        self : TransformerRegressor
            The fitted regressor.

        Raises
        ------
        TextValueError
            If X is empty or contains something other than texts. The message gives
            the row.
        TextTypeError
            If the type of X is not supported.
        ValueError
            If y or the weights are not finite numbers or inconsistent with X.
        """
        warm_start = self.warm_start and hasattr(self, "model_")
        return self._fit(X, y, sample_weight, warm_start=warm_start)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on a batch of texts, starting from the current weights.

        The learning rates are constant and ``early_stopping`` is ignored.
        The mean and standard deviation of y in the first call are used to standardize
        the targets in all later ones, so the first batch should be representative.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or DataFrame
            Same as for ``fit``.
        y : array-like of shape (n_texts,) or (n_texts, n_numbers)
            Same as for ``fit``.
        sample_weight : array-like of shape (n_texts,), default=None
            Same as for ``fit``.

        Returns
        -------
        self : TransformerRegressor
            The fitted regressor.

        Raises
        ------
        ValueError
            If the number of columns of y differs from the first call.
        """
        warm_start = hasattr(self, "model_")
        return self._fit(X, y, sample_weight, warm_start=warm_start, one_epoch=True)

    def predict(self, X: Any) -> np.ndarray:
        """Predict target values for texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or DataFrame
            Same as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,) or (n_texts, n_numbers)
            Predicted values in float64, in the units and with the number of dimensions
            of y.
        """
        outputs = self._outputs(X)
        return self._task.decode(outputs)

    def _check_y(self, y: Any) -> np.ndarray:
        return check_regression_y(y)

    def _make_task(self, y: np.ndarray, sample_weight: Any) -> Task:
        return make_number_task(y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
