"""What every check works with: an estimator, texts, and comparisons of predictions.

Knows no estimator of this package: an estimator's tags, methods and y say what it is.
"""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import get_tags

TOLERANCE = 1e-6  # of float32 numbers that should be equal
N_MANY = 200
METHODS = ("predict_proba", "decision_function", "transform", "predict")

_QUALITIES = {  # not sorted: the order of appearance must not matter
    "good": ("good", "great", "lovely", "fine", "superb"),
    "bad": ("bad", "awful"),
    "sad": ("dull", "poor", "sad"),
}
_OTHER_WORDS = (
    "film plot actor scene story music the a an of and is was very not so quite rather "
    "this that it one two"
).split()
_NUMBERS = {"bad": -1.5, "good": 2.0, "sad": 0.25}

_OWN: Any = object()

Check = Callable[["TextCase"], None]


class TextCase:
    """An estimator and the texts it is checked with.

    Parameters
    ----------
    estimator : estimator
        Never changed: the checks work on clones of it.
    texts : list of str or of list of str, default=None
        At least 12 texts, or token lists. None: 24 short texts in English.
    y : list, default=None
        Labels, numbers, lists of tags or texts. None: some that suit the estimator,
        and the texts.

    Attributes
    ----------
    kind : {"labels", "numbers", "tags", "texts", "nothing"}
        What the estimator predicts.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from text_checks import TextCase
    >>> TextCase(make_pipeline(TfidfVectorizer(), LogisticRegression())).kind
    'labels'
    """

    def __init__(self, estimator: Any, texts: Any = None, y: Any = None) -> None:
        self.estimator = estimator
        self.name = type(estimator).__name__
        self.kind = _kind_of(estimator, y)
        self.texts = make_texts(24) if texts is None else list(texts)
        self.is_tokenized = not isinstance(self.texts[0], str)
        self.y = self._make_y(self.texts) if y is None else list(y)

    def new(self) -> Any:
        """Return an unfitted clone whose every ``random_state`` is 0.

        Returns
        -------
        estimator
            To be changed at will.
        """
        estimator = clone(self.estimator)
        seeds = [
            name for name in estimator.get_params() if name.endswith("random_state")
        ]
        return estimator.set_params(**dict.fromkeys(seeds, 0))

    def fit(self, X: Any = _OWN, y: Any = _OWN, **options: Any) -> Any:
        """Return a fitted clone.

        Parameters
        ----------
        X, y : array-like
            By default the texts, and what belongs to them.
        **options : Any
            Further arguments of the estimator's ``fit``.

        Returns
        -------
        estimator
            Fitted, and to be changed at will.
        """
        X = self.texts if X is _OWN else X
        y = self.y if y is _OWN else y
        return self.new().fit(X, None if self.kind == "nothing" else y, **options)

    @functools.cached_property
    def fitted(self) -> Any:
        """A clone fitted on the texts, to be read only: the checks share it."""
        return self.fit()

    @functools.cached_property
    def expected(self) -> dict[str, list[Any]]:
        """What it predicts for the texts."""
        return predictions(self.fitted, self.texts)

    @functools.cached_property
    def many(self) -> tuple[list[Any], dict[str, list[Any]]]:
        """Texts of mixed lengths, and what it predicts for all of them at once."""
        texts = make_texts(N_MANY, seed=1, longest=40)
        X = [self.form(text) for text in texts]
        return X, predictions(self.fitted, X)

    @property
    def methods(self) -> list[str]:
        """The names of the methods that take texts."""
        return [name for name in METHODS if hasattr(self.fitted, name)]

    def calls(self) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        """Yield all that takes X: ``fit`` and the methods of a fitted estimator.

        Yields
        ------
        name : str
            Of the method.
        call : callable
            A function of X.
        """
        yield "fit", lambda X: self.fit(X, _first(self.y, X))
        for name in self.methods:
            yield name, getattr(self.fitted, name)

    def form(self, text: str) -> Any:
        """Return a text as the estimator takes it.

        Parameters
        ----------
        text : str
            Words with spaces between them.

        Returns
        -------
        str or list of str
            The words in a list, if the texts are token lists.
        """
        return text.split() if self.is_tokenized else text

    def _make_y(self, texts: list[Any]) -> list[Any]:
        """Return what suits the estimator for texts of :func:`make_texts`."""
        words = [text.split() if isinstance(text, str) else text for text in texts]
        labels = [_label_of(row) for row in words]
        match self.kind:
            case "labels":
                tags = get_tags(self.estimator).classifier_tags
                if tags is not None and not tags.multi_class:
                    return ["good" if label == "good" else "bad" for label in labels]
            case "numbers":
                pairs = zip(labels, words, strict=True)
                return [_NUMBERS[label] + 0.1 * len(row) for label, row in pairs]
            case "tags":
                return [_tags_of(row) for row in words]
            case "texts":
                return [f"very {label}" for label in labels]
        return labels


def _kind_of(estimator: Any, y: Any) -> str:
    if is_classifier(estimator):
        return "labels"
    if is_regressor(estimator):
        return "numbers"
    if y is not None:
        return "texts" if isinstance(y[0], str) else "tags"
    if hasattr(estimator, "predict_entities"):
        return "tags"
    if hasattr(estimator, "generate"):
        return "texts"
    return "labels" if get_tags(estimator).target_tags.required else "nothing"


def make_texts(n: int, *, seed: int = 0, longest: int = 12) -> list[str]:
    """Return texts of mixed lengths, each with one or two words of a quality."""
    rng = random.Random(seed)
    texts = []
    for number in range(n):
        quality = list(_QUALITIES.values())[number % len(_QUALITIES)]
        words = rng.choices(_OTHER_WORDS, k=rng.randint(1, longest - 2))
        place = rng.randint(0, len(words))
        words[place:place] = rng.choices(quality, k=rng.randint(1, 2))
        texts.append(" ".join(words))
    return texts


def _label_of(words: list[str]) -> str:
    found = (
        label
        for word in words
        for label, quality in _QUALITIES.items()
        if word in quality
    )
    return next(found, "sad")


def _tags_of(words: list[str]) -> list[str]:
    is_quality = [any(word in q for q in _QUALITIES.values()) for word in words]
    before = [False, *is_quality]
    return [
        ("I-QUALITY" if after else "B-QUALITY") if here else "O"
        for here, after in zip(is_quality, before, strict=False)
    ]


def as_objects(values: list[Any]) -> np.ndarray:
    """Return an array of one dimension, whatever the values are."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array


def as_series(values: list[Any], **options: Any) -> Any:
    """Return a pandas Series of one value a row."""
    import pandas as pd

    return pd.Series(as_objects(values), **options)


def _first(y: list[Any], X: Any) -> list[Any]:
    """Return as many targets as X has rows, so that nothing else is wrong."""
    rows = X.shape[0] if hasattr(X, "shape") and len(X.shape) else None
    n = rows if rows is not None else len(X) if hasattr(X, "__len__") else len(y)
    return (y * (n // len(y) + 1))[:n]


def rows_of(output: Any) -> list[Any]:
    """Return what a method gives for each text."""
    if sparse.issparse(output):  # and may be a million columns wide
        table = output.tocsr()
        return [table[row : row + 1] for row in range(table.shape[0])]
    if hasattr(output, "to_numpy"):
        output = output.to_numpy()
    return list(output)


def predictions(estimator: Any, X: Any) -> dict[str, list[Any]]:
    """Return what each method gives for each text."""
    found = {}
    for name in METHODS:
        if hasattr(estimator, name):
            try:
                found[name] = rows_of(getattr(estimator, name)(X))
            except Exception as error:
                raise AssertionError(
                    f"{name} raises {type(error).__name__} for texts: {error}"
                ) from error
    return found


def require(condition: Any, message: str) -> None:
    """Raise AssertionError unless the condition holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def require_equal(
    found: dict[str, list[Any]], expected: dict[str, list[Any]], when: str
) -> None:
    """Compare what methods give, row by row, floats to ``TOLERANCE``."""
    for name, rows in expected.items():
        n_found, n_expected = len(found[name]), len(rows)
        require(
            n_found == n_expected,
            f"{name} gives {n_found} rows {when}. Expected {n_expected}.",
        )
        for row, (one, other) in enumerate(zip(found[name], rows, strict=True)):
            require(
                is_close(one, other),
                f"{name} differs {when}: row {row} is {_show(one)}. Expected "
                f"{_show(other)}.",
            )


def is_close(one: Any, other: Any) -> bool:
    """Whether two predictions of a text are the same but for rounding."""
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    if sparse.issparse(one) and sparse.issparse(other):
        if one.shape != other.shape:
            return False
        return bool(abs(one - other).max() <= TOLERANCE * (1 + abs(other).max()))
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fc" and other.dtype.kind in "fc":
        return np.allclose(one, other, TOLERANCE, TOLERANCE, equal_nan=True)
    return bool((one == other).all())


def _show(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def require_error(
    what: str, call: Callable[..., Any], *arguments: Any, **named: Any
) -> Exception:
    """Require that a call raises a ValueError or TypeError, and return it."""
    try:
        call(*arguments, **named)
    except (TypeError, ValueError) as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{what} raises {type(error).__name__}, which says nothing of what is "
            f"wrong: {error}. Raise a ValueError or TypeError."
        ) from error
    raise AssertionError(f"{what} is accepted. Raise a ValueError or TypeError.")


def only_if(applies: Callable[[TextCase], bool]) -> Callable[[Check], Check]:
    """Mark a check as one that not every estimator has to pass."""

    def mark(check: Check) -> Check:
        check.applies = applies  # type: ignore[attr-defined]
        return check

    return mark


def only_for(*kinds: str) -> Callable[[Check], Check]:
    """Mark a check as one for estimators that predict such things."""
    return only_if(lambda case: case.kind in kinds)


def only_with(*methods: str) -> Callable[[Check], Check]:
    """Mark a check as one for estimators with certain methods."""
    return only_if(lambda case: all(hasattr(case.estimator, name) for name in methods))
