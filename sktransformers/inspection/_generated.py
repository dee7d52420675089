"""Attribution of the tokens of generated texts to the words of their source texts."""

from typing import Any

import numpy as np

from .._text.inputs import Texts, check_texts
from ..exceptions import TextValueError
from ._explanation import Explanation
from ._words import cut_out, find_words


def explain_generated(generator: Any, X: Any, target: Any) -> list[Explanation]:
    """Return an explanation of each output text, by occlusion.

    Parameters
    ----------
    generator : estimator
        Fitted generator.
    X : array-like of str of shape (n_texts,)
        Source texts.
    target : str, array-like of str of shape (n_texts,) or None
        Output texts. None: those that the generator predicts.

    Returns
    -------
    list of Explanation
        One for each text. The score is the log-probability of the output text.

    Raises
    ------
    ValueError
        If the numbers of source and output texts differ.
    TextValueError
        If a source text and its output exceed ``max_length``.
    """
    (texts,) = check_texts(X).columns
    if target is None:
        target = generator.predict(X)
    outputs = [target] * len(texts) if isinstance(target, str) else list(target)
    if len(outputs) != len(texts):
        raise ValueError(
            f"target must be one output text for each of the {len(texts)} texts. Got "
            f"{len(outputs)}."
        )
    generator._check_y(outputs)
    return [
        _explain(generator, text, output, row)
        for row, (text, output) in enumerate(zip(texts, outputs, strict=True))
    ]


def _explain(generator: Any, text: str, output: str, row: int) -> Explanation:
    words = find_words([text])
    variants = [text, *cut_out([text], words)]
    variants += [cut_out([text], [word])[0] for word in words]
    logs, ids = _log_probabilities(generator, variants, output, row)
    full, without, others = logs[0], logs[1], logs[2:]
    falls = full - others
    return Explanation(
        texts=(text,),
        target=output,
        score=float(full.sum()),
        baseline_score=float(without.sum()),
        words=[
            {**word, "attribution": float(fall.sum()), "is_read": True}
            for word, fall in zip(words, falls, strict=True)
        ],
        method="occlusion",
        sample_index=row,
        output_tokens=generator.tokenizer_.convert_ids_to_tokens(ids.tolist()),
        output_attributions=falls,
    )


def _log_probabilities(
    generator: Any, texts: list[str], output: str, row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probability of each output token for each text, and the ids."""
    from .._inference.predict import token_losses

    data = generator._encode_training_texts(
        generator._prompt_format,
        Texts([texts]),
        np.array([output] * len(texts), dtype=object),
        np.ones(len(texts)),
        generator._length_limit,
    )
    counts = data.encoding.output_counts
    if data.encoding.n_truncated or len(set(counts.tolist())) > 1:
        raise TextValueError(
            f"X[{row}] and its output text are longer than max_length tokens. Shorten "
            "them to explain the output."
        )
    model, device, precision = generator._place_language_model()
    losses = token_losses(model, data.encoding, data.targets, device, precision)
    return -losses.reshape(len(texts), -1).astype(np.float64), data.targets[: counts[0]]
