"""`attention_maps`: the attention weights of a text, and their display."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._estimators.base import BaseTextEstimator

_KINDS = ("self", "cross", "output")


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of a text.

    Each row of a map is a query, whose weights over the keys sum to 1: for a query the
    attention is ``softmax(q @ K.T / sqrt(d))``.

    Parameters
    ----------
    tokens : list of str
        Tokens of the text, special tokens included.
    self_attention : ndarray of shape (n_layers, n_heads, n_tokens, n_tokens)
        Self-attention of the encoder or the decoder-only model.
    output_tokens : list of str, optional
        Tokens of the output text of an encoder-decoder.
    output_attention : ndarray of shape (n_layers, n_heads, n_outputs, n_outputs)
        Self-attention of the decoder of an encoder-decoder; optional.
    cross_attention : ndarray of shape (n_layers, n_heads, n_outputs, n_tokens)
        Attention of the output tokens to the tokens of the text; optional.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransformers.inspection import AttentionMaps
    >>> maps = AttentionMaps(["a", "b"], np.full((1, 2, 2, 2), 0.5))
    >>> maps
    AttentionMaps(n_layers=1, n_heads=2, n_tokens=2)
    >>> maps.rollout()
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """

    tokens: list[str]
    self_attention: np.ndarray
    output_tokens: list[str] | None = None
    output_attention: np.ndarray | None = None
    cross_attention: np.ndarray | None = None

    def rollout(self) -> np.ndarray:
        """Combine the self-attention of all layers, with residual connections.

        Returns
        -------
        ndarray of shape (n_tokens, n_tokens)
            Row ``i``: how much the last hidden state of token ``i`` draws on each token
            of the text, according to attention rollout [1]_. Rows sum to 1.

        References
        ----------
        .. [1] Abnar and Zuidema (2020). Quantifying attention flow in transformers.
               https://arxiv.org/abs/2005.00928
        """
        total = np.eye(len(self.tokens))
        for heads in self.self_attention:
            total = (heads.mean(axis=0) + np.eye(len(total))) / 2 @ total
        return total

    def __repr__(self) -> str:
        n_layers, n_heads, n_tokens, _ = self.self_attention.shape
        outputs = ""
        if self.output_tokens is not None:
            outputs = f", n_output_tokens={len(self.output_tokens)}"
        return (
            f"AttentionMaps(n_layers={n_layers}, n_heads={n_heads}, "
            f"n_tokens={n_tokens}{outputs})"
        )


def attention_maps(
    estimator: Any, text: Any, output: str | None = None
) -> AttentionMaps:
    """Return the attention weights of a fitted estimator for one text.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of this package. It is not changed.
    text : str, pair of str, or list of str
        One text, in the form of a row of X.
    output : str, default=None
        For a generator, the output text. If None, the text that it generates.

    Returns
    -------
    AttentionMaps
        Attention weights of all layers and heads. Those of a decoder-only generator are
        over the tokens of the prompt and the output.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not an estimator of this package.
    ValueError
        If the text is longer than a window, `output` is passed for an estimator that
        generates no text, or the architecture has no attention weights.

    Examples
    --------
    >>> from sktransformers.inspection import attention_maps
    >>> maps = attention_maps(classifier, "A good film.")  # doctest: +SKIP
    >>> maps.self_attention.shape  # doctest: +SKIP
    (6, 12, 6, 6)
    """
    from .._inference.attention_weights import attention_weights

    if not isinstance(estimator, BaseTextEstimator):
        raise TypeError(
            "estimator must be one of this package, such as TransformerClassifier. Got "
            f"{type(estimator).__name__}; of a pipeline, pass the last step."
        )
    check_is_fitted(estimator)
    generates = estimator._task.head is None
    if output is not None and not generates:
        raise ValueError(
            f"output is for generators. {type(estimator).__name__} generates no text."
        )
    inputs = _inputs(estimator, text, output, generates=generates)
    found = attention_weights(estimator.model_, inputs)
    weights = found.get("attentions", found.get("encoder_attentions"))
    ids = inputs["input_ids"][0]
    if weights is None or weights.shape[-1] != len(ids):
        name = type(estimator.model_.module).__name__
        raise ValueError(f"{name} has no attention weights between all tokens.")
    to_tokens = estimator.tokenizer_.convert_ids_to_tokens
    output_ids = inputs.get("decoder_input_ids")
    return AttentionMaps(
        tokens=to_tokens(ids.tolist()),
        self_attention=weights,
        output_tokens=None if output_ids is None else to_tokens(output_ids[0].tolist()),
        output_attention=found.get("decoder_attentions"),
        cross_attention=found.get("cross_attentions"),
    )


def _inputs(
    estimator: Any, text: Any, output: str | None, *, generates: bool
) -> dict[str, np.ndarray]:
    """Return the inputs of the model for one text, as a batch of one row."""
    if generates:
        outputs = list(estimator.predict([text])) if output is None else [output]
        data = estimator._encode_training_texts(
            estimator._prompt_format,
            estimator._check_texts([text]),
            estimator._check_y(outputs),
            np.ones(1),
            estimator._length_limit,
        )
        encoding = data.encoding
    else:
        encoding = estimator._encode_fitted([text])
    if len(encoding) != 1:
        raise ValueError(
            f"The text takes {len(encoding)} windows of max_length tokens, and "
            "attention is within a window. Pass a shorter text."
        )
    inputs: dict[str, np.ndarray] = encoding.pad(np.array([0]))
    inputs.pop("positions", None)
    return inputs


class AttentionDisplay:
    """Heat map of attention weights.

    Parameters
    ----------
    maps : AttentionMaps
        Attention weights of a text.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the last `plot`.
    figure_ : matplotlib.figure.Figure
        Figure of `ax_`.
    im_ : matplotlib.image.AxesImage
        The heat map.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransformers.inspection import AttentionDisplay, AttentionMaps
    >>> maps = AttentionMaps(["a", "b"], np.full((1, 2, 2, 2), 0.5))
    >>> AttentionDisplay(maps).plot(layer=0, head=1)  # doctest: +SKIP
    """

    def __init__(self, maps: AttentionMaps) -> None:
        self.maps = maps

    @classmethod
    def from_estimator(
        cls, estimator: Any, text: Any, output: str | None = None
    ) -> Self:
        """Compute the attention weights of a text and create the display.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator of this package.
        text : str, pair of str, or list of str
            One text, in the form of a row of X.
        output : str, default=None
            For a generator, the output text. If None, the text that it generates.

        Returns
        -------
        AttentionDisplay
            Display, not drawn yet.
        """
        return cls(attention_maps(estimator, text, output))

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        cmap: str = "cividis",
    ) -> Self:
        """Draw the weights of a head, a layer, or all layers.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: a new figure.
        kind : {"self", "cross", "output"}, default=None
            Self-attention of the text, attention of the output to the text (for a
            translation, its alignment), or self-attention of the output. If None,
            "cross" where there is one, else "self".
        layer : int, default=None
            Index of the layer; negative from the last. If None, the mean of all layers,
            or, for "self", their rollout.
        head : int, default=None
            Index of the head. If None, the mean of all heads. Requires `layer`.
        cmap : str, default="cividis"
            Colour map of matplotlib.

        Returns
        -------
        AttentionDisplay
            The display, with ``ax_``, ``figure_`` and ``im_``.

        Raises
        ------
        ValueError
            If there is no attention of this kind, or no such layer or head.
        """
        from .._compat import check_matplotlib_support

        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        maps = self.maps
        kind = kind or ("self" if maps.cross_attention is None else "cross")
        weights = self._weights(kind, layer, head)
        outputs = maps.output_tokens or []
        rows = maps.tokens if kind == "self" else outputs
        columns = outputs if kind == "output" else maps.tokens
        if ax is None:
            size = 1.5 + 0.3 * len(columns), 1.5 + 0.3 * len(rows)
            _, ax = plt.subplots(figsize=size, layout="constrained")
        self.im_ = ax.imshow(weights, cmap=cmap, vmin=0.0)
        ax.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
        ax.set_yticks(range(len(rows)), rows, parse_math=False)
        ax.set(xlabel="key", ylabel="query")
        ax.figure.colorbar(self.im_, ax=ax, label="attention weight")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _weights(self, kind: str, layer: int | None, head: int | None) -> np.ndarray:
        """Return the matrix to draw."""
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}. Got {kind!r}.")
        maps = self.maps
        found = dict(
            zip(
                _KINDS,
                (maps.self_attention, maps.cross_attention, maps.output_attention),
                strict=True,
            )
        )[kind]
        if found is None:
            raise ValueError(
                f"There is no attention of kind={kind!r}: the model is not an "
                "encoder-decoder."
            )
        if layer is None:
            if head is not None:
                raise ValueError(f"head={head} requires a layer. Pass layer as well.")
            return maps.rollout() if kind == "self" else found.mean(axis=(0, 1))
        for name, value, count in (
            ("layer", layer, len(found)),
            ("head", head, found.shape[1]),
        ):
            if value is not None and not -count <= value < count:
                raise ValueError(f"{name}={value}, but the model has {count}.")
        heads = found[layer]
        return heads.mean(axis=0) if head is None else heads[head]
