"""Attribution by integrated gradients, for the estimators of this package."""

import importlib
from typing import Any

import numpy as np

from ._explanation import Explanation
from ._tokens import TokenTable
from ._words import TextColumns, find_words


def why_not(estimator: Any, tokens: TokenTable | None) -> Exception | None:
    """Return the error that prevents integrated gradients, or None."""
    name = type(estimator).__name__
    if not hasattr(estimator, "model_") or estimator._task.head is None:
        return ValueError(
            f"integrated gradients need a fitted classifier or regressor of this "
            f"package. Got {name}; pass method='occlusion'."
        )
    if tokens is None:
        return ValueError(
            f"the tokenizer of {name} does not tell which characters its tokens stand "
            "for; pass method='occlusion'."
        )
    try:
        importlib.import_module("captum.attr")
    except ImportError:
        return ImportError(
            "integrated gradients need captum, which is not installed: "
            "pip install 'sktransformers-text[explain]'"
        )
    try:
        estimator.model_.encoder.get_input_embeddings()
    except NotImplementedError:
        return ValueError(
            f"the input embeddings of {type(estimator.model_.module).__name__} cannot "
            "be reached; pass method='occlusion'."
        )
    return None


def explain_by_gradients(
    estimator: Any,
    data: TextColumns,
    target: Any,
    tokens: TokenTable,
    n_steps: int,
) -> list[Explanation]:
    """Return an explanation of each text by integrated gradients.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier or regressor of this package.
    data : TextColumns
        Texts.
    target : object
        See :func:`~sktransformers.inspection.explain`.
    tokens : TokenTable
        Tokens of the texts.
    n_steps : int
        Initial number of steps.

    Returns
    -------
    list of Explanation
        One for each text.
    """
    from .._hardware.devices import resolve_device
    from .._inference.attribution import GradientExplainer
    from .._inference.predict import place
    from ._occlusion import choose_target, scores_of

    scores, targets = scores_of(estimator, data.X)
    device = resolve_device(estimator.device)
    explainer = GradientExplainer(
        place(estimator.model_, device),
        estimator._task,
        device,
        baseline_id=_baseline_id(estimator.tokenizer_),
    )
    explanations = []
    for row in range(len(data)):
        column = choose_target(targets, scores[row], target)
        windows = tokens.windows_of(row)
        numbers = tokens.numbers_of(row)
        inputs = tokens.encoding.pad(windows)
        shape = inputs["input_ids"].shape
        values, score, baseline = explainer.attribute(
            inputs, (numbers >= 0).reshape(shape), column, n_steps
        )
        words = find_words(data.texts_of(row))
        index = tokens.words_of(row, words)
        sums, is_read = index.add_up(values.ravel()), index.is_read
        explanations.append(
            Explanation(
                texts=data.texts_of(row),
                target=targets[column],
                score=score,
                baseline_score=baseline,
                words=[
                    {**word, "attribution": value, "is_read": read}
                    for word, value, read in zip(
                        words, sums.tolist(), is_read.tolist(), strict=True
                    )
                ],
                tokens=_tokens(tokens, data.texts_of(row), numbers, values.ravel()),
                method="integrated_gradients",
                sample_index=row,
            )
        )
    return explanations


def _tokens(
    table: TokenTable, texts: tuple[str, ...], numbers: np.ndarray, values: np.ndarray
) -> list[dict[str, Any]]:
    """Return the tokens of a text; windows are added up."""
    totals: dict[int, float] = {}
    for number, value in zip(numbers.tolist(), values.tolist(), strict=True):
        if number >= 0:
            totals[number] = totals.get(number, 0.0) + value
    tokens = []
    for number in sorted(totals):
        column = int(table.columns[number])
        start, end = int(table.starts[number]), int(table.ends[number])
        tokens.append(
            {
                "text": texts[column][start:end],
                "column": column,
                "start": start,
                "end": end,
                "attribution": totals[number],
                "is_read": True,
            }
        )
    return tokens


def _baseline_id(tokenizer: Any) -> int:
    """Return the token id for no token."""
    # Padding is more faithful than the mask token, see the user guide.
    for name in ("pad_token_id", "mask_token_id", "unk_token_id", "eos_token_id"):
        if (token_id := getattr(tokenizer, name, None)) is not None:
            return int(token_id)
    return 0
