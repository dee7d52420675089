"""Datasets of the benchmarks, with reproducible training samples."""

import pathlib

import numpy as np
from sklearn.model_selection import train_test_split

from sktransformers.datasets import load_docstrings

from .quality import Task, draw, load

MEDIAN_WORDS = 16
SIGMA = 1.05  # of the logarithm: with this median, a mean of 28 words
N_TEST_MIXED = 1200


def load_mixed() -> tuple:
    """Return docstrings of mixed lengths, labelled by package, like ``load``.

    First paragraphs have similar lengths. Therefore the paragraphs of a package are
    concatenated and truncated to lengths from a log-normal distribution, which
    approximates the lengths of natural texts: the median is 23 tokens, the mean 38, and
    5 % of the texts have more than 129. Each paragraph is used in one text only.
    """
    X, y = load_docstrings(max_per_package=1500, return_X_y=True)
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for package in np.unique(y):
        words: list[str] = []
        length = draw_length(rng)
        for paragraph in X[y == package]:
            words += paragraph.split()
            if len(words) >= length:
                texts.append(" ".join(words[:length]))
                labels.append(package)
                words, length = [], draw_length(rng)
    X_train, X_test, y_train, y_test = train_test_split(
        texts, np.array(labels), test_size=N_TEST_MIXED, stratify=labels, random_state=0
    )
    return X_train, y_train, X_test, y_test


def draw_length(rng: np.random.Generator) -> int:
    """Draw a number of words."""
    return max(1, round(rng.lognormal(np.log(MEDIAN_WORDS), SIGMA)))


def load_set(folder: pathlib.Path | None, name: str) -> tuple:
    """Return the data set "mixed", "docstrings" or one of a folder, like ``load``."""
    if name == "mixed":
        return load_mixed()
    return load(None if name == "docstrings" else folder, name)


def task_of(data: tuple, name: str, *, size: int, n_test: int, seed: int = 0) -> dict:
    """Return a training sample drawn with a seed, and a fixed test sample.

    Parameters
    ----------
    data : tuple
        Output of ``load_set``.
    name : str
        Name of the data set.
    size : int
        Number of training texts.
    n_test : int
        Maximum number of test texts.
    seed : int
        Seed of the training sample.

    Returns
    -------
    dict
        X, y, X_test and y_test, as lists of str.
    """
    X_train, y_train, X_test, y_test = data
    X, y = draw(X_train, y_train, Task(name, size, seed))
    tested = np.random.default_rng(0).permutation(len(X_test))[:n_test]
    return {
        "X": [str(text) for text in X],
        "y": [str(label) for label in y],
        "X_test": [str(X_test[row]) for row in tested],
        "y_test": [str(y_test[row]) for row in tested],
    }
