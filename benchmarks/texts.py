"""The texts that the benchmarks train on and predict: real ones, drawn repeatably."""

import pathlib

import numpy as np
from sklearn.model_selection import train_test_split

from sktransformers.datasets import load_docstrings

from .quality import Task, draw, load

MEDIAN_WORDS = 16
SIGMA = 1.05  # of the logarithm: with this median, a mean of 28 words
N_TEST_MIXED = 1200


def load_mixed() -> tuple:
    """Return docstrings of mixed lengths, labelled by package, as ``load`` does.

    First paragraphs are all of much the same length. Those of a package are strung
    together, and cut, to lengths drawn from a log-normal distribution, which lengths of
    real texts are close to: the median is 23 tokens, the mean 38, and one text in
    twenty has more than 129. No paragraph is in two texts.
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
    """Return a number of words."""
    return max(1, round(rng.lognormal(np.log(MEDIAN_WORDS), SIGMA)))


def load_set(folder: pathlib.Path | None, name: str) -> tuple:
    """Return the texts and labels of "mixed", "docstrings" or a folder, as ``load``."""
    if name == "mixed":
        return load_mixed()
    return load(None if name == "docstrings" else folder, name)


def task_of(data: tuple, name: str, *, size: int, n_test: int, seed: int = 0) -> dict:
    """Return the texts of a task: training texts drawn by a seed, always the same test.

    Parameters
    ----------
    data : tuple
        As ``load_set`` returns it.
    name : str
        The set's.
    size : int
        Number of training texts.
    n_test : int
        Number of test texts; all, where there are fewer.
    seed : int
        Of the draw.

    Returns
    -------
    dict
        X, y, X_test and y_test, of plain strings.
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
