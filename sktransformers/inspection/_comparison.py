"""`compare_models`: which pre-trained model suits the data, before fine-tuning."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.utils.multiclass import type_of_target

from .._compat import safe_indexing
from .._estimators.classifier import TransformerClassifier
from .._estimators.regressor import TransformerRegressor
from ._words import read_text_columns

_COLUMNS = (
    *("model", "frozen_score", "frozen_std", "fine_tuned_score", "fine_tuned_texts"),
    *("seconds_per_1000", "tokens_per_text", "truncated", "unknown_tokens"),
    *("parameters", "embedding_size", "max_length", "license", "languages", "error"),
)
_SMALL = 0.02  # differences of scores that the advice calls small


def compare_models(
    models: Sequence[str],
    X: Any,
    y: Any,
    *,
    estimator: Any = None,
    cv: Any = 5,
    scoring: Any = None,
    fine_tune_seconds: float | None = None,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Compare pre-trained models on a data set before fine-tuning one of them.

    Each model embeds every text once; the score of a linear head on these frozen
    embeddings is cross-validated. It ranks models at a small part of the cost of
    fine-tuning all of them.

    Parameters
    ----------
    models : sequence of str
        Hub ids or local directories.
    X : array-like of str of shape (n_texts,), pairs or DataFrame
        Texts.
    y : array-like of shape (n_texts,) or (n_texts, n_outputs)
        Labels or numbers.
    estimator : estimator, default=None
        Unfitted estimator whose parameters to use. If None,
        ``TransformerRegressor()`` for continuous y, else ``TransformerClassifier()``.
    cv : int, cross-validation generator or iterable, default=5
        Splits, as in :func:`sklearn.model_selection.cross_val_score`.
    scoring : str or callable, default=None
        Scorer. If None, the ``score`` method: accuracy or R².
    fine_tune_seconds : float, default=None
        If set, each model is also fine-tuned, on as many texts as about this number of
        seconds allows (at least one of each class), and scored on a fifth of the texts,
        which are the same for all.
    random_state : int or None, default=0
        Seed of the estimator and of the split for fine-tuning.

    Returns
    -------
    pandas.DataFrame
        One row for each model, best first, with the columns "model", "frozen_score" and
        "frozen_std" (mean and standard deviation over the splits), "fine_tuned_score"
        and "fine_tuned_texts" (number of texts trained on), "seconds_per_1000" (to
        embed a thousand texts on this machine), "tokens_per_text", "truncated" (share
        of the texts that are longer than ``max_length``), "unknown_tokens" (share of
        the tokens), "parameters", "embedding_size", "max_length" (limit of the model in
        tokens), "license", "languages" (of the model card, if there is one) and "error"
        (why a model could not be used; such rows come last). ``frame.attrs["advice"]``
        is a sentence on the choice.

    Raises
    ------
    ValueError
        If there is no model, or X and y are invalid.

    Examples
    --------
    >>> from sktransformers.datasets import load_docstrings
    >>> from sktransformers.inspection import compare_models
    >>> X, y = load_docstrings(max_per_package=50, return_X_y=True)
    >>> models = ["sentence-transformers/all-MiniLM-L6-v2", "not-a-model"]
    >>> table = compare_models(models, X, y)  # doctest: +SKIP
    >>> table["model"].tolist()  # doctest: +SKIP
    ['sentence-transformers/all-MiniLM-L6-v2', 'not-a-model']
    """
    names = [models] if isinstance(models, str) else list(models)
    if not names:
        raise ValueError("models must name at least one model. Got none.")
    if fine_tune_seconds is not None and not fine_tune_seconds > 0:
        raise ValueError(
            f"fine_tune_seconds must be above 0 or None. Got {fine_tune_seconds!r}."
        )
    read_text_columns(X)  # an error of the data is not one of every model
    if estimator is None:
        estimator = _default_estimator(y)
    estimator = clone(estimator).set_params(random_state=random_state)
    options = {"cv": cv, "scoring": scoring, "seconds": fine_tune_seconds}
    rows = [_row(name, X, y, estimator, **options) for name in names]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    by = ["fine_tuned_score", "frozen_score"]
    frame = frame.sort_values(
        by, ascending=False, na_position="last", ignore_index=True, kind="stable"
    )
    frame.attrs["advice"] = _advice(frame)
    return frame


def _default_estimator(y: Any) -> Any:
    if type_of_target(y, input_name="y").startswith("continuous"):
        return TransformerRegressor()
    return TransformerClassifier()


def _row(
    name: str, X: Any, y: Any, estimator: Any, *, cv: Any, scoring: Any, seconds: Any
) -> dict[str, Any]:
    """Return what the table says of one model."""
    row: dict[str, Any] = {"model": name}
    frozen = clone(estimator).set_params(model=name, trainable="head")
    try:
        first = np.arange(2)
        frozen.fit(safe_indexing(X, first), safe_indexing(y, first))  # warm up
        start = time.perf_counter()
        frozen.fit(X, y)
        row["seconds_per_1000"] = 1000 * (time.perf_counter() - start) / len(X)
        scores = cross_val_score(
            clone(frozen), X, y, cv=cv, scoring=scoring, error_score="raise"
        )
    except (OSError, ValueError, ImportError, RuntimeError, NotImplementedError) as e:
        row["error"] = f"{type(e).__name__}: {e}"
        return row
    row |= {"frozen_score": scores.mean(), "frozen_std": scores.std()}
    row |= _describe_tokens(frozen, X) | _describe_model(frozen)
    if seconds is not None:
        tuned = clone(estimator).set_params(model=name)
        row |= _fine_tune(tuned, X, y, scoring, seconds, row["seconds_per_1000"])
    return row


def _describe_tokens(estimator: Any, X: Any) -> dict[str, Any]:
    encoding = estimator._encode_fitted(X)
    unknown = estimator.tokenizer_.unk_token_id
    return {
        "tokens_per_text": len(encoding.ids.values) / encoding.n_texts,
        "truncated": encoding.n_truncated / encoding.n_texts,
        "unknown_tokens": float(np.mean(encoding.ids.values == unknown)),
    }


def _describe_model(estimator: Any) -> dict[str, Any]:
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard import metadata_load

    from .._models.loading import find_checkpoint

    parameters = estimator.get_params(deep=False)
    location = [parameters[k] for k in ("model", "revision", "trust_remote_code")]
    card = Path(find_checkpoint(*location).folder, "README.md")
    data = ModelCardData(**(metadata_load(card) or {})) if card.is_file() else None
    languages = data.language if data else None
    return {
        "parameters": sum(p.numel() for p in estimator.model_.encoder.parameters()),
        "embedding_size": len(estimator.get_feature_names_out()),
        "max_length": estimator._length_limit,
        "license": data.license if data else None,
        "languages": ", ".join(np.atleast_1d(languages)) if languages else None,
    }


def _fine_tune(
    estimator: Any, X: Any, y: Any, scoring: Any, seconds: float, per_thousand: float
) -> dict[str, Any]:
    """Fine-tune on as many texts as the seconds allow; return score and number."""
    stratify = y if type_of_target(y) in ("binary", "multiclass") else None
    split: dict[str, Any] = {"random_state": estimator.random_state}
    rows = np.arange(len(y))
    train, test = train_test_split(rows, test_size=0.2, stratify=stratify, **split)
    n, least = len(train), 2 if stratify is None else len(np.unique(y))
    while n > least and _n_passes(estimator, n) * n * per_thousand / 1000 > seconds:
        n = max(n // 2, least)
    if n < len(train):
        labels = None if stratify is None else safe_indexing(y, train)
        train, _ = train_test_split(train, train_size=n, stratify=labels, **split)
    fitted = estimator.fit(safe_indexing(X, train), safe_indexing(y, train))
    scorer = check_scoring(fitted, scoring)
    score = scorer(fitted, safe_indexing(X, test), safe_indexing(y, test))
    return {"fine_tuned_score": score, "fine_tuned_texts": len(train)}


def _n_passes(estimator: Any, n: int) -> float:
    """Return the cost of a fit in forward passes over n texts.

    A training step costs three forward passes; "auto" takes ten times the square root
    of n steps, and at least three epochs.
    """
    n_epochs = estimator.max_epochs
    if n_epochs == "auto":
        n_epochs = max(3.0, 10 * n**0.5 * estimator.batch_size / n)
    return 3.0 * n_epochs


def _advice(frame: pd.DataFrame) -> str:
    """Return a sentence on the choice."""
    usable = frame[frame["error"].isna()]
    if usable.empty:
        return "None of the models could be used; see the column 'error'."
    best = usable.iloc[0]
    measure = (
        "frozen_score" if pd.isna(best["fine_tuned_score"]) else "fine_tuned_score"
    )
    advice = f"{best['model']} has the best {measure} ({best[measure]:.3f})"
    close = usable[usable[measure] > best[measure] - max(_SMALL, best["frozen_std"])]
    fastest = close.loc[close["seconds_per_1000"].idxmin()]
    if fastest["model"] != best["model"]:
        ratio = best["seconds_per_1000"] / fastest["seconds_per_1000"]
        advice += (
            f"; {fastest['model']} is within the noise of it ({fastest[measure]:.3f}) "
            f"and {ratio:.1f} times as fast"
        )
    notes = []
    if best["truncated"] > 0.1:
        notes.append(f"{best['truncated']:.0%} of the texts are truncated")
    if best["unknown_tokens"] > 0.02:
        notes.append(f"{best['unknown_tokens']:.0%} of the tokens are unknown to it")
    return advice + "".join(f"; {note}" for note in notes) + "."
