"""TransformerTagger: fine-tune a transformer for token classification."""

from os import PathLike
from typing import Any, Self

import joblib
import numpy as np
from sklearn.base import TransformerMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from .._compat import StrOptions, check_sample_weight, fit_context
from .._tasks import Task
from .._tasks.tags import RaggedList, check_tags, make_tag_task
from .._text.ragged import offsets_of
from .._text.words import WORD_PATTERN, Words, check_words
from ..exceptions import TextValueError
from ..metrics import entity_f1_score
from ..metrics._schemes import SCHEMES
from .base import DEFAULT_MODEL, BaseTextEstimator


class TransformerTagger(TransformerMixin, BaseTextEstimator):
    """Token classifier that fine-tunes a transformer.

    It predicts one tag per word, for tasks such as named entity recognition and
    part-of-speech tagging. Texts longer than `max_length` are split into overlapping
    windows, and each word is tagged in the window that gives it most context. By
    default, the predicted tags form valid sequences of their tagging scheme.

    Parameters
    ----------
    model : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        A local directory or the id of a model on the Hugging Face Hub. Any encoder or
        decoder that transformers can load is supported. A trained head is kept if its
        labels are the tags of y. The default is uncased; it is also distributed as a
        Python package (the ``embedded`` extra) and then requires no network access.
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
        Maximum number of tokens per window, including special tokens. Longer windows
        give more context, but need more time and memory. If None, the limit of the
        model is used, but at most 512.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES", \
"BMEWO"}, default="auto"
        Tagging scheme. "auto" infers it from y. With "plain", a tag is any string, such
        as a part of speech. In the other schemes, tags such as "B-PER" mark the
        boundaries and the type of entities. "BIO" is also known as IOB2.
    decode : {"viterbi", "greedy"}, default="viterbi"
        How tags are chosen from the predicted probabilities:

        - "viterbi": the most probable tag sequence that is valid in the scheme [1]_;
        - "greedy": the most probable tag of each word independently.
    word_pattern : str, default=WORD_PATTERN
        Regular expression, in the syntax of the package ``regex``, that matches a word
        if X contains strings. By default, a word is a run of letters and digits, any
        other non-space character, or a single character of Chinese, Japanese and Thai.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training data, an upper bound with `early_stopping`.
        If "auto", it is chosen from the number of training texts, with more epochs for
        smaller data sets (see the user guide). The number of epochs run is stored in
        ``n_epochs_``. If 0, the model is not trained: the trained head of the
        checkpoint is used or, if it has none, logistic regression on the frozen
        embeddings of the words.
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
    class_weight : dict or "balanced", default=None
        Weights associated with the tags, in the form ``{tag: weight}``. If "balanced",
        weights are inversely proportional to the frequencies of the tags in the
        training data. If None, all tags have weight one.
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
    classes_ : ndarray of shape (n_classes,)
        The tags, sorted.
    scheme_ : str
        The tagging scheme of y.
    model_ : torch.nn.Module
        The fine-tuned model, with the parts ``model_.encoder`` and ``model_.head``.
    tokenizer_ : PreTrainedTokenizerBase
        The tokenizer of the model.
    history_ : list of dict
        One record per epoch, suitable for ``pandas.DataFrame(history_)``, with the keys
        "epoch", "n_steps", "train_loss", "learning_rate", "seconds",
        "tokens_per_second", "gradient_accumulation_steps" (doubled when memory runs
        out) and, with `early_stopping`, "valid_loss" and "valid_score", which is the
        value of ``score`` with ``decode="viterbi"`` and without sample weights.
    n_epochs_ : int
        Number of epochs run.

    Raises
    ------
    ModelNotFoundError
        If ``fit`` finds the model neither locally nor on the Hub.
    DivergenceError
        If the loss becomes infinite or NaN during ``fit``. The estimator keeps the
        state of the previous ``fit``.

    See Also
    --------
    TransformerClassifier : Classification of texts.
    sktransformers.metrics.entity_f1_score : The metric of ``score`` for entities.
    sktransformers.inspection.EntityDisplay : Display entities in their texts.

    Notes
    -----
    Each word is tokenized separately and represented by its first token, as in [2]_.
    All words of a text have the same weight in the loss.

    References
    ----------
    .. [1] Forney, `The Viterbi Algorithm
       <https://doi.org/10.1109/PROC.1973.9030>`_, 1973.
    .. [2] Devlin et al., `BERT: Pre-training of Deep Bidirectional Transformers for
       Language Understanding <https://arxiv.org/abs/1810.04805>`_, 2019.
    .. [3] Hu et al., `LoRA: Low-Rank Adaptation of Large Language Models
       <https://arxiv.org/abs/2106.09685>`_, 2021.

    Examples
    --------
    >>> from sktransformers import TransformerTagger
    >>> texts = ["Ada Lovelace lived in London .", "Paris is large .", "He met Ada ."]
    >>> sentences = [text.split() for text in texts]
    >>> tags = [
    ...     ["B-PER", "I-PER", "O", "O", "B-LOC", "O"],
    ...     ["B-LOC", "O", "O", "O"],
    ...     ["O", "O", "B-PER", "O"],
    ... ]
    >>> tagger = TransformerTagger(max_epochs=5, random_state=0).fit(sentences, tags)
    >>> tagger.predict([["Ada", "lived", "in", "Paris"]])
    [['B-PER', 'O', 'O', 'B-LOC']]
    >>> [(e["text"], e["label"]) for e in tagger.predict_entities(["Paris, London"])[0]]
    [('Paris', 'LOC'), ('London', 'LOC')]
    """

    _inputs = "words"
    _parameter_constraints: dict[str, Any] = {
        **{
            name: constraint
            for name, constraint in BaseTextEstimator._parameter_constraints.items()
            if name not in ("long_text", "pooling")
        },
        "scheme": [StrOptions({"auto", *SCHEMES})],
        "decode": [StrOptions({"viterbi", "greedy"})],
        "word_pattern": [str],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        model: str | PathLike[str] = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_length: int | None = None,
        scheme: str = "auto",
        decode: str = "viterbi",
        word_pattern: str = WORD_PATTERN,
        max_epochs: int | str = "auto",
        batch_size: int = 32,
        gradient_accumulation_steps: int = 1,
        learning_rate: float = 1e-4,
        head_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        lr_scheduler_type: str = "linear",
        max_grad_norm: float | None = 1.0,
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
        self.scheme = scheme
        self.decode = decode
        self.word_pattern = word_pattern
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.lr_scheduler_type = lr_scheduler_type
        self.max_grad_norm = max_grad_norm
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
        """Fine-tune the model on texts and their tags.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Texts as lists, tuples or arrays of words, or as str, which are split with
            ``word_pattern``; in a list, tuple, array, Series or DataFrame with one
            column.
        y : array-like of shape (n_texts,)
            A list of tags (str) for each text, one tag per word.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of the words of each text in the loss. Texts with weight 0 are
            ignored.

        Returns
        -------
        self : TransformerTagger
            The fitted tagger.

        Raises
        ------
        TextValueError
            If X is empty or contains something other than texts. The message gives
            the row.
        TextTypeError
            If the type of X is not supported.
        ValueError
            If the numbers of words and tags of a text differ, y contains something
            other than lists of str, or the tags are not valid in ``scheme``.
        """
        warm_start = self.warm_start and hasattr(self, "model_")
        return self._fit(X, y, sample_weight, warm_start=warm_start)

    def predict(self, X: Any) -> list[list[str]]:
        """Predict the tags of words.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Same as for ``fit``.

        Returns
        -------
        list of list of str
            For each text, a list with one tag per word.
        """
        codes, counts, _, _ = self._predict_codes(X)
        return RaggedList(self._task.tag_lists(codes, counts))

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Predict the probabilities of the tags of words.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Same as for ``fit``.

        Returns
        -------
        list of ndarray of shape (n_words, n_classes)
            An array for each text, with columns ordered as in ``classes_``. Words are
            independent: the constraints of the scheme are not applied.
        """
        _, counts, outputs, _ = self._predict_codes(X)
        rows = self._task.probabilities(outputs)
        return RaggedList(np.split(rows, np.cumsum(counts)[:-1]))

    def predict_entities(self, X: Any) -> list[list[dict[str, Any]]]:
        """Predict the entities of each text.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Same as for ``fit``.

        Returns
        -------
        list of list of dict
            For each text, its entities in order of occurrence, with the keys "text",
            "label" (the type), "start", "end" and "score" (the mean probability of the
            tags). If the text is a str, the entity is ``text[start:end]``; if it is a
            list of words, ``words[start:end]``, which "text" joins with spaces. With
            plain tags, consecutive words with the same tag, other than "O", are an
            entity.
        """
        codes, counts, outputs, words = self._predict_codes(X)
        chosen = self._task.probabilities(outputs)[np.arange(len(codes)), codes]
        totals = np.append(0.0, np.cumsum(chosen))
        spans = self._task.find_entities(codes, counts)
        firsts = offsets_of(counts)[spans.text] + spans.start
        lengths = spans.end - spans.start
        scores = (totals[firsts + lengths] - totals[firsts]) / lengths
        entities: list[list[dict[str, Any]]] = [[] for _ in words.rows]
        rows = zip(spans.text, spans.type, spans.start, spans.end, scores, strict=True)
        for text, label, start, end, score in rows:
            entity = words.locate(int(text), int(start), int(end))
            entity |= {"label": self._task.table.types[label], "score": float(score)}
            entities[text].append({key: entity[key] for key in _ENTITY})
        return entities

    def transform(self, X: Any) -> np.ndarray:
        """Count the entities of each type in texts.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Same as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts, n_types)
            Counts in int64, with columns ordered as in ``get_feature_names_out``.
        """
        codes, counts, _, _ = self._predict_codes(X)
        spans = self._task.find_entities(codes, counts)
        n_types = len(self._task.table.types)
        cells = np.bincount(
            spans.text * n_types + spans.type, minlength=len(counts) * n_types
        )
        return cells.reshape(len(counts), n_types)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Get output feature names for transformation: the entity types, sorted.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Ignored, as X has no feature names.

        Returns
        -------
        ndarray of shape (n_types,)
            Entity types such as "LOC" and "PER"; for plain tags, all tags but "O".
        """
        check_is_fitted(self)
        return np.array(self._task.table.types, dtype=object)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the F1 score of the entities or, for plain tags, the accuracy.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Same as for ``fit``.
        y : array-like of shape (n_texts,)
            True tags. Tags that were not seen during ``fit`` count as errors.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text.

        Returns
        -------
        float
            Micro-averaged F1 score, in which an entity is correct if its boundaries and
            its type are; or the fraction of words with the correct tag.

        Raises
        ------
        ValueError
            If the numbers of words and tags of a text differ, or a tag is not valid in
            ``scheme_``.
        """
        check_is_fitted(self)
        words, true = self._check_texts(X), check_tags(y)
        self._check_lengths(words, true)
        predicted = self.predict(words)
        if self._task.scheme != "plain":
            return entity_f1_score(
                true,
                predicted,
                scheme=self._task.scheme,
                sample_weight=sample_weight,
                zero_division=0,
            )
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, true)
            sample_weight = np.repeat(sample_weight, words.lengths)
        return accuracy_score(
            [tag for tags in true for tag in tags],
            [tag for tags in predicted for tag in tags],
            sample_weight=sample_weight,
        )

    @property
    def classes_(self) -> np.ndarray:
        """The tags, sorted."""
        check_is_fitted(self)
        return self._task.classes

    @property
    def scheme_(self) -> str:
        """The tagging scheme of y."""
        check_is_fitted(self)
        return self._task.scheme

    def _predict_codes(
        self, X: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Words]:
        """Return tag codes, word counts, model outputs and the checked texts."""
        check_is_fitted(self)
        words = self._check_texts(X)
        outputs = self._outputs(words)
        constrained = self.decode == "viterbi"
        counts = words.lengths
        codes = self._task.decode_words(outputs, counts, constrained=constrained)
        return codes, counts, outputs, words

    def _check_X(self, X: Any) -> Words:
        return X if isinstance(X, Words) else check_words(X, self.word_pattern)

    def _check_y(self, y: Any) -> np.ndarray:
        return check_tags(y)

    def _check_lengths(self, texts: Words, labels: np.ndarray) -> None:
        super()._check_lengths(texts, labels)
        n_words, n_tags = texts.lengths, np.array([len(tags) for tags in labels])
        if (n_words != n_tags).any():
            row = int(np.argmax(n_words != n_tags))
            split = "" if texts.texts is None else ", as word_pattern splits it"
            shown = str(texts.rows[row][:8]) + " ..." * int(n_words[row] > 8)
            raise TextValueError(
                f"X[{row}] has {n_words[row]} words{split}, but y[{row}] has "
                f"{n_tags[row]} tags; each word needs one. The words are {shown}."
            )

    def _make_task(self, y: np.ndarray, sample_weight: Any) -> Task:
        return make_tag_task(y, self.scheme)

    def _pooling_of(self, checkpoint: Any, task: Task) -> str:
        from .._models.heads import choose_tagging

        return choose_tagging(checkpoint, list(map(str, task.classes)))

    def _encode(self, texts: Any, tokenizer: Any, config: Any, limit: int) -> Any:
        from .._models.token_types import special_tokens_of
        from .._text.words import encode_words

        special = special_tokens_of(tokenizer, config, 1)
        max_length = self._check_max_length(special.count(1) + 1, limit)
        return encode_words(texts, tokenizer, special, max_length=max_length)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # transform returns counts
        return tags


_ENTITY = ("text", "label", "start", "end", "score")
