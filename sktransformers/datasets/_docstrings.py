"""`load_docstrings`: the documentation of the installed packages as data sets."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._compat import Interval, StrOptions, validate_params
from ._numpydoc import TAGS, iter_tagged_parameters
from ._sources import Docstring, iter_docstrings, stable_hash
from ._text import first_paragraph, is_prose_after_masking, mask_names

# Dependencies of sktransformers, so that they are always there.
_PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "torch", "transformers")
_NUMPYDOC_PACKAGES = ("numpy", "pandas", "scipy", "sklearn")

# Reading more than is kept lets the hash choose, so that no long file dominates, and
# leaves enough when shared texts are dropped.
_CANDIDATES = 1.5


@dataclass(frozen=True)
class _Sample:
    """An input, its target, and the name of what it documents."""

    data: Any  # str, or a tuple of tokens
    target: Any  # str, or a tuple of tags
    source: str

    @property
    def key(self) -> str:
        """What makes two samples the same: the input, whatever its capitals."""
        words = [self.data] if isinstance(self.data, str) else self.data
        return " ".join(words).casefold()


@dataclass(frozen=True)
class _Task:
    """How docstrings become samples, and what a sample's two sides are called."""

    packages: tuple[str, ...]
    samples: Callable[[str, Docstring], Iterator[_Sample]]
    feature_name: str
    target_name: str
    description: str


def _classification_samples(package: str, doc: Docstring) -> Iterator[_Sample]:
    paragraph = first_paragraph(doc.text)
    if paragraph is not None:
        text = mask_names(paragraph)
        if is_prose_after_masking(text):
            yield _Sample(text, package, doc.name)


def _tagging_samples(_package: str, doc: Docstring) -> Iterator[_Sample]:
    for tokens, tags in iter_tagged_parameters(doc.text):
        yield _Sample(tokens, tags, doc.name)


def _summarization_samples(_package: str, doc: Docstring) -> Iterator[_Sample]:
    summary = first_paragraph(doc.text)
    if summary is not None and doc.signature is not None:
        yield _Sample(doc.signature, summary, doc.name)


_TASKS = {
    "classification": _Task(
        packages=_PACKAGES,
        samples=_classification_samples,
        feature_name="text",
        target_name="package",
        description="""\
Each text is the first paragraph of a docstring; its label is the package it comes
from. Markup is stripped, white space collapsed. Names that give the answer away
(packages, their aliases, hallmark types such as DataFrame) read NAME, by a list of
words: topics, spelling and manner still tell the packages apart, and are meant to.
A text that two packages share is in neither.""",
    ),
    "tagging": _Task(
        packages=_NUMPYDOC_PACKAGES,
        samples=_tagging_samples,
        feature_name="tokens",
        target_name="tags",
        description="""\
Each sample is a parameter as numpydoc writes it, `name : type, default=value`, and
the first sentence of its description, cut into tokens. The BIO tags (NAME, TYPE,
DEFAULT) follow from the structure of the line, not from human annotation; the
description is tagged O. Lines whose structure leaves a doubt are left out.""",
    ),
    "summarization": _Task(
        packages=_PACKAGES,
        samples=_summarization_samples,
        feature_name="signature",
        target_name="summary",
        description="""\
Each input is the signature of a function or method, its target the first paragraph
of the docstring, with markup stripped. Nothing is masked. A signature says only part
of what its summary says, so no model can be right all the time.""",
    ),
}


@validate_params(
    {
        "task": [StrOptions(set(_TASKS))],
        "packages": [list, tuple, None],
        "max_per_package": [Interval(Integral, 1, None, closed="left"), None],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_docstrings(
    *,
    task: str = "classification",
    packages: list[str] | tuple[str, ...] | None = None,
    max_per_package: int | None = 400,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load the docstrings of the installed scientific packages as a data set.

    The packages that sktransformers itself depends on are found, not imported, and
    their sources are read: real English text with real labels, with no download and
    nothing written to disk. The samples depend on the installed versions; with the
    same versions they are the same, in the same order. They come shuffled, so that
    the first n are a random sample. What was read is kept in memory for the next
    call.

    Parameters
    ----------
    task : {"classification", "tagging", "summarization"}, default="classification"
        What is to be learnt:

        - "classification": the first paragraph of a docstring, with telling names
          masked as ``NAME``; the target is the package it comes from.
        - "tagging": the tokens of a numpydoc parameter line and the first sentence
          of its description; the target is a BIO tag (``NAME``, ``TYPE``,
          ``DEFAULT``) for each token.
        - "summarization": the signature of a function; the target is the first
          paragraph of its docstring.

    packages : list of str or None, default=None
        The packages to read, by their import names: among "numpy", "pandas",
        "scipy", "sklearn", "torch" and "transformers"; for tagging among the first
        four, which write numpydoc. None takes all of them.
    max_per_package : int or None, default=400
        How many samples to keep of each package, where it has that many. More take
        longer to read; None takes all there are, which takes half a minute.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects. `data` is a Series, not a frame of one column, over
        which text vectorizers would iterate by column name.

    Returns
    -------
    docstrings : :class:`~sklearn.utils.Bunch`
        Dictionary-like, with these attributes:

        data : ndarray of str objects of shape (n_samples,), list of lists, or Series
            The texts or signatures; for tagging, a list of tokens for each sample.
        target : ndarray of str objects of shape (n_samples,), list of lists, or Series
            The packages or summaries; for tagging, a list of tags for each sample.
        feature_names : list of str
            What a sample is: ``["text"]``, ``["tokens"]`` or ``["signature"]``.
        target_names : list of str
            The packages, or the tags, or ``["summary"]``.
        source : ndarray of str objects of shape (n_samples,), or Series
            The dotted name of what each sample documents. It begins with the
            package, so it is no input to learn from.
        frame : DataFrame of shape (n_samples, 2) or None
            Data and target side by side; only with ``as_frame=True``.
        DESCR : str
            A description of the data set.

    (data, target) : tuple if ``return_X_y`` is True
        The two attributes alone.

    Raises
    ------
    InvalidParameterError
        If an argument has a wrong type or value (a ValueError and a TypeError).
    ValueError
        If `packages` is empty or names a package that the task cannot use.
    ModuleNotFoundError
        If one of the packages is not installed.

    See Also
    --------
    sklearn.datasets.fetch_20newsgroups : Longer texts, which must be downloaded.

    Examples
    --------
    >>> from sktransformers.datasets import load_docstrings
    >>> docstrings = load_docstrings(packages=["numpy", "pandas"], max_per_package=50)
    >>> docstrings.target_names
    ['numpy', 'pandas']
    >>> len(docstrings.data), len(docstrings.target)
    (100, 100)
    """
    chosen = _check_packages(packages, task)
    samples = _select(task, chosen, max_per_package)
    bunch = _make_bunch(task, chosen, samples, as_frame=as_frame)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _check_packages(
    packages: list[str] | tuple[str, ...] | None, task: str
) -> tuple[str, ...]:
    """Return the packages to read, sorted, so that their order does not matter."""
    usable = _TASKS[task].packages
    if packages is None:
        return usable
    if not packages:
        raise ValueError(
            "packages must name at least one package, or be None for all of "
            f"{list(usable)}. Got {packages!r} instead."
        )
    unusable = [package for package in packages if package not in usable]
    if unusable:
        raise ValueError(
            f"packages must be among {list(usable)} for task={task!r}. Got "
            f"{', '.join(map(repr, unusable))} instead; leave it out."
        )
    return tuple(sorted(set(packages)))


@lru_cache(maxsize=8)
def _select(
    task: str, packages: tuple[str, ...], max_per_package: int | None
) -> tuple[_Sample, ...]:
    """Read the packages and keep the samples with the lowest hashes of each."""
    pools = [_read_samples(task, package, max_per_package) for package in packages]
    # Which of two packages a shared text belongs to, nobody can tell.
    n_packages = Counter(key for pool in pools for key in pool)
    kept: list[_Sample] = []
    for pool in pools:
        unshared = (key for key in pool if n_packages[key] == 1)
        kept += [pool[key] for key in sorted(unshared, key=stable_hash)][
            :max_per_package
        ]
    return tuple(sorted(kept, key=lambda sample: stable_hash(sample.key)))


def _read_samples(
    task: str, package: str, max_per_package: int | None
) -> dict[str, _Sample]:
    """Return the distinct samples of a package by key, more than will be kept."""
    pool: dict[str, _Sample] = {}
    for docstring in iter_docstrings(package):
        for sample in _TASKS[task].samples(package, docstring):
            pool.setdefault(sample.key, sample)
        if max_per_package is not None and len(pool) >= _CANDIDATES * max_per_package:
            break
    return pool


def _make_bunch(
    task: str,
    packages: tuple[str, ...],
    samples: tuple[_Sample, ...],
    *,
    as_frame: bool,
) -> Bunch:
    """Build fresh containers, so that a user's changes never reach the cache."""
    feature_name, target_name = _TASKS[task].feature_name, _TASKS[task].target_name
    if task == "tagging":
        data: Any = [list(sample.data) for sample in samples]
        target: Any = [list(sample.target) for sample in samples]
        target_names = list(TAGS)
    else:
        data = np.array([sample.data for sample in samples], dtype=object)
        target = np.array([sample.target for sample in samples], dtype=object)
        target_names = list(packages) if task == "classification" else [target_name]
    source: Any = np.array([sample.source for sample in samples], dtype=object)
    frame = None
    if as_frame:
        import pandas as pd  # here, since most calls do without

        frame = pd.DataFrame({feature_name: data, target_name: target})
        data, target = frame[feature_name], frame[target_name]
        source = pd.Series(source, name="source")
    return Bunch(
        data=data,
        target=target,
        feature_names=[feature_name],
        target_names=target_names,
        source=source,
        frame=frame,
        DESCR=_describe(task, packages, len(samples)),
    )


def _describe(task: str, packages: tuple[str, ...], n_samples: int) -> str:
    return f"""\
Docstrings of scientific Python packages: {task}

{n_samples} samples from the installed {", ".join(packages)}.

{_TASKS[task].description}

The text was written by the packages' authors, under the packages' own licences, and
is read from the sources on this machine. It changes with the installed versions: a
figure measured on it should name them.
"""
