"""TransformerTagger: fine-tune a transformer to tag the words of texts."""

from os import PathLike
from typing import Any, Self

import joblib
import numpy as np
from sklearn.base import TransformerMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from ._base import DEFAULT_MODEL, BaseTextEstimator
from ._compat import StrOptions, check_sample_weight, fit_context
from ._tag_target import RaggedList, check_tags, offsets_of, tag_target
from ._tags import SCHEMES
from ._targets import Target
from .exceptions import TextValueError
from .metrics import entity_f1_score
from .text.words import WORD_PATTERN, Words, check_words


class TransformerTagger(TransformerMixin, BaseTextEstimator):
    """Fine-tune a transformer to tag words: entities, parts of speech.

    Every word gets one tag, however long its text is: a text that is longer than the
    model reads is read in windows that overlap, and each word is tagged where most of
    what surrounds it is seen. Tags are decoded so that they keep to their scheme.

    Parameters
    ----------
    model : str or path, default="sentence-transformers/all-MiniLM-L6-v2"
        A local directory or the id of a model on the Hugging Face hub. The default
        also ships as a Python package (the ``embedded`` extra) and then needs no
        network; it does not tell capital letters. Any encoder or decoder that
        transformers can load will do. A trained head that gives the tags of y is kept.
    revision : str, default=None
        Branch, tag or commit on the hub. None: "main"; a commit pins the weights.
    trust_remote_code : bool, default=False
        Whether to run Python code that comes with the model; needs a pinned revision
        (a commit) unless `model` is a local directory. That code can do whatever you
        can: read it first. It is kept in the cache of the Hugging Face libraries, and
        only processes that have read the model can unpickle what was fitted from it.
    max_length : int, default=None
        Tokens a window may have, special ones too. None: the model's own, at most 512.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"}, default="auto"
        What the tags mean. "auto": found in y. In "plain" a tag is any string, as a
        part of speech; in the others it says where an entity begins and ends, and of
        which type it is, as "B-PER". "BIO" is also known as IOB2.
    decode : {"viterbi", "greedy"}, default="viterbi"
        "viterbi": the most likely of all ways to tag a text that the scheme allows
        [1]_. "greedy": the most likely tag of each word by itself.
    word_pattern : str, default=WORD_PATTERN
        What a word is, where X holds strings: a regular expression of the package
        ``regex``. By default a run of letters and digits, any other sign that is no
        space, and each character of Chinese, Japanese and Thai.
    max_epochs : int or "auto", default="auto"
        Passes over the training texts. "auto": as many as make enough optimizer
        steps, see the user guide; the number chosen is ``n_epochs_``. 0 keeps the
        trained head of a checkpoint, or where there is none, logistic regression on
        the words' frozen embeddings.
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
    trainable : {"all", "head"} or int, default="all"
        What trains: everything, the head alone, or the head and this many of the top
        layers. Less is faster and mostly less accurate. "head" needs no epochs. Frozen
        layers run without dropout and, if 1 GiB holds what they give, once a fit.
    early_stopping : bool, default=False
        Whether to stop when held-out texts score no better, and keep the best epoch.
    validation_fraction : float, default=0.1
        Share of the texts held out for ``early_stopping``.
    n_iter_no_change : int, default=3
        Epochs without a better score after which ``early_stopping`` stops.
    class_weight : dict or "balanced", default=None
        Weights of the tags; "balanced": inversely to their frequency.
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
        The tags, sorted.
    scheme_ : str
        The scheme that the tags follow.
    model_ : torch.nn.Module
        The fine-tuned model, of parts ``model_.encoder`` and ``model_.head``.
    tokenizer_ : PreTrainedTokenizerBase
        The model's tokenizer.
    history_ : list of dict
        A record for each epoch, ready for ``pandas.DataFrame(history_)``: "epoch",
        "n_steps", "train_loss", "learning_rate", "seconds", "tokens_per_second",
        "gradient_accumulation_steps" (doubled where memory was short),
        and with ``early_stopping`` also "valid_loss" and "valid_score", which is what
        ``score`` gives with decode="viterbi" and equal weights.
    n_epochs_ : int
        Epochs trained.

    Raises
    ------
    ModelNotFoundError
        By ``fit``: the model is neither here nor on the hub.
    DivergenceError
        By ``fit``: the loss became infinite. An earlier fit stays intact.

    See Also
    --------
    sktransformers.metrics.entity_f1_score : What ``score`` is for entities.
    sktransformers.inspection.EntityDisplay : Shows entities in their texts.

    Notes
    -----
    A word is read off at its first token, as in [2]_, and split into tokens by itself.
    Every word counts alike in the loss.

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

    _task = "TokenClassification"

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
        """Fine-tune the model on tagged texts.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            Texts as lists of words (lists, tuples, arrays), or as str, which are split
            by ``word_pattern``; in a list, tuple, array, Series or frame of one column.
        y : array-like of shape (n_texts,)
            A list of tags for each text, a str for each word.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight of each text's words in the loss; 0 leaves it out.

        Returns
        -------
        self : TransformerTagger
            The fitted tagger.

        Raises
        ------
        TextValueError
            X is empty or holds something other than texts; the message names the row.
        TextTypeError
            X is no container of texts.
        ValueError
            A text and its tags differ in number, y holds something other than lists of
            str, or the tags do not follow ``scheme``.
        """
        go_on = self.warm_start and hasattr(self, "model_")
        return self._fit(
            X, y, sample_weight, target=self._target if go_on else None, go_on=go_on
        )

    def predict(self, X: Any) -> list[list[str]]:
        """Predict the tag of each word.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            As for ``fit``.

        Returns
        -------
        list of list of str
            For each text a list with a tag for each of its words.
        """
        codes, counts, _, _ = self._tags_of(X)
        return RaggedList(self._target.tag_lists(codes, counts))

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Estimate the probability of each tag of each word.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            As for ``fit``.

        Returns
        -------
        list of ndarray of shape (n_words, n_classes)
            An array for each text, in the order of ``classes_``. Each word by itself:
            what the scheme allows is not looked at.
        """
        _, counts, outputs, _ = self._tags_of(X)
        rows = self._target.probabilities(outputs)
        return RaggedList(np.split(rows, np.cumsum(counts)[:-1]))

    def predict_entities(self, X: Any) -> list[list[dict[str, Any]]]:
        """Predict the entities of each text.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            As for ``fit``.

        Returns
        -------
        list of list of dict
            For each text its entities, in their order: "text", "label" (the type),
            "start", "end" and "score", the mean probability of the tags. Of a str,
            ``text[start:end]`` is the entity; of a list of words ``words[start:end]``
            are, and "text" joins them with spaces. Plain tags: words in a row with the
            same tag, other than "O", are an entity.
        """
        codes, counts, outputs, words = self._tags_of(X)
        chosen = self._target.probabilities(outputs)[np.arange(len(codes)), codes]
        totals = offsets_of(chosen)
        spans = self._target.find_entities(codes, counts)
        firsts = offsets_of(counts)[spans.text] + spans.start
        lengths = spans.end - spans.start
        scores = (totals[firsts + lengths] - totals[firsts]) / lengths
        entities: list[list[dict[str, Any]]] = [[] for _ in words.rows]
        rows = zip(spans.text, spans.type, spans.start, spans.end, scores, strict=True)
        for text, label, start, end, score in rows:
            entity = words.locate(int(text), int(start), int(end))
            entity |= {"label": self._target.table.types[label], "score": float(score)}
            entities[text].append({key: entity[key] for key in _ENTITY})
        return entities

    def transform(self, X: Any) -> np.ndarray:
        """Count the entities of each type in each text.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            As for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts, n_types)
            int64, in the order of ``get_feature_names_out``.
        """
        codes, counts, _, _ = self._tags_of(X)
        spans = self._target.find_entities(codes, counts)
        n_types = len(self._target.table.types)
        cells = np.bincount(
            spans.text * n_types + spans.type, minlength=len(counts) * n_types
        )
        return cells.reshape(len(counts), n_types)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of ``transform``: the entity types, sorted.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used, as X has no columns.

        Returns
        -------
        ndarray of shape (n_types,)
            Such as "LOC" and "PER"; for plain tags all but "O".
        """
        check_is_fitted(self)
        return np.array(self._target.table.types, dtype=object)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the F1 of the entities; for plain tags the accuracy.

        Parameters
        ----------
        X : array-like of shape (n_texts,)
            As for ``fit``.
        y : array-like of shape (n_texts,)
            The true tags. A tag that did not occur in ``fit`` counts as missed.
        sample_weight : array-like of shape (n_texts,), default=None
            What each text counts.

        Returns
        -------
        float
            Of all entities together (micro average), which are right if their words and
            their type are; or the share of words with the right tag.

        Raises
        ------
        ValueError
            A text and its tags differ in number, or a tag is none of ``scheme_``.
        """
        check_is_fitted(self)
        words, true = self._check_words(X), check_tags(y)
        self._check_lengths(words, true)
        predicted = self.predict(words)
        if self._target.scheme != "plain":
            return entity_f1_score(
                true,
                predicted,
                scheme=self._target.scheme,
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
        return self._target.classes

    @property
    def scheme_(self) -> str:
        """The scheme that the tags follow."""
        check_is_fitted(self)
        return self._target.scheme

    def _tags_of(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, Words]:
        """Return tags, words of each text, outputs and the texts themselves."""
        check_is_fitted(self)
        words = self._check_words(X)
        outputs = self._outputs(words)
        constrained = self.decode == "viterbi"
        counts = words.lengths
        codes = self._target.decode_words(outputs, counts, constrained=constrained)
        return codes, counts, outputs, words

    def _check_words(self, X: Any) -> Words:
        words: Any = self._check_texts(X)
        return words

    def _check_X(self, X: Any) -> Any:
        return X if isinstance(X, Words) else check_words(X, self.word_pattern)

    def _check_y(self, y: Any) -> np.ndarray:
        return check_tags(y)

    def _check_lengths(self, texts: Any, labels: np.ndarray) -> None:
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

    def _make_target(self, y: np.ndarray) -> Target:
        return tag_target(y, self.scheme)

    def _pooling_of(self, checkpoint: Any, target: Target) -> str:
        from .models.modules import choose_tagging

        return choose_tagging(checkpoint, list(map(str, target.classes)))

    def _encode(self, texts: Any, tokenizer: Any, limit: int) -> Any:
        from .text.encoding import SpecialTokens
        from .text.words import encode_words

        special = SpecialTokens.of(tokenizer)
        max_length = self._check_max_length(special.count(1) + 1, limit)
        return encode_words(texts, tokenizer, special, max_length=max_length)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # transform counts
        return tags


_ENTITY = ("text", "label", "start", "end", "score")
